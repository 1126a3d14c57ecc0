import { Injectable } from '@nestjs/common';
import { parseRecipient } from '../messages/recipient.js';
import { RecipientIds } from '../messages/recipient-ids.service.js';
import type { Page } from '../platform/http/pagination.js';
import { RemoteSession, pageAfter } from './remote-session.js';
import type { PageListQuery } from './chats.dto.js';
import type {
  CreatedGroupResponse,
  CreateGroupDto,
  GroupResponse,
  GroupSummary,
  InviteResponse,
  ParticipantsResponse,
  UpdateGroupDto,
} from './groups.dto.js';
import type { Participant, ParticipantChange } from './session-calls.js';

/** The groups of an account's WhatsApp. Every call throws as {@link RemoteSession.call} does. */
@Injectable()
export class GroupsService {
  constructor(
    private readonly session: RemoteSession,
    private readonly recipients: RecipientIds,
  ) {}

  /** The groups, in the order of their ids. */
  list(
    workspaceId: string,
    accountId: string,
    { limit, cursor }: PageListQuery,
  ): Promise<Page<GroupSummary>> {
    return pageAfter(cursor, (after) =>
      this.session.call(workspaceId, accountId, 'groups', { limit, after }),
    );
  }

  /** @param withInvite whether to read the invite, which only owners may see @throws GroupNotFound */
  get(workspaceId: string, accountId: string, groupId: string, withInvite: boolean): Promise<GroupResponse> {
    return this.session.call(workspaceId, accountId, 'group', { groupId, withInvite });
  }

  /** Creates a group. The answer names the participants that could not be added. @throws GroupRefused */
  async create(
    workspaceId: string,
    accountId: string,
    { subject, participants }: CreateGroupDto,
  ): Promise<CreatedGroupResponse> {
    const { group, results } = await this.session.call(workspaceId, accountId, 'createGroup', {
      subject: subject.trim(),
      participants: await this.participantsOf(accountId, participants),
    });
    return { ...group, results };
  }

  /** @throws GroupNotFound, NotInGroup, NotGroupAdmin, GroupRefused */
  update(
    workspaceId: string,
    accountId: string,
    groupId: string,
    { subject, ...rest }: UpdateGroupDto,
  ): Promise<GroupResponse> {
    const changes = subject === undefined ? rest : { subject: subject.trim(), ...rest };
    return this.session.call(workspaceId, accountId, 'updateGroup', { groupId, changes });
  }

  /** @throws GroupNotFound, NotInGroup, NotGroupAdmin, GroupRefused */
  async changeParticipants(
    workspaceId: string,
    accountId: string,
    groupId: string,
    change: ParticipantChange,
    participants: string[],
  ): Promise<ParticipantsResponse> {
    const ask = { groupId, change, participants: await this.participantsOf(accountId, participants) };
    return { items: await this.session.call(workspaceId, accountId, 'changeParticipants', ask) };
  }

  /** Reads the invite, or resets it. @throws GroupNotFound, NotInGroup, NotGroupAdmin, GroupRefused */
  invite(workspaceId: string, accountId: string, groupId: string, reset: boolean): Promise<InviteResponse> {
    return this.session.call(workspaceId, accountId, 'invite', { groupId, reset });
  }

  /** @param code the code of an invite, or its link @throws InviteInvalid, GroupRefused */
  join(workspaceId: string, accountId: string, code: string): Promise<GroupResponse> {
    return this.session.call(workspaceId, accountId, 'join', { code: code.split('/').at(-1)! });
  }

  /** @throws GroupNotFound, NotInGroup, GroupRefused */
  leave(workspaceId: string, accountId: string, groupId: string): Promise<void> {
    return this.session.call(workspaceId, accountId, 'leave', { groupId });
  }

  /** Each person once, however often and in however many forms the caller names the person. */
  private async participantsOf(accountId: string, given: string[]): Promise<Participant[]> {
    const written = given.map((text) => parseRecipient(text)!.chatId);
    const ids = await this.recipients.idsOf(accountId, written);
    const unique = new Map<string, Participant>();
    for (const [index, chatId] of ids.entries())
      if (!unique.has(chatId)) unique.set(chatId, { given: given[index]!, chatId });
    return [...unique.values()];
  }
}
