import { Injectable } from '@nestjs/common';
import { personOf } from '../messages/persons.js';
import { type SessionChats, Refused } from '../whatsapp/session-chats.js';
import type { PagePerson } from '../whatsapp/in-page/page-functions.js';
import type { AddedMember, PageGroup } from '../whatsapp/in-page/page-groups.js';
import type {
  GroupResponse,
  InviteResponse,
  ParticipantResult,
  ParticipantStatus,
  UpdateGroupDto,
} from './groups.dto.js';
import type { Participant, ParticipantChange } from './session-calls.js';
import { GroupNotFound, GroupRefused, InviteInvalid, NotGroupAdmin, NotInGroup } from './chat-errors.js';
import { iso } from './chat-persons.js';

/** WhatsApp's codes for the result of adding a participant. */
const addStatuses: Record<number, ParticipantStatus> = {
  200: 'done',
  403: 'needs_invite',
  404: 'not_registered',
  408: 'recently_left',
  409: 'already_member',
  417: 'needs_invite',
  419: 'group_full',
};

/** WhatsApp's codes for an invalid invite. */
const invalidInviteCodes = new Set([401, 403, 404, 406, 410]);

/** Reads and administers groups through the page of an account. It checks the rights of the account in the page before a change. */
@Injectable()
export class GroupOperations {
  /** @throws GroupNotFound */
  async read(chats: SessionChats, groupId: string, withInvite: boolean): Promise<GroupResponse> {
    return toGroupResponse(await this.find(chats, groupId, withInvite));
  }

  /** @throws GroupRefused if the group was not created. After any other error, the group may exist. */
  async create(
    chats: SessionChats,
    subject: string,
    participants: Participant[],
  ): Promise<{ group: GroupResponse; results: ParticipantResult[] }> {
    const persons = await this.personsOf(chats, participants);
    const created = await chats.createGroup(subject, numbersOf(persons));
    if (created instanceof Refused) throw new GroupRefused('make the group', created.status);
    const group = await chats.newGroup(created.groupId);
    // By now WhatsApp has sent more ids of the participants.
    const known = await this.personsOf(chats, participants);
    const codes = codesOf(created.members);
    return { group: toGroupResponse(group), results: known.map((person) => addResultOf(person, codes)) };
  }

  /** @throws GroupNotFound, NotInGroup, NotGroupAdmin, GroupRefused */
  async update(chats: SessionChats, groupId: string, changes: UpdateGroupDto): Promise<GroupResponse> {
    const { isAdmin, infoAdminsOnly } = await this.member(chats, groupId);
    const { subject, description, ...settings } = changes;
    const changesInfo = subject !== undefined || description !== undefined;
    const changesSettings = Object.values(settings).some((value) => value !== undefined);
    if (!isAdmin && (changesSettings || (changesInfo && infoAdminsOnly))) throw new NotGroupAdmin();
    if (!(await chats.changeGroup(groupId, changes))) throw new GroupRefused('change the group');
    return this.read(chats, groupId, true);
  }

  /** @throws GroupNotFound, NotInGroup, NotGroupAdmin, GroupRefused */
  async changeParticipants(
    chats: SessionChats,
    groupId: string,
    change: ParticipantChange,
    participants: Participant[],
  ): Promise<ParticipantResult[]> {
    const before = await this.member(chats, groupId);
    if (!before.isAdmin) throw new NotGroupAdmin();
    const persons = await this.personsOf(chats, participants);
    if (change === 'add') {
      const ids = numbersOf(persons.filter((person) => !memberOf(before, person)));
      const members = ids.length === 0 ? [] : await chats.addMembers(groupId, ids);
      if (!members) throw new NotGroupAdmin();
      const codes = codesOf(members);
      const known = await this.personsOf(chats, participants);
      return known.map((person) =>
        memberOf(before, person) ? resultOf(person, 'already_member') : addResultOf(person, codes),
      );
    }
    const inside = persons.filter((person) => memberOf(before, person));
    const ids = [...new Set(inside.map((person) => memberOf(before, person)!.chatId))];
    if (ids.length > 0 && !(await chats.changeMembers(groupId, change, ids)))
      throw new GroupRefused(`${change} the participants`);
    const after = await this.find(chats, groupId);
    return persons.map((person) => {
      if (!inside.includes(person)) return resultOf(person, 'not_member');
      const member = memberOf(after, person);
      const isDone = change === 'remove' ? !member : member?.isAdmin === (change === 'promote');
      return resultOf(person, isDone ? 'done' : 'failed');
    });
  }

  /** @throws GroupNotFound, NotInGroup, NotGroupAdmin, GroupRefused */
  async invite(chats: SessionChats, groupId: string, reset: boolean): Promise<InviteResponse> {
    const group = await this.member(chats, groupId, !reset);
    if (!group.isAdmin) throw new NotGroupAdmin();
    const code = reset ? await chats.resetInvite(groupId) : group.inviteCode;
    if (code === null || code instanceof Refused) throw new GroupRefused('give an invite', code?.status);
    return { code, link: `https://chat.whatsapp.com/${code}` };
  }

  /** @throws InviteInvalid, GroupRefused */
  async join(chats: SessionChats, code: string): Promise<GroupResponse> {
    const joined = await chats.join(code);
    if (!(joined instanceof Refused)) return toGroupResponse(await chats.newGroup(joined));
    if (invalidInviteCodes.has(joined.status)) throw new InviteInvalid();
    throw new GroupRefused('let the account into the group', joined.status);
  }

  /** @throws GroupNotFound, NotInGroup, GroupRefused */
  async leave(chats: SessionChats, groupId: string): Promise<void> {
    await this.member(chats, groupId);
    if (!(await chats.leave(groupId))) throw new GroupRefused('leave the group');
  }

  private async member(chats: SessionChats, groupId: string, withInvite = false): Promise<PageGroup> {
    const group = await this.find(chats, groupId, withInvite);
    if (!group.isMember) throw new NotInGroup(groupId);
    return group;
  }

  private async find(chats: SessionChats, groupId: string, withInvite = false): Promise<PageGroup> {
    const group = await chats.group(groupId, withInvite);
    if (!group) throw new GroupNotFound(groupId);
    return group;
  }

  private async personsOf(chats: SessionChats, participants: Participant[]): Promise<KnownParticipant[]> {
    const known = await chats.aliases(participants.map(({ chatId }) => chatId));
    return participants.map(({ given }, i) => {
      const person = known[i]!;
      const ids = [person.chatId, person.alias];
      return { ...person, given, numberId: ids.find((id) => id?.endsWith('@c.us')) ?? null };
    });
  }
}

/** A participant with the ids that the page knows. */
interface KnownParticipant extends PagePerson {
  given: string;
  /** The chat id with the number; null if the number is hidden. Only a number can be added to a group. */
  numberId: string | null;
}

function memberOf(
  group: PageGroup,
  { chatId, alias }: PagePerson,
): PageGroup['participants'][number] | undefined {
  return group.participants.find(
    (other) =>
      other.chatId === chatId ||
      other.chatId === alias ||
      (other.alias !== null && (other.alias === chatId || other.alias === alias)),
  );
}

/** The numbers without duplicates: the caller may have named a person by number and by LID. */
function numbersOf(persons: KnownParticipant[]): string[] {
  return [...new Set(persons.map(({ numberId }) => numberId).filter((id) => id !== null))];
}

function codesOf(members: AddedMember[]): Map<string, number> {
  return new Map(members.map(({ id, code }) => [id, code]));
}

function addResultOf(person: KnownParticipant, codes: Map<string, number>): ParticipantResult {
  // A person with a hidden number cannot be added, but can join with an invite.
  if (person.numberId === null) return resultOf(person, 'needs_invite');
  const code = codes.get(person.numberId);
  return resultOf(person, (code !== undefined && addStatuses[code]) || 'failed');
}

function resultOf(person: KnownParticipant, status: ParticipantStatus): ParticipantResult {
  return { participant: person.given, ...personOf(person), status };
}

function toGroupResponse({ creation, owner, participants, ...group }: PageGroup): GroupResponse {
  return {
    ...group,
    owner: owner && personOf(owner),
    createdAt: creation === null ? null : iso(creation),
    participants: participants.map(({ isAdmin, isSuperAdmin, ...person }) => ({
      ...personOf(person),
      isAdmin,
      isSuperAdmin,
    })),
  };
}
