import { Collection, Model } from './events.js';
import { attributesOf } from './content.js';
import { createWid, lidOfPhone, MsgKey, phoneOfWid, widOfPhone } from './ids.js';

/** How much is kept in memory; what is older is on disk. */
export const MESSAGES_IN_MEMORY = 2000;
const CHATS_IN_MEMORY = 5000;

/** A message. Its `row` is what is stored of it. */
export class Msg extends Model {
  #row;

  constructor(attributes, row, media) {
    super(attributes);
    this.#row = row;
    // Methods are no attributes.
    Object.defineProperty(this, 'downloadMedia', { value: () => this.#download(media), enumerable: false });
  }

  get row() {
    return this.#row;
  }

  get isEphemeral() {
    return false;
  }

  get isStatusV3() {
    return false;
  }

  /** Gets the media from the server, where it may not be any more. */
  async #download(media) {
    try {
      await media.download(this);
      this.mediaData.mediaStage = 'RESOLVED';
    } catch (error) {
      this.mediaData.mediaStage = 'ERROR_MISSING';
      throw error;
    }
  }

  /** Whether it is only a line about the chat, such as "… left". */
  get isNotification() {
    return this.type === 'gp2';
  }

  unsafe() {
    return this;
  }

  canReply() {
    return true;
  }

  /** What a reply to this message carries along. */
  msgContextInfo() {
    return {
      quotedStanzaID: this.id.id,
      quotedParticipant: this.from,
      quotedMsg: { type: this.type, body: this.body },
    };
  }
}

export class Chat extends Model {
  #messages;
  #earlier = [];

  constructor(wid, name, messages) {
    super({
      id: wid,
      name,
      formattedTitle: name,
      t: 0,
      unreadCount: 0,
      archive: false,
      pin: undefined,
      isLocked: false,
      isReadOnly: false,
      lastReceivedKey: undefined,
    });
    this.#messages = messages;
    Object.defineProperty(this, 'mute', { value: new Mute(this), enumerable: false });
  }

  /** The messages of this chat that are in memory. */
  get msgs() {
    const chat = this.id._serialized;
    const inMemory = () => this.#messages.filter((msg) => msg.id.remote._serialized === chat);
    return { getModelsArray: () => [...this.#earlier, ...inMemory()] };
  }

  /** Takes in messages that are older than those in memory. */
  addEarlier(msgs) {
    this.#earlier = [...msgs, ...this.#earlier];
  }

  iAmAdmin() {
    return this.groupMetadata?.participants.iAmAdmin() ?? false;
  }

  serialize() {
    return {
      ...this,
      muteExpiration: this.mute.expiration,
      // Only whether there are any is asked for; the last one is found by its key.
      msgs: this.lastReceivedKey ? [this.lastReceivedKey._serialized] : [],
    };
  }
}

class Mute {
  expiration = 0;
  #chat;

  constructor(chat) {
    this.#chat = chat;
  }

  async mute({ expiration }) {
    this.expiration = expiration;
    this.#chat.trigger('change:mute', this.#chat);
  }

  async unmute() {
    await this.mute({ expiration: 0 });
  }
}

export class Contact extends Model {
  /** @param isKnown whether the number behind a LID is known */
  constructor(wid, name, isKnown = true) {
    const phone = phoneOfWid(wid);
    const isUser = wid.isUser();
    super({
      id: wid,
      phoneNumber: isUser && (isKnown || !wid.isLid()) ? widOfPhone(phone) : undefined,
      lid: isUser ? lidOfPhone(phone) : undefined,
      pushname: name,
      type: 'in',
      isBusiness: false,
      isEnterprise: false,
      isContactBlocked: false,
      labels: [],
    });
  }
}

/** A message as it is stored: small, and without anything that follows from the rest. */
export function rowOf(key, { body, type, t, ack, order, name, content, notice }) {
  const row = { id: key._serialized, o: order, b: body, y: type, t, a: ack };
  if (key.fromMe && ack === 0) row.p = 1;
  if (name) row.n = name;
  if (content) row.x = content;
  if (notice) row.g = notice;
  return row;
}

/** The model of a stored message. */
export function msgOfRow(row, me, isNewMsg, media) {
  const id = MsgKey.fromString(row.id);
  const attributes = {
    id,
    body: row.b,
    type: row.y,
    t: row.t,
    ack: row.a,
    from: id.fromMe ? me : id.remote,
    to: id.fromMe ? id.remote : me,
    self: id.fromMe ? 'out' : 'in',
    isNewMsg,
    star: false,
    broadcast: false,
    isForwarded: false,
    mentionedJidList: [],
    groupMentions: [],
  };
  if (id.participant) attributes.author = id.participant;
  if (row.g) Object.assign(attributes, { subtype: row.g.change, recipients: row.g.whom });
  if (row.n) attributes.notifyName = row.n;
  if (row.e) attributes.latestEditSenderTimestampMs = row.e;
  if (row.v) Object.assign(attributes, { protocolMessageKey: id, revokeTimestamp: Math.floor(row.v / 1000) });
  if (row.r) attributes.hasReaction = Object.values(row.r).some(({ e }) => e !== '');
  if (row.x && row.y !== 'revoked') Object.assign(attributes, attributesOf(row.x, row.b));
  return new Msg(attributes, row, media);
}

/** The chat that the wire calls `address`: somebody who hides the number has one under the LID alone. */
export function chatWidOf(collections, address) {
  if (address.includes('@')) return createWid(address);
  const [pn, lid] = [widOfPhone(address), lidOfPhone(address)];
  return collections.Chat.get(lid) && !collections.Chat.get(pn) ? lid : pn;
}

/** All collections of the page, as `WAWebCollections` has them. */
export function createCollections(exists, isKnown) {
  // A message that waits for ack 1 must be found until it has it.
  const Msgs = new Collection(MESSAGES_IN_MEMORY, (msg) => msg.ack !== 0 || !msg.id.fromMe);
  const Chats = new Collection(CHATS_IN_MEMORY);
  const Contacts = new Collection(CHATS_IN_MEMORY);
  // As the page shows them: whatsapp-web.js looks at the third one to see whether one more may be pinned.
  Chats.getModelsArray = () => [...Chats.models.values()].sort((a, b) => (b.pin ?? 0) - (a.pin ?? 0));
  Msgs.modelClass = Msg;

  Contacts.find = async (id) => {
    const wid = createWid(id);
    const known = Contacts.get(wid);
    if (known) return known;
    const found = wid.isUser() ? await exists(phoneOfWid(wid), wid.isLid()) : null;
    // WhatsApp knows strangers as contacts too, but without a name.
    return Contacts.get(wid) ?? Contacts.add(contactOf(wid, found?.name, found?.isBusiness));
  };
  Contacts.gadd = (id) => Contacts.get(id) ?? Contacts.add(contactOf(createWid(id), undefined));
  const contactOf = (wid, name, isBusiness = false) => {
    const contact = new Contact(wid, name, !wid.isUser() || isKnown(phoneOfWid(wid)));
    return contact.set({ isBusiness });
  };

  const empty = () => {
    const collection = new Collection(1);
    collection.find = async () => undefined;
    collection.update = async () => undefined;
    return collection;
  };
  return {
    Msg: Msgs,
    Chat: Chats,
    Contact: Contacts,
    Blocklist: empty(),
    Label: empty(),
    ProfilePicThumb: empty(),
    Status: empty(),
    Reactions: empty(),
    Presence: empty(),
    Call: empty(),
    BusinessProfile: empty(),
    GroupMetadata: empty(),
    WAWebGroupMetadataCollection: empty(),
    WAWebNewsletterCollection: empty(),
    NewsletterMetadataCollection: empty(),
    WAWebNewsletterMetadataCollection: empty(),
  };
}
