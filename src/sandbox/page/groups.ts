import type {
  GroupAction,
  GroupEvent,
  GroupMember,
  GroupResult,
  GroupState,
  JoinRequest,
} from '../wire/frames.js';
import { Collection, type IdLike, Model, type ModelWith, textOf } from './events.js';
import { createWid, lidOfPhone, phoneOfWid, type Wid, widOfPhone, type WidLike } from './ids.js';
import type { Link } from './link.js';
import type { Messages } from './messages.js';
import type { Account, Chat, Collections } from './models.js';

/** The settings of a group that WhatsApp gives as numbers, as the wire has them. */
const SETTINGS = {
  announcement: (value: number) => ({ announce: value === 1 }),
  restrict: (value: number) => ({ restrict: value === 1 }),
  member_add_mode: (value: number) => ({ adminsAdd: value === 0 }),
  membership_approval_mode: (value: number) => ({ approval: value === 1 }),
};

export type GroupProperty = keyof typeof SETTINGS;

/** What WhatsApp Web throws when the server says no. */
export class ServerStatusCodeError extends Error {
  declare readonly status: number;

  constructor(status: number) {
    super(`server responded with ${status}`);
    this.name = 'ServerStatusCodeError';
    this.status = status;
  }
}

interface ParticipantAttributes {
  id: Wid;
  isAdmin: boolean;
  isSuperAdmin: boolean;
}

/** Somebody in a group; WhatsApp's groups name their members by LID. */
class Participant extends (Model as ModelWith<ParticipantAttributes>) {
  constructor({ lid, role }: GroupMember) {
    super({
      id: createWid(`${lid}@lid`),
      isAdmin: role !== 'member',
      isSuperAdmin: role === 'superadmin',
    });
  }
}

class Participants extends Collection<Participant> {
  #me: () => Wid;

  constructor(me: () => Wid) {
    super(Infinity);
    this.#me = me;
  }

  iAmMember(): boolean {
    return this.get(this.#me()) !== undefined;
  }

  iAmAdmin(): boolean {
    return this.get(this.#me())?.isAdmin === true;
  }

  serialize(): object[] {
    return this.getModelsArray().map((participant) => participant.serialize());
  }
}

interface GroupAttributes {
  id: Wid;
  isLidAddressingMode: boolean;
  version?: number;
  subject?: string;
  owner?: Wid;
  /** Seconds since 1970. */
  creation?: number;
  desc?: string | undefined;
  descId?: string | undefined;
  announce?: boolean;
  restrict?: boolean;
  memberAddMode?: 'admin_add' | 'all_member_add';
  ephemeralDuration?: number;
  membershipApprovalMode?: boolean;
  size?: number;
  isReadOnly?: boolean;
}

export class GroupMetadata extends (Model as ModelWith<GroupAttributes>) {
  declare readonly participants: Participants;
  /** As the group was when it was queried last. */
  declare readonly membershipApprovalRequests: { _models: { id: Wid }[] };

  constructor(wid: Wid, me: () => Wid) {
    super({ id: wid, isLidAddressingMode: true });
    Object.defineProperty(this, 'participants', { value: new Participants(me), enumerable: false });
    Object.defineProperty(this, 'membershipApprovalRequests', { value: { _models: [] }, enumerable: false });
  }

  override serialize(): object {
    return { ...this, participants: this.participants.serialize() };
  }
}

type GroupSettings = Extract<GroupAction, { kind: 'set' }>['settings'];

/** What whatsapp-web.js gives to create a group. */
export interface NewGroup {
  title: string;
  announce?: boolean;
  restrict?: boolean;
  /** Only admins may add members. */
  memberAddMode?: boolean;
  membershipApprovalMode?: boolean;
  /** How long messages stay, in seconds; 0 for ever. */
  ephemeralDuration?: number;
}

/** What whatsapp-web.js gives to add members to a group. */
export interface AddCall {
  iqTo: WidLike;
  participantArgs: { participantJid: WidLike }[];
}

/** The groups that this account is in, as the server told of them, and what can be done to them. */
export class Groups {
  #link: Link;
  #account: Account;
  #messages: Messages;
  #collections!: Collections;

  constructor({ link, account, messages }: { link: Link; account: Account; messages: Messages }) {
    this.#link = link;
    this.#account = account;
    this.#messages = messages;
  }

  attach(collections: Collections): void {
    this.#collections = collections;
    for (const name of ['GroupMetadata', 'WAWebGroupMetadataCollection'] as const) {
      collections[name].update = (id) => this.#update(textOf(id));
      collections[name].find = async (id) => (await this.query(textOf(id)), this.#metadataOf(id));
      collections[name].get = (id) => this.#metadataOf(id);
    }
  }

  /** All groups of the account, as they are at this moment. */
  replaceAll(states: GroupState[]): void {
    const present = new Set(states.map(({ id }) => id));
    for (const chat of this.#collections.Chat.filter(({ id }) => id.isGroup())) {
      // The members stay as they were: only the chat shows that the account is out.
      if (!present.has(chat.id._serialized)) this.#markLeft(chat);
    }
    for (const state of states) this.#apply(state);
  }

  /** Takes in a change of a group: its new state, and the line that the chat shows about the change. */
  receive({ id, chat, group, by, change, whom, body, t }: GroupEvent): void {
    this.#apply(group);
    const { metadata } = this.#chatOf(group);
    if (!metadata.participants.iAmMember()) this.#markLeft(this.#chatOf(group).chat);
    this.#messages.addNotice({
      chat: createWid(chat),
      id,
      by: lidOfPhone(by),
      change,
      whom: whom.map((phone) => lidOfPhone(phone)._serialized),
      body,
      t,
    });
  }

  /** Asks the server how the group is now. */
  async query(id: WidLike): Promise<void> {
    const { group } = await this.#do({ kind: 'query', group: createWid(id)._serialized });
    this.#apply(group);
    await this.#refreshRequests(this.#metadataOf(id)!);
  }

  /**
   * What the real page calls an update: it asks the server only if it knows no members yet, and it does not fail if the server
   * refuses, for example because the account has left the group.
   */
  async #update(id: WidLike): Promise<GroupMetadata | undefined> {
    const wid = createWid(id);
    if (!wid.isGroup()) throw new Error(`called update with ${wid}, which is no group`);
    const known = this.#metadataOf(wid);
    if (known && known.participants.length > 0) return known;
    try {
      await this.query(wid);
    } catch (error) {
      if (!(error instanceof ServerStatusCodeError)) throw error;
    }
    return this.#metadataOf(wid);
  }

  async create(
    { title, announce, restrict, memberAddMode, membershipApprovalMode, ephemeralDuration = 0 }: NewGroup,
    participants: { phoneNumber: Wid }[],
  ) {
    const phones = participants.map(({ phoneNumber }) => phoneOfWid(phoneNumber));
    const settings = {
      announce: Boolean(announce),
      restrict: Boolean(restrict),
      adminsAdd: Boolean(memberAddMode),
      approval: Boolean(membershipApprovalMode),
      ephemeralSeconds: ephemeralDuration,
    };
    const { group, members } = await this.#do({ kind: 'create', subject: title, phones, settings });
    this.#apply(group);
    return {
      wid: createWid(group.id),
      subject: group.subject,
      participants: [
        { wid: lidOfPhone(this.#account.me!.user), type: 'superadmin' },
        ...members.map(({ phone, status, inviteCode, inviteExpiresAt }) => ({
          wid: widOfPhone(phone),
          ...(status === 200 ? {} : { error: status }),
          ...(inviteCode ? { invite_code: inviteCode, invite_code_exp: inviteExpiresAt } : {}),
        })),
      ],
    };
  }

  /** Adds members. The answer looks like that of the remote call of WhatsApp Web. */
  async add({ iqTo, participantArgs }: AddCall) {
    const phones = participantArgs.map(({ participantJid }) => phoneOfWid(createWid(participantJid)));
    const result = await this.#link.ask('group', {
      group: { kind: 'add', group: createWid(iqTo)._serialized, phones },
    });
    if (result.status !== 200) {
      const errorAddParticipantsClientErrors = { value: { code: String(result.status) } };
      return { name: 'AddParticipantsResponseClientError', value: { errorAddParticipantsClientErrors } };
    }
    const addParticipant = result.members!.map((member) => ({
      addParticipantsParticipantAddedOrNonRegisteredWaUserParticipantErrorLidResponseMixinGroup: {
        value: { addParticipantsParticipantMixins: mixinOf(member) },
      },
    }));
    return { name: 'AddParticipantsResponseSuccess', value: { addParticipant } };
  }

  async change(
    kind: 'remove' | 'promote' | 'demote',
    chat: Chat,
    participants: { id: Wid }[],
  ): Promise<void> {
    const phones = participants.map(({ id }) => phoneOfWid(id));
    await this.#do({ kind, group: chat.id._serialized, phones });
  }

  async set(wid: Wid, settings: GroupSettings): Promise<void> {
    await this.#do({ kind: 'set', group: wid._serialized, settings });
  }

  async setProperty(chat: Chat, property: GroupProperty, value: number): Promise<void> {
    await this.set(chat.id, SETTINGS[property](value));
  }

  async invite(id: WidLike, kind: 'invite' | 'reset-invite'): Promise<{ code: string | undefined }> {
    const { invite } = await this.#do({ kind, group: createWid(id)._serialized });
    return { code: invite };
  }

  async join(code: string): Promise<{ gid: Wid }> {
    const { group, isPending } = await this.#do({ kind: 'join', code });
    if (!isPending) this.#apply(group);
    return { gid: createWid(group.id) };
  }

  /** What somebody with the invite code may know of the group before joining. */
  async look(code: string): Promise<object> {
    const { group } = await this.#do({ kind: 'look', code });
    return {
      id: createWid(group.id),
      ...attributesOf(group),
      participants: group.members.map((member) => new Participant(member).serialize()),
      isLidAddressingMode: true,
    };
  }

  /** Joins by an invite that was made for this account. */
  async acceptInvite(id: WidLike, code: string): Promise<{ gid: Wid }> {
    const { group } = await this.#do({ kind: 'accept-invite', group: createWid(id)._serialized, code });
    this.#apply(group);
    return { gid: createWid(group.id) };
  }

  async leave(chat: Chat): Promise<void> {
    await this.#do({ kind: 'leave', group: chat.id._serialized });
  }

  /** Who asks to join a group; only admins get to know. */
  async requestsOf(id: WidLike): Promise<JoinRequest[]> {
    return (await this.#do({ kind: 'requests', group: createWid(id)._serialized })).requests;
  }

  /** @returns WhatsApp's status for each phone */
  async decide(kind: 'approve' | 'reject', id: WidLike, phones: string[]) {
    return (await this.#do({ kind, group: createWid(id)._serialized, phones })).members;
  }

  async #refreshRequests(metadata: GroupMetadata): Promise<void> {
    const { id, participants, membershipApprovalRequests: list } = metadata;
    const isAsked = metadata.membershipApprovalMode && participants.iAmAdmin();
    const requests = isAsked ? await this.requestsOf(id) : [];
    list._models = requests.map(({ phone }) => ({ id: lidOfPhone(phone) }));
  }

  async #do(deed: GroupAction): Promise<Required<GroupResult>> {
    const result = await this.#link.ask('group', { group: deed });
    if (result.status !== 200) throw new ServerStatusCodeError(result.status);
    // A deed that succeeds has the result that its caller reads.
    return result as Required<GroupResult>;
  }

  #metadataOf(id: IdLike | undefined): GroupMetadata | undefined {
    return this.#collections.Chat.get(createWid(textOf(id)))?.groupMetadata;
  }

  #chatOf({ id, subject }: GroupState): { chat: Chat; metadata: GroupMetadata } {
    const chat = this.#messages.groupChat(createWid(id), subject);
    if (!chat.groupMetadata) {
      const metadata = new GroupMetadata(chat.id, () => lidOfPhone(this.#account.me!.user));
      Object.defineProperty(chat, 'groupMetadata', { value: metadata, enumerable: false });
    }
    return { chat, metadata: chat.groupMetadata! };
  }

  /** Takes in the state of a group, unless a newer one is known: events may come late. */
  #apply(state: GroupState): void {
    const { chat, metadata } = this.#chatOf(state);
    if ((metadata.version ?? 0) >= state.version) return;
    const { participants } = metadata;
    const members = new Set(state.members.map(({ lid }) => `${lid}@lid`));
    for (const participant of participants.getModelsArray()) {
      if (!members.has(participant.id._serialized)) participants.remove(participant);
    }
    for (const member of state.members) {
      participants.add(new Participant(member));
      if (!member.hidden) this.#messages.meet(member.phone, member.name);
    }
    chat.set({ name: state.subject, formattedTitle: state.subject, isReadOnly: false });
    metadata.set({ version: state.version, ...attributesOf(state), isReadOnly: false });
  }

  #markLeft(chat: Chat): void {
    chat.set({ isReadOnly: true });
    chat.groupMetadata?.set({ isReadOnly: true });
  }
}

/** What WhatsApp Web holds of a group, besides its members. */
function attributesOf(state: GroupState): Omit<GroupAttributes, 'id' | 'isLidAddressingMode'> {
  return {
    subject: state.subject,
    owner: lidOfPhone(state.owner),
    creation: Math.floor(Date.parse(state.createdAt) / 1000),
    desc: state.description || undefined,
    descId: state.descriptionId || undefined,
    announce: state.announce,
    restrict: state.restrict,
    memberAddMode: state.adminsAdd ? 'admin_add' : 'all_member_add',
    ephemeralDuration: state.ephemeralSeconds ?? 0,
    membershipApprovalMode: state.approval ?? false,
    size: state.members.length,
  };
}

function mixinOf({
  status,
  inviteCode,
  inviteExpiresAt,
}: NonNullable<GroupResult['members']>[number]): object | undefined {
  if (status === 200) return undefined;
  const name = status === 403 ? 'ParticipantRequestCodeCanBeSent' : 'ParticipantError';
  const request = inviteCode ? { addRequestCode: inviteCode, addRequestExpiration: inviteExpiresAt } : {};
  return { name, value: { error: String(status), ...request } };
}
