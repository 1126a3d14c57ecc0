import { Collection, type IdLike, Model, type ModelWith } from './events.js';
import { attributesOf, type ContentAttributes, type OutgoingMessage } from './content.js';
import type { ChannelMetadata } from './channels.js';
import type { GroupMetadata } from './groups.js';
import { createWid, lidOfPhone, MsgKey, phoneOfWid, Wid, widOfPhone, type WidLike } from './ids.js';
import type { Media } from './media.js';
import { formattedPhoneNumber } from './numbers.js';
import type { Picture } from './pictures.js';
import type { Blocked, BusinessProfile } from './profile.js';
import type { MessageRow, Notice } from './store.js';
import type { MediaPointer, SubmittedContent } from '../wire/frames.js';

/** How many are kept in memory; older ones are on disk. */
export const MESSAGES_IN_MEMORY = 2000;
const CHATS_IN_MEMORY = 5000;
const PICTURES_IN_MEMORY = 1000;

/** What WhatsApp Web shows of a message. */
interface MsgAttributes extends ContentAttributes {
  id: MsgKey;
  /** A revoked message has no body. */
  body: string | undefined;
  type: string;
  t: number;
  ack: number;
  from: Wid | undefined;
  to: Wid | undefined;
  self: 'in' | 'out';
  isNewMsg: boolean;
  /** The page does not send it any more, and has no ack of it. */
  isSendFailure: boolean;
  /** Whether it was sent from this browser. */
  local?: boolean;
  star: boolean;
  broadcast: boolean;
  isForwarded: boolean;
  mentionedJidList: Wid[];
  groupMentions: never[];
  /** In a group: who wrote it. */
  author?: Wid;
  /** Of a line about a group: what was done, and to whom. */
  subtype?: string;
  recipients?: string[];
  notifyName?: string;
  latestEditSenderTimestampMs?: number;
  protocolMessageKey?: MsgKey;
  revokeTimestamp?: number;
  hasReaction?: boolean;
  /** A story inside a group. */
  isGroupStatus?: boolean;
  /** Own media that the server does not have yet. */
  isUnsentMedia?: boolean;
  /** Of a new number: the old number and the new one. */
  templateParams?: string[];
  /** Set soon after the message was added. */
  viewed?: boolean;
}

/** The account that this browser is linked to; undefined before it is linked. */
export interface Account {
  me: Wid | undefined;
}

/** A message. Its `row` is what is stored of it. */
export class Msg extends (Model as ModelWith<MsgAttributes>) {
  #row: MessageRow;
  declare readonly downloadMedia: () => Promise<void>;
  /** Set by {@link Messages}. */
  declare readonly resend: () => Promise<string | undefined>;
  declare readonly resumeUpload: () => Promise<unknown>;

  constructor(attributes: MsgAttributes, row: MessageRow, media: Media) {
    super(attributes);
    this.#row = row;
    // Not enumerable, because a method is no attribute.
    Object.defineProperty(this, 'downloadMedia', { value: () => this.#download(media), enumerable: false });
  }

  get row(): MessageRow {
    return this.#row;
  }

  get isEphemeral(): boolean {
    return false;
  }

  get isStatusV3(): boolean {
    return this.id.remote.isStatus();
  }

  /** Gets the media from the server, which may not have it any more. */
  async #download(media: Media): Promise<void> {
    try {
      // Only messages with media are downloaded.
      await media.download(this as MediaPointer);
      this.mediaData!.mediaStage = 'RESOLVED';
    } catch (error) {
      this.mediaData!.mediaStage = 'ERROR_MISSING';
      throw error;
    }
  }

  /** Whether it is only a line about the chat, for example "… left". */
  get isNotification(): boolean {
    return ['gp2', 'e2e_notification', 'notification_template'].includes(this.type);
  }

  unsafe(): this {
    return this;
  }

  canReply(): boolean {
    return true;
  }

  /** The file of a message with media; a getter, because it is no attribute. */
  get mediaObject(): { filehash: string; type: string } | undefined {
    return this.directPath ? { filehash: this.filehash!, type: this.type } : undefined;
  }

  /** What a reply to this message says about it. */
  msgContextInfo(): object {
    const { type, body, caption } = this;
    return {
      quotedStanzaID: this.id.id,
      quotedParticipant: this.author ?? this.from,
      quotedMsg: { type, body: body ?? '', ...(this.directPath ? { caption: caption ?? '' } : {}) },
    };
  }
}

interface ChatAttributes {
  id: Wid;
  name: string;
  formattedTitle: string;
  /** The time of its last message, in seconds since 1970. */
  t: number;
  /** -1 when its owner has marked it as unread. */
  unreadCount: number;
  archive: boolean;
  /** When it was pinned, in milliseconds since 1970. */
  pin: number | undefined;
  isLocked: boolean;
  isReadOnly: boolean;
  lastReceivedKey: MsgKey | undefined;
}

export class Chat extends (Model as ModelWith<ChatAttributes>) {
  #messages: Collection<Msg>;
  #earlier: Msg[] = [];
  declare readonly mute: Mute;
  /** Only groups have it. */
  declare readonly groupMetadata?: GroupMetadata;
  /** Only channels have it. */
  declare readonly newsletterMetadata?: ChannelMetadata;

  constructor(wid: Wid, name: string, messages: Collection<Msg>) {
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
  get msgs(): { getModelsArray(): Msg[]; add(msg: Msg): Msg } {
    const chat = this.id._serialized;
    const inMemory = () => this.#messages.filter((msg) => msg.id.remote._serialized === chat);
    return {
      getModelsArray: () => [...this.#earlier, ...inMemory()],
      add: (msg) => this.#messages.add(msg),
    };
  }

  /** Takes in messages that are older than those in memory. */
  addEarlier(msgs: Msg[]): void {
    this.#earlier = [...msgs, ...this.#earlier];
  }

  /** Drops messages that were taken in as earlier ones. */
  forgetEarlier(gone: Msg[]): void {
    this.#earlier = this.#earlier.filter((msg) => !gone.includes(msg));
  }

  iAmAdmin(): boolean {
    return this.groupMetadata?.participants.iAmAdmin() ?? false;
  }

  override serialize(): object {
    return {
      ...this,
      muteExpiration: this.mute.expiration,
      // whatsapp-web.js asks only whether there are any; it finds the last one by its key.
      msgs: this.lastReceivedKey ? [this.lastReceivedKey.toString()] : [],
    };
  }
}

class Mute {
  /** Until when, in seconds since 1970; 0 when it is not muted, -1 for ever. */
  expiration = 0;
  #chat: Chat;

  constructor(chat: Chat) {
    this.#chat = chat;
  }

  async mute({ expiration }: { expiration: number }): Promise<void> {
    this.expiration = expiration;
    this.#chat.trigger('change:mute', this.#chat);
  }

  async unmute(): Promise<void> {
    await this.mute({ expiration: 0 });
  }
}

interface ContactAttributes {
  id: Wid;
  phoneNumber: Wid | undefined;
  lid: Wid | undefined;
  pushname: string | undefined;
  type: 'in';
  isBusiness: boolean;
  isEnterprise: boolean;
  isContactBlocked: boolean;
  labels: never[];
  /** 1 in the address book of the phone's owner, under this name. */
  isAddressBookContact?: 0 | 1;
  name?: string | undefined;
}

export class Contact extends (Model as ModelWith<ContactAttributes>) {
  /**
   * @param of the address; whatsapp-web.js gives it as an attribute
   * @param isKnown whether the number behind a LID is known
   */
  constructor(of: Wid | { id: Wid }, name?: string, isKnown = true) {
    const wid = of instanceof Wid ? of : of.id;
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

  /** The name that chats and cards show. A getter, because it is no attribute. */
  get formattedName(): string {
    const number = this.phoneNumber && formattedPhoneNumber(this.phoneNumber.user);
    return this.name ?? this.pushname ?? number ?? this.id.user;
  }
}

/** The content of a row, without the key of the message. */
interface RowParts {
  body: string;
  type: string;
  t: number;
  ack: number;
  order: number;
  name?: string;
  content?: SubmittedContent | undefined;
  notice?: Notice;
}

/** The row of a message. */
export function rowOf(
  key: MsgKey,
  { body, type, t, ack, order, name, content, notice }: RowParts,
): MessageRow {
  const row: MessageRow = { id: key.toString(), o: order, b: body, y: type, t, a: ack };
  if (key.fromMe && ack === 0) row.p = 1;
  if (name) row.n = name;
  if (content) row.x = content;
  if (notice) row.g = notice;
  return row;
}

/** The model of a stored message. */
export function msgOfRow(row: MessageRow, me: Wid | undefined, isNewMsg: boolean, media: Media): Msg {
  const id = MsgKey.fromString(row.id);
  const attributes: MsgAttributes = {
    id,
    // A notice has no body, and a message that is not decrypted has none yet.
    body: ['e2e_notification', 'ciphertext', 'revoked'].includes(row.y) ? undefined : row.b,
    type: row.y,
    t: row.t,
    ack: row.a,
    from: id.fromMe ? me : id.remote,
    to: id.fromMe ? id.remote : me,
    self: id.fromMe ? 'out' : 'in',
    isNewMsg,
    // Like the real page, this one takes a message that it reads from the disk without an ack for failed.
    isSendFailure: row.f === 1 || (id.fromMe && row.a === 0 && !isNewMsg),
    star: row.s === 1,
    broadcast: false,
    isForwarded: false,
    mentionedJidList: [],
    groupMentions: [],
  };
  if (row.l) attributes.local = true;
  if (id.participant) attributes.author = id.participant;
  if (row.g) {
    const { change, whom } = row.g;
    Object.assign(attributes, { subtype: change });
    if (row.y === 'gp2') attributes.recipients = whom;
    else if (row.y === 'notification_template')
      Object.assign(attributes, { templateParams: whom, to: createWid(whom[1]) });
  }
  if (row.n) attributes.notifyName = row.n;
  if (row.e) attributes.latestEditSenderTimestampMs = row.e;
  if (row.v) attributes.revokeTimestamp = Math.floor(row.v / 1000);
  if (row.k) attributes.protocolMessageKey = MsgKey.fromString(row.k);
  if (row.x?.as === 'story' && id.remote.isGroup()) attributes.isGroupStatus = true;
  if (row.r) attributes.hasReaction = Object.values(row.r).some(({ e }) => e !== '');
  if (row.x && !['revoked', 'ciphertext'].includes(row.y))
    Object.assign(attributes, attributesOf(row.x, row.b, row.y));
  return new Msg(attributes, row, media);
}

/** The chat that the wire calls `address`. A person who hides the number may have a chat under the LID only. */
export function chatWidOf(collections: Collections, address: string): Wid {
  if (address.includes('@')) return createWid(address);
  const [pn, lid] = [widOfPhone(address), lidOfPhone(address)];
  return collections.Chat.get(lid) && !collections.Chat.get(pn) ? lid : pn;
}

interface MsgCollection extends Collection<Msg> {
  modelClass: new (message: OutgoingMessage) => Msg;
  getMessagesById(ids: IdLike[]): Promise<{ messages: Msg[] }>;
  search(words: string, page?: number, count?: number, chat?: string): Promise<{ messages: Msg[] }>;
}

interface ChatCollection extends Collection<Chat> {
  find(id: WidLike): Promise<Chat>;
}

interface ContactCollection extends Collection<Contact> {
  find(id: WidLike): Promise<Contact>;
  gadd(id: WidLike): Contact;
}

interface BusinessProfileCollection extends Collection<BusinessProfile> {
  find(id: IdLike): Promise<BusinessProfile | undefined>;
}

interface PictureCollection extends Collection<Picture> {
  find(id: IdLike): Promise<Picture>;
}

/** A collection that holds nothing: what it finds comes from elsewhere, if at all. */
interface EmptyCollection<M extends GroupMetadata | ChannelMetadata> extends Collection<M> {
  find(id: IdLike): Promise<unknown>;
  update(id: IdLike): Promise<unknown>;
}

/** What is known of a registered number. */
export interface KnownNumber {
  /** The form of the number that WhatsApp has; missing if it is the form that was asked for. */
  phone?: string;
  name: string | undefined;
  isBusiness?: boolean;
  hidden?: boolean;
}

export type Collections = ReturnType<typeof createCollections>;

/** All collections of the page, as `WAWebCollections` has them. */
export function createCollections(
  exists: (phone: string, isByLid: boolean) => Promise<KnownNumber | null>,
  isKnown: (phone: string) => boolean,
) {
  // A message stays in memory while the page sends it.
  const Msgs = new Collection<Msg>(
    MESSAGES_IN_MEMORY,
    (msg) => msg.ack !== 0 || !msg.id.fromMe || msg.isSendFailure,
  ) as MsgCollection;
  const Chats = new Collection<Chat>(CHATS_IN_MEMORY) as ChatCollection;
  const Contacts = new Collection<Contact>(CHATS_IN_MEMORY) as ContactCollection;
  // In the order of the real page: whatsapp-web.js looks at the third chat to see whether one more may be pinned.
  Chats.getModelsArray = () => [...Chats.models.values()].sort((a, b) => (b.pin ?? 0) - (a.pin ?? 0));

  Contacts.find = async (id) => {
    const wid = createWid(id);
    const known = Contacts.get(wid);
    if (known) return known;
    const found = wid.isUser() ? await exists(phoneOfWid(wid), wid.isLid()) : null;
    // WhatsApp has a contact for every stranger too, but without a name.
    return Contacts.get(wid) ?? Contacts.add(contactOf(wid, found?.name, found?.isBusiness));
  };
  Contacts.gadd = (id) => Contacts.get(id) ?? Contacts.add(contactOf(createWid(id), undefined));
  const contactOf = (wid: Wid, name: string | undefined, isBusiness = false): Contact => {
    const contact = new Contact(wid, name, !wid.isUser() || isKnown(phoneOfWid(wid)));
    return contact.set({ isBusiness });
  };

  const empty = <M extends GroupMetadata | ChannelMetadata = never>() => {
    const collection = new Collection<M>(1) as EmptyCollection<M>;
    collection.find = async () => undefined;
    collection.update = async () => undefined;
    return collection;
  };
  return {
    Msg: Msgs,
    Chat: Chats,
    Contact: Contacts,
    Blocklist: new Collection<Blocked>(Infinity),
    Label: empty(),
    ProfilePicThumb: new Collection<Picture>(PICTURES_IN_MEMORY) as PictureCollection,
    Status: empty(),
    Reactions: empty(),
    Presence: empty(),
    Call: empty(),
    BusinessProfile: new Collection<BusinessProfile>(CHATS_IN_MEMORY) as BusinessProfileCollection,
    GroupMetadata: empty<GroupMetadata>(),
    WAWebGroupMetadataCollection: empty<GroupMetadata>(),
    WAWebNewsletterCollection: new Collection<Chat>(CHATS_IN_MEMORY) as ChatCollection,
    NewsletterMetadataCollection: empty<ChannelMetadata>(),
    WAWebNewsletterMetadataCollection: empty<ChannelMetadata>(),
  };
}
