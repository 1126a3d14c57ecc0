import { Collection, Model } from './events.js';
import { createWid, lidOfPhone, phoneOfWid, widOfPhone } from './ids.js';

/** WhatsApp's own numbers for the settings of a group, and ours. */
const SETTINGS = {
  announcement: (value) => ({ announce: value === 1 }),
  restrict: (value) => ({ restrict: value === 1 }),
  member_add_mode: (value) => ({ adminsAdd: value === 0 }),
};

/** What WhatsApp Web throws when the server says no. */
class ServerStatusCodeError extends Error {
  constructor(status) {
    super(`server responded with ${status}`);
    this.name = 'ServerStatusCodeError';
    this.status = status;
  }
}

/** Somebody in a group; WhatsApp's groups name their members by LID. */
class Participant extends Model {
  constructor({ lid, role }) {
    super({
      id: createWid(`${lid}@lid`),
      isAdmin: role !== 'member',
      isSuperAdmin: role === 'superadmin',
    });
  }
}

class Participants extends Collection {
  #me;

  constructor(me) {
    super(Infinity);
    this.#me = me;
  }

  iAmMember() {
    return this.get(this.#me()) !== undefined;
  }

  iAmAdmin() {
    return this.get(this.#me())?.isAdmin === true;
  }

  serialize() {
    return this.getModelsArray().map((participant) => participant.serialize());
  }
}

class GroupMetadata extends Model {
  constructor(wid, me) {
    super({ id: wid, isLidAddressingMode: true });
    Object.defineProperty(this, 'participants', { value: new Participants(me), enumerable: false });
  }

  serialize() {
    return { ...this, participants: this.participants.serialize() };
  }
}

/** The groups that this account is in, as the server told of them, and what can be done to them. */
export class Groups {
  #link;
  #account;
  #messages;
  #collections;

  constructor({ link, account, messages }) {
    this.#link = link;
    this.#account = account;
    this.#messages = messages;
  }

  attach(collections) {
    this.#collections = collections;
    for (const name of ['GroupMetadata', 'WAWebGroupMetadataCollection']) {
      collections[name].update = (id) => this.query(id);
      collections[name].find = async (id) => (await this.query(id), this.#metadataOf(id));
      collections[name].get = (id) => this.#metadataOf(id);
    }
  }

  /** All groups of the account, as they are at this moment. */
  replaceAll(states) {
    const present = new Set(states.map(({ id }) => id));
    for (const chat of this.#collections.Chat.filter(({ id }) => id.isGroup())) {
      if (!present.has(chat.id._serialized)) this.#forgetMe(chat);
    }
    for (const state of states) this.#apply(state);
  }

  /** Takes in what became of a group: its state, and the line that the chat shows about it. */
  receive({ id, chat, group, by, change, whom, body, t }) {
    this.#apply(group);
    const { metadata } = this.#chatOf(group);
    if (!metadata.participants.iAmMember()) metadata.set({ isReadOnly: true });
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
  async query(id) {
    const { group } = await this.#do({ kind: 'query', group: createWid(id)._serialized });
    this.#apply(group);
  }

  async create({ title, announce, restrict }, participants) {
    const phones = participants.map(({ phoneNumber }) => phoneOfWid(phoneNumber));
    const settings = { announce: Boolean(announce), restrict: Boolean(restrict) };
    const { group, members } = await this.#do({ kind: 'create', subject: title, phones, settings });
    this.#apply(group);
    return {
      wid: createWid(group.id),
      subject: group.subject,
      participants: [
        { wid: lidOfPhone(this.#account.me.user), type: 'superadmin' },
        ...members.map(({ phone, status, inviteCode }) => ({
          wid: widOfPhone(phone),
          ...(status === 200 ? {} : { error: String(status) }),
          ...(inviteCode ? { invite_code: inviteCode, invite_code_exp: expiry() } : {}),
        })),
      ],
    };
  }

  /** One member, answered as the remote call answers that WhatsApp Web makes. */
  async add({ iqTo, participantArgs }) {
    const phones = participantArgs.map(({ participantJid }) => phoneOfWid(createWid(participantJid)));
    const result = await this.#link.ask('group', {
      group: { kind: 'add', group: createWid(iqTo)._serialized, phones },
    });
    if (result.status !== 200) {
      const errorAddParticipantsClientErrors = { value: { code: String(result.status) } };
      return { name: 'AddParticipantsResponseClientError', value: { errorAddParticipantsClientErrors } };
    }
    const addParticipant = result.members.map(({ status, inviteCode }) => ({
      addParticipantsParticipantAddedOrNonRegisteredWaUserParticipantErrorLidResponseMixinGroup: {
        value: { addParticipantsParticipantMixins: mixinOf(status, inviteCode) },
      },
    }));
    return { name: 'AddParticipantsResponseSuccess', value: { addParticipant } };
  }

  /** @param kind `remove`, `promote` or `demote` */
  async change(kind, chat, participants) {
    const phones = participants.map(({ id }) => phoneOfWid(id));
    await this.#do({ kind, group: chat.id._serialized, phones });
  }

  async set(wid, settings) {
    await this.#do({ kind: 'set', group: wid._serialized, settings });
  }

  async setProperty(chat, property, value) {
    await this.set(chat.id, SETTINGS[property](value));
  }

  async invite(id, kind) {
    const { invite } = await this.#do({ kind, group: createWid(id)._serialized });
    return { code: invite };
  }

  async join(code, kind = 'join') {
    const { group } = await this.#do({ kind, code });
    if (kind === 'join') this.#apply(group);
    return { gid: createWid(group.id), id: createWid(group.id), subject: group.subject };
  }

  async leave(chat) {
    await this.#do({ kind: 'leave', group: chat.id._serialized });
  }

  async #do(deed) {
    const result = await this.#link.ask('group', { group: deed });
    if (result.status !== 200) throw new ServerStatusCodeError(result.status);
    return result;
  }

  #metadataOf(id) {
    return this.#collections.Chat.get(createWid(id))?.groupMetadata;
  }

  #chatOf({ id, subject }) {
    const chat = this.#messages.groupChat(createWid(id), subject);
    if (!chat.groupMetadata) {
      const metadata = new GroupMetadata(chat.id, () => lidOfPhone(this.#account.me.user));
      Object.defineProperty(chat, 'groupMetadata', { value: metadata, enumerable: false });
    }
    return { chat, metadata: chat.groupMetadata };
  }

  /** What an older event tells of the state is older than what is known. */
  #apply(state) {
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
    chat.set({ name: state.subject, formattedTitle: state.subject });
    metadata.set({
      version: state.version,
      subject: state.subject,
      owner: lidOfPhone(state.owner),
      creation: Math.floor(Date.parse(state.createdAt) / 1000),
      desc: state.description || undefined,
      descId: state.descriptionId || undefined,
      announce: state.announce,
      restrict: state.restrict,
      memberAddMode: state.adminsAdd ? 'admin_add' : 'all_member_add',
      size: state.members.length,
      isReadOnly: false,
    });
  }

  /** The account was taken out of a group while nobody told this page. */
  #forgetMe(chat) {
    const participants = chat.groupMetadata?.participants;
    const me = participants?.get(lidOfPhone(this.#account.me.user));
    if (me) participants.remove(me);
  }
}

function mixinOf(status, inviteCode) {
  if (status === 200) return undefined;
  const name = status === 403 ? 'ParticipantRequestCodeCanBeSent' : 'ParticipantError';
  const request = inviteCode ? { addRequestCode: inviteCode, addRequestExpiration: expiry() } : {};
  return { name, value: { error: String(status), ...request } };
}

/** An invite to one person holds for three days. */
function expiry() {
  return Math.floor(Date.now() / 1000) + 3 * 24 * 3600;
}
