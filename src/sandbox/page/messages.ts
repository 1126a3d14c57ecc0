import type {
  AckEvent,
  AddressBookEntry,
  BrowserEvent,
  MessageEvent,
  NumberEvent,
  QueuedEvent,
  Rules,
} from '../wire/frames.js';
import type { Actions } from './actions.js';
import type { Channels } from './channels.js';
import { contentOf, type OutgoingMessage, textOf } from './content.js';
import type { IdLike } from './events.js';
import { type Groups, ServerStatusCodeError } from './groups.js';
import { addressOf, createWid, lidOfPhone, MsgKey, phoneOfWid, type Wid, widOfPhone } from './ids.js';
import type { Link } from './link.js';
import type { Media } from './media.js';
import {
  type Account,
  Chat,
  chatWidOf,
  type Collections,
  Contact,
  type KnownNumber,
  MESSAGES_IN_MEMORY,
  Msg,
  msgOfRow,
  rowOf,
} from './models.js';
import type { MessageRow, Notice, Store } from './store.js';

/** How many sends may wait for the server at the same time. */
const MAX_PENDING = 1000;
/** How many numbers are remembered as registered. */
const MAX_KNOWN_NUMBERS = 10_000;
const EARLIER_AT_ONCE = 50;

/** What WhatsApp Web says of a send that has ended, also of one that failed. */
interface SendResult {
  messageSendResult: 'OK' | 'ERROR_NETWORK' | 'ERROR_UNKNOWN';
  ackErrorCode?: number;
  t?: number | undefined;
}

/** The code of a refusal, as an example: WhatsApp has many. */
const REFUSED_CODE = 421;

/** A message that this page sends. It lasts as long as the page. */
interface PendingSend {
  promise: Promise<SendResult>;
  resolve: (result: SendResult) => void;
  /** The connection that it was sent over last. */
  sentOn?: number | undefined;
}

/** The line that the chat of a group shows of a change. */
interface GroupNotice extends Notice {
  chat: Wid;
  id: string;
  by: Wid;
  body: string;
  t: number;
}

interface MessagesOptions {
  store: Store;
  link: Link;
  account: Account;
  actions: Actions;
  rules: Rules;
  media: Media;
}

/** Messages and chats: what goes out, what comes in, and what is kept. */
export class Messages {
  #store: Store;
  #link: Link;
  #collections!: Collections;
  #account: Account;
  /** The sends of this page that have neither an ack nor a failure, by the text form of their key. */
  #pending = new Map<string, PendingSend>();
  /** The messages without an ack that an earlier page of this profile left. */
  #left: Msg[] = [];
  /** The number of the connection; 0 while none has caught up. */
  #connection = 0;
  #connections = 0;
  #numbers = new Map<string, KnownNumber>();
  #seen = new Map<string, number>();
  #stored: number[] = [];
  #confirming: Promise<void> | undefined;
  #actions: Actions;
  #stories: Chat | undefined;
  #groups!: Groups;
  #channels!: Channels;
  #rules: Rules;
  #media: Media;

  constructor({ store, link, account, actions, rules, media }: MessagesOptions) {
    this.#store = store;
    this.#link = link;
    this.#account = account;
    this.#actions = actions;
    this.#rules = rules;
    this.#media = media;
  }

  /** The collections need `exists` of this object, so they come later than it. */
  attach(collections: Collections, groups: Groups, channels: Channels): void {
    this.#collections = collections;
    this.#groups = groups;
    this.#channels = channels;
    collections.Msg.getMessagesById = async (ids) => ({ messages: await this.#load(ids) });
    collections.Msg.search = async (words, page = 1, count = 50, chat) => {
      const rows = await this.#store.search(words, chat);
      const messages = rows.slice((page - 1) * count, page * count).map((row) => this.#heldOrStored(row));
      return { messages };
    };
    collections.Chat.find = async (id) => (await this.findOrCreateChat(createWid(id))).chat;
    Object.assign(Msg.prototype, methodsOf(this));
  }

  /** Brings back what the last page of this profile had. */
  async restore(): Promise<void> {
    const { rows, chats } = await this.#store.restore(MESSAGES_IN_MEMORY);
    for (const { id, seen = 0 } of chats) this.#seen.set(id, seen);
    for (const row of rows) {
      const msg = this.#modelOf(row, false);
      this.#collections.Msg.add(msg);
      if (row.p) this.#left.push(msg);
      if (row.y === 'e2e_notification') this.#chatOf(msg.id.remote, undefined);
      else if (isInChat(row))
        this.#touchChat(msg, !msg.id.fromMe && row.o > (this.#seen.get(msg.id.remote._serialized) ?? 0));
    }
    for (const { id, archive = false, pin, mute = 0 } of chats) {
      const chat = this.#collections.Chat.get(id);
      chat?.set({ archive, pin });
      if (chat) chat.mute.expiration = mute;
    }
  }

  /**
   * What is known of a number, or null when it is not registered.
   * @param isByLid whether only the LID is known: a hidden number is not learnt from that
   */
  async exists(phone: string, isByLid = false): Promise<KnownNumber | null> {
    return this.#numbers.get(phone) ?? this.ask(phone, isByLid);
  }

  /** The same, but always asks the server. @throws ServerStatusCodeError if the server does not say */
  async ask(phone: string, isByLid = false): Promise<KnownNumber | null> {
    const found = await this.#link.ask('exists', { phone }, { changesNothing: true });
    if (found && 'status' in found) throw new ServerStatusCodeError(found.status);
    // Remembered only when it is registered: any other number may be registered a moment later.
    if (found && !(isByLid && found.hidden)) this.#learn(found.phone, found.name);
    return found;
  }

  /** Whether this page has already learnt that a number is registered. */
  isKnown(phone: string): boolean {
    return this.#numbers.has(phone);
  }

  /** The chat with a user, a new one if there is none. A number that is not registered has no LID, and so no chat. */
  async findOrCreateChat(wid: Wid): Promise<{ chat: Chat; created: boolean }> {
    // The chat to send stories to is none that the page lists.
    if (wid.isStatus()) {
      this.#stories ??= new Chat(wid, 'Status', this.#collections.Msg);
      return { chat: this.#stories, created: false };
    }
    const known = this.#collections.Chat.get(wid.isUser() ? this.#widOf(phoneOfWid(wid)) : wid);
    if (known) return { chat: known, created: false };
    if (!wid.isUser()) throw new Error(`The account has no chat ${wid}`);
    const phone = phoneOfWid(wid);
    const found = await this.exists(phone, wid.isLid());
    if (!found || (found.phone ?? phone) !== phone) throw new Error('No LID for user');
    const address = this.isKnown(phone) ? this.#widOf(phone) : wid;
    return { chat: this.#chatWith(address, found.name), created: true };
  }

  /** The chat of a group that the account is in. */
  groupChat(wid: Wid, subject: string): Chat {
    const known = this.#collections.Chat.get(wid);
    return known ?? this.#chatOf(wid, subject);
  }

  /** The chat with a user. Like the real page, a new one begins with a notice "from" the other person, as a message would come. */
  #chatWith(wid: Wid, name: string | undefined): Chat {
    const known = this.#collections.Chat.get(wid);
    if (known || !wid.isUser()) return known ?? this.#chatOf(wid, name);
    const chat = this.#chatOf(wid, name);
    if (this.#rules.newChatNotice) {
      const key = new MsgKey({ fromMe: false, remote: wid, id: `E2E${wid.user}` });
      const t = Math.floor(Date.now() / 1000);
      const order = this.#store.nextOrder();
      const row = rowOf(key, { body: '', type: 'e2e_notification', t, ack: 1, order });
      row.g = { change: 'encrypt', whom: [] };
      this.#store.saveSoon(row);
      this.#collections.Msg.add(this.#modelOf(row, true));
    }
    return chat;
  }

  /** Learns the number of somebody who shows it. */
  meet(phone: string, name: string | undefined): void {
    if (!this.#numbers.has(phone)) this.#learn(phone, name);
  }

  /** Takes in the address book of the phone's owner. */
  setAddressBook(entries: AddressBookEntry[]): void {
    const { Contact: contacts } = this.#collections;
    for (const contact of contacts.filter((other) => other.isAddressBookContact === 1))
      contact.set({ isAddressBookContact: 0, name: undefined });
    for (const { phone, name } of entries) {
      this.meet(phone, name);
      contacts.gadd(widOfPhone(phone)).set({ isAddressBookContact: 1, name });
    }
  }

  /** The next older messages of a chat, from the disk. */
  async loadEarlier(chat: Chat): Promise<Msg[]> {
    const [oldest] = chat.msgs.getModelsArray();
    const before = oldest?.row.o ?? Infinity;
    const rows = await this.#store.before(before, chat.id._serialized, EARLIER_AT_ONCE);
    const msgs = rows.map((row) => this.#modelOf(row, false));
    chat.addEarlier(msgs);
    return msgs;
  }

  /** Adds the line that a group's chat shows of what somebody did to the group. */
  addNotice({ chat, id, by, change, whom, body, t }: GroupNotice): void {
    const key = new MsgKey({ fromMe: false, remote: chat, id, participant: by });
    if (this.#collections.Msg.get(key)) return;
    const order = this.#store.nextOrder();
    const row = rowOf(key, { body, type: 'gp2', t, ack: 0, order, notice: { change, whom } });
    this.#store.saveSoon(row);
    const msg = this.#modelOf(row, true);
    this.#collections.Msg.add(msg);
    this.#touchChat(msg, false);
    // whatsapp-web.js hears of a new number when its notice changes.
    if (change === 'modify') msg.set({ viewed: true });
  }

  /**
   * Deletes messages. A message that was not sent yet is not sent any more.
   * @param ids the text of the keys, also of messages that are only on the disk
   */
  async remove(chat: Chat, ids: string[]): Promise<void> {
    const { Msg } = this.#collections;
    const gone = new Set(ids);
    const msgs = chat.msgs.getModelsArray().filter(({ row }) => gone.has(row.id));
    for (const msg of msgs) {
      const key = msg.id.toString();
      this.#pending.get(key)?.resolve({ messageSendResult: 'ERROR_UNKNOWN' });
      this.#pending.delete(key);
      Msg.remove(msg);
    }
    chat.forgetEarlier(msgs);
    await this.#store.remove(ids);
    const [last] = await this.#store.before(Infinity, chat.id._serialized, 1);
    chat.set({ t: last?.t ?? 0, lastReceivedKey: last && MsgKey.fromString(last.id) });
  }

  /** The message that another one answers: the message itself, or what the answer carries of it. */
  quotedBy({ quotedStanzaID, quotedParticipant, quotedMsg, id }: Msg): Msg | undefined {
    const { Msg: msgs } = this.#collections;
    const held = msgs.getModelsArray().find((other) => other.id.id === quotedStanzaID);
    if (held || !quotedStanzaID || !quotedParticipant || !quotedMsg) return held;
    const author = phoneOfWid(quotedParticipant);
    const parts = { fromMe: author === this.#account.me!.user, id: quotedStanzaID, author };
    const key = MsgKey.ofEvent(id.remote, parts, this.#account.me!);
    const { type, body } = quotedMsg;
    return this.#modelOf(rowOf(key, { body, type, t: 0, ack: 1, order: 0 }), false);
  }

  /** Adds the line that a chat shows of somebody who has a new number. */
  addNumberNotice({ id, from, to, name, t }: NumberEvent): void {
    const { Chat: chats, Msg } = this.#collections;
    const chat = chats.get(widOfPhone(from));
    // A person without a chat gets no line.
    const key = chat && new MsgKey({ fromMe: false, remote: chat.id, id });
    this.#numbers.delete(from);
    this.#learn(to, name);
    if (!key || Msg.get(key)) return;
    const order = this.#store.nextOrder();
    const notice = {
      change: 'change_number',
      whom: [from, to].map((phone) => widOfPhone(phone)._serialized),
    };
    const row = rowOf(key, { body: '', type: 'notification_template', t, ack: 0, order, notice });
    this.#store.saveSoon(row);
    const msg = this.#modelOf(row, true);
    Msg.add(msg);
    this.#touchChat(msg, false);
    // As in the notice of a group.
    msg.set({ viewed: true });
  }

  /** Adds a message to a chat and sends it. Like WhatsApp Web it gives one promise for each step. */
  addAndSend(message: OutgoingMessage): [added: Promise<Msg>, sent: Promise<SendResult>] {
    const added = this.#addOutgoing(message);
    const sent = this.resendToChat(added);
    // Not every caller waits for the result.
    sent.catch(() => undefined);
    return [added, sent];
  }

  /** Sends a message that the page has, under its id. It changes neither the mark of a failure nor the ack. */
  async resendToChat(message: Promise<Msg>): Promise<SendResult> {
    return this.sendRecord(await message);
  }

  /** Puts a message on the wire, also one that is on its way already. Resolves when the send has ended, well or not. */
  sendRecord(msg: Msg): Promise<SendResult> {
    const key = msg.id.toString();
    const { Msg: msgs } = this.#collections;
    const entry = this.#pending.get(key) ?? waiter();
    this.#pending.set(key, entry);
    if (msgs.get(key) !== msg) msgs.add(msg);
    msg.isNewMsg = true;
    entry.sentOn = undefined;
    this.#transmit(key);
    return entry.promise;
  }

  /** What a click on the mark of a failed message does. A message that has not failed stays as it is. */
  async resend(msg: Msg): Promise<string | undefined> {
    if (msg.ack >= 0 && !msg.isSendFailure) return undefined;
    msg.row.a = 0;
    msg.row.p = 1;
    delete msg.row.f;
    await this.#store.save(msg.row);
    msg.set({ ack: 0, isSendFailure: false });
    if (msg.row.x?.media && msg.local) return (await this.resumeUpload(msg))?.messageSendResult;
    return (await this.sendRecord(msg)).messageSendResult;
  }

  /** Uploads the file of a message again and sends the message. A page without the file sends nothing, and does not fail. */
  async resumeUpload(msg: Msg): Promise<SendResult | undefined> {
    const { row } = msg;
    const blob = row.x?.media && this.#media.blobOf(row.x.media.filehash);
    if (!blob) {
      console.error('media-fault: resumeUploadMsg msg without mediaObject');
      return undefined;
    }
    msg.set({ ack: 0 });
    try {
      const { directPath, mediaKey, encFilehash } = await this.#media.upload(blob);
      row.x!.media = { ...row.x!.media!, directPath, mediaKey, encFilehash };
      msg.set({ directPath, mediaKey, encFilehash });
      await this.#store.save(row);
      return await this.sendRecord(msg);
    } catch {
      // The real page hides the reason too.
      msg.set({ ack: -1 });
      return undefined;
    }
  }

  /** The rows of messages with these ids in a chat, in both directions: the real page looks for the beginnings of keys. */
  async rowsOf(ids: string[], chat: Wid): Promise<{ id: string; ack: number }[]> {
    const prefixes = ids.flatMap((id) =>
      [true, false].map((fromMe) => new MsgKey({ fromMe, remote: chat, id }).toString()),
    );
    return (await this.#store.startingWith(prefixes)).map(({ id, a }) => ({ id, ack: a }));
  }

  /** The owner of the chat has seen all of it. */
  async sendSeen(chat: Chat): Promise<void> {
    if (chat.unreadCount === 0) return;
    chat.set({ unreadCount: 0 });
    const id = chat.id._serialized;
    const seen = this.#collections.Msg.get(chat.lastReceivedKey)?.row.o ?? 0;
    this.#seen.set(id, seen);
    await this.saveChat(chat);
  }

  /** Stores what no message tells of a chat. */
  async saveChat(chat: Chat): Promise<void> {
    const { archive, pin, mute } = chat;
    const id = chat.id._serialized;
    const seen = this.#seen.get(id) ?? 0;
    await this.#store.saveChat({ id, seen, archive, pin, mute: mute.expiration });
  }

  /** Takes in events, and confirms each one once it is stored. */
  async receive(events: QueuedEvent<BrowserEvent>[]): Promise<void> {
    for (const { n, event } of events) {
      try {
        if (event.k === 'msg' && event.late) await this.#decrypt(event);
        else if (event.k === 'msg') this.#receiveMessage(event);
        else if (event.k === 'group') this.#groups.receive(event);
        else if (event.k === 'number') this.addNumberNotice(event);
        else if (event.k === 'channel') this.#channels.receive(event);
        else if (event.k === 'ack') await this.#receiveAck(event);
        else await this.#actions.receive(event);
      } catch (error) {
        console.error(error);
      }
      this.#stored.push(n);
    }
    this.#confirming ??= this.#confirm();
  }

  /** Takes in that the server refused a message. */
  refused(id: string): Promise<void> {
    const result = { messageSendResult: 'ERROR_UNKNOWN', ackErrorCode: REFUSED_CODE } as const;
    return this.#fail(id, { ack: -1, isSendFailure: true }, result);
  }

  /** Takes in that a send failed for good in another way: then nobody knows whether the server has the message. */
  failed(id: string): Promise<void> {
    return this.#fail(id, { isSendFailure: true }, { messageSendResult: 'ERROR_NETWORK' });
  }

  async #fail(id: string, attributes: { ack?: -1; isSendFailure: true }, result: SendResult): Promise<void> {
    for (const [key, entry] of this.#pending) {
      if (MsgKey.fromString(key).id !== id) continue;
      this.#pending.delete(key);
      // A message stays in memory while it is sent.
      const msg = this.#collections.Msg.get(key)!;
      msg.row.f = 1;
      if (attributes.ack) {
        msg.row.a = attributes.ack;
        delete msg.row.p;
      }
      await this.#store.save(msg.row);
      msg.set(attributes);
      entry.resolve(result);
    }
  }

  /** Sends nothing until the next connection has caught up: older messages go first. */
  hold(): void {
    this.#connection = 0;
  }

  /** Sends, under the same ids, what this page has sent without an ack, and from now on every new message. */
  resume(): void {
    this.#connection = ++this.#connections;
    const left = this.#left.filter(({ ack }) => ack === 0);
    this.#left = [];
    for (const key of this.#pending.keys()) this.#transmit(key);
    if (!this.#rules.resumesSends) return;
    for (const msg of left) void this.sendRecord(msg.set({ isSendFailure: false }));
  }

  async #addOutgoing(message: OutgoingMessage): Promise<Msg> {
    const { Msg } = this.#collections;
    const key = message.id;
    if (Object.hasOwn(message, '__x_id'))
      throw new Error(
        "Data passed to getter must include an id property (it's how we memoize) but got undefined",
      );
    if (this.#reloadsBefore(key.id)) {
      location.reload();
      // The reload ends this page, so nothing comes after this line.
      await new Promise(() => undefined);
    }
    if (this.#pending.size >= MAX_PENDING) {
      throw new Error(`${MAX_PENDING} messages wait for the server already.`);
    }
    const order = this.#store.nextOrder();
    const row = rowOf(key, { ...message, body: textOf(message), content: contentOf(message), order });
    row.l = 1;
    const known = Msg.get(key);
    const msg = known ?? this.#modelOf(row, true);
    if (!known) {
      if (msg.directPath) msg.isUnsentMedia = true;
      Msg.add(msg);
      this.#touchChat(msg, false);
    }
    await this.#store.add(row);
    return msg;
  }

  /** Whether the fault makes the page reload before this message: at most once for each message. */
  #reloadsBefore(id: string): boolean {
    const { reloadBeforeSendRate } = this.#rules;
    if (reloadBeforeSendRate === 0 || Math.random() >= reloadBeforeSendRate) return false;
    const mark = `reloaded before ${id}`;
    if (sessionStorage.getItem(mark)) return false;
    sessionStorage.setItem(mark, 'once');
    return true;
  }

  /** Sends a stored message once per connection; without a connection it waits for the next one of this page. */
  #transmit(key: string): void {
    const entry = this.#pending.get(key);
    const msg = this.#collections.Msg.get(key);
    if (!entry || !msg || !this.#connection || entry.sentOn === this.#connection) return;
    const to = addressOf(msg.id.remote);
    const { b: text, x: content } = msg.row;
    const frame = { t: 'send' as const, id: msg.id.id, to, type: msg.type, text, content };
    if (this.#link.send(frame)) entry.sentOn = this.#connection;
  }

  /** The key of a message that comes in. Stories and posts of channels are in no chat. */
  #keyOf(event: MessageEvent): MsgKey {
    const { chat, id, content, hidden, author } = event;
    if (content.as === 'channel')
      return new MsgKey({ fromMe: event.fromMe, remote: createWid(`${chat}@newsletter`), id });
    if (content.as === 'story' && !author) {
      const participant = event.fromMe ? this.#account.me! : this.#widOf(chat);
      return new MsgKey({ fromMe: event.fromMe, remote: createWid('status@broadcast'), id, participant });
    }
    const isStranger = hidden && !author && !this.#collections.Chat.get(widOfPhone(chat));
    return MsgKey.ofEvent(isStranger ? lidOfPhone(chat) : this.#widOf(chat), event, this.#account.me!);
  }

  /** Takes in the text of a message that could not be decrypted before: only its model changes, and only if it is in memory. */
  async #decrypt(event: MessageEvent): Promise<void> {
    const key = this.#keyOf(event);
    const msg = this.#collections.Msg.get(key);
    const row = msg ? msg.row : await this.#store.find(key.toString());
    if (row?.y !== 'ciphertext') return;
    Object.assign(row, { y: event.type, b: event.text, x: event.content });
    this.#store.saveSoon(row);
    if (!msg) return;
    // Its key, its time and whether it was new stay.
    const { id, t, isNewMsg } = msg;
    msg.set({ ...this.#modelOf(row, false), id, t, isNewMsg });
  }

  #receiveMessage(event: MessageEvent): void {
    const { Msg } = this.#collections;
    const key = this.#keyOf(event);
    const known = Msg.get(key);
    if (known) {
      if (event.fromMe) this.#settle(key.toString(), 1);
      if (event.again) Msg.trigger('add', known);
      return;
    }
    if (event.name && !event.fromMe) {
      const writer = event.author ?? event.chat;
      if (!event.hidden) this.#learn(writer, event.name);
      this.#rename(writer, event.name);
    }
    const isUndecrypted = event.content.undecrypted && !event.fromMe;
    const name = event.author ? undefined : event.name;
    if (isInChat({ x: event.content })) this.#chatWith(key.remote, name);
    const row = rowOf(key, {
      body: isUndecrypted ? '' : event.text,
      type: isUndecrypted ? 'ciphertext' : event.type,
      t: event.t,
      ack: 1,
      order: this.#store.nextOrder(),
      name: event.name,
      content: event.content,
    });
    this.#store.saveSoon(row);
    const msg = this.#modelOf(row, true);
    Msg.add(msg);
    if (isInChat(row)) this.#touchChat(msg, !event.fromMe, name);
  }

  /** The chat that the wire calls `address`. */
  #widOf(address: string): Wid {
    if (this.#rules.hiddenChats && !address.includes('@')) return lidOfPhone(address);
    return chatWidOf(this.#collections, address);
  }

  async #receiveAck(event: AckEvent): Promise<void> {
    const { chat, id, ack, partial } = event;
    const wid = this.#widOf(chat);
    // The chat of a person may have changed from the number to the LID since the message was sent, or back.
    const others = wid.isUser() ? [widOfPhone(chat), lidOfPhone(chat)] : [];
    for (const remote of [wid, ...others]) {
      const key = MsgKey.ofEvent(remote, { fromMe: true, id }, this.#account.me!).toString();
      const msg = this.#collections.Msg.get(key);
      const row = msg ? msg.row : await this.#store.find(key);
      if (!row) continue;
      const isNew = noteReceipts(row, event);
      if (!partial && msg) return this.#settle(key, ack);
      if (!partial && row.a < ack) {
        delete row.p;
        row.a = ack;
      } else if (!isNew) {
        return;
      }
      this.#store.saveSoon(row);
      return;
    }
  }

  /** Takes in the ack of a message. An ack that is not newer changes nothing. */
  #settle(key: string, ack: number): void {
    const msg = this.#collections.Msg.get(key);
    const isProgress = ack === -1 ? msg?.ack === 0 : ack > (msg?.ack ?? ack);
    if (msg && isProgress) {
      const { row } = msg;
      row.a = ack;
      delete row.p;
      this.#store.saveSoon(row);
      msg.set({ ack });
      if (msg.isUnsentMedia && ack >= 1) msg.set({ isUnsentMedia: false });
    }
    const entry = this.#pending.get(key);
    if (entry) {
      this.#pending.delete(key);
      if (ack >= 1) entry.resolve({ messageSendResult: 'OK', t: msg?.t });
    }
  }

  async #confirm(): Promise<void> {
    try {
      while (this.#stored.length > 0) {
        await this.#store.flushSoon();
        const n = this.#stored;
        this.#stored = [];
        // The last flush may not contain events that came in during it.
        await this.#store.flush();
        this.#link.send({ t: 'got', n });
      }
    } finally {
      this.#confirming = undefined;
    }
  }

  async #load(ids: IdLike[]): Promise<Msg[]> {
    const found = await Promise.all(
      ids.map(async (id) => {
        // The database of the real page takes texts only.
        if (typeof id !== 'string')
          throw new DOMException(
            "Failed to execute 'get' on 'IDBObjectStore': No key or key range specified.",
            'DataError',
          );
        const text = id;
        const msg = this.#collections.Msg.get(text);
        if (msg) return msg;
        const row = await this.#store.find(text);
        return row && this.#modelOf(row, false);
      }),
    );
    return found.filter(Boolean) as Msg[];
  }

  #heldOrStored(row: MessageRow): Msg {
    return this.#collections.Msg.get(row.id) ?? this.#modelOf(row, false);
  }

  #modelOf(row: MessageRow, isNewMsg: boolean): Msg {
    return msgOfRow(row, this.#account.me, isNewMsg, this.#media);
  }

  #touchChat(msg: Msg, isUnread: boolean, name?: string): void {
    // Stories are in no chat.
    if (msg.id.remote.isStatus()) return;
    const chat = this.#chatOf(msg.id.remote, name);
    chat.t = msg.t;
    chat.lastReceivedKey = msg.id;
    if (isUnread) chat.set({ unreadCount: chat.unreadCount + 1 });
  }

  #chatOf(wid: Wid, given: string | undefined): Chat {
    const { Chat: chats, Contact: contacts } = this.#collections;
    if (wid.isNewsletter()) return this.#channels.chatOf(wid);
    const known = chats.get(wid);
    if (known) return known;
    const phone = phoneOfWid(wid);
    const name = given ?? this.#numbers.get(phone)?.name;
    // A chat under a number proves that the number is registered.
    if (wid.isUser() && !wid.isLid()) this.meet(phone, name);
    if (!contacts.get(wid)) contacts.add(new Contact(wid, name, this.isKnown(phone)));
    return chats.add(new Chat(wid, name ?? `+${wid.user}`, this.#collections.Msg));
  }

  /** Contacts show the name that a person has given last. */
  #rename(phone: string, pushname: string): void {
    const { Contact: contacts } = this.#collections;
    for (const wid of [widOfPhone(phone), lidOfPhone(phone)]) contacts.get(wid)?.set({ pushname });
  }

  #learn(phone: string, name: string | undefined): void {
    if (this.#numbers.has(phone) && this.#numbers.get(phone)!.name === name) return;
    this.#numbers.set(phone, { name });
    if (this.#numbers.size > MAX_KNOWN_NUMBERS) {
      this.#numbers.delete(this.#numbers.keys().next().value!);
    }
  }
}

/** What a message does by itself. */
function methodsOf(messages: Messages) {
  return {
    resend(this: Msg) {
      return messages.resend(this);
    },
    resumeUpload(this: Msg) {
      return messages.resumeUpload(this);
    },
  };
}

/** Whether a message is in a chat. Stories and posts of channels are not. */
function isInChat({ x: content }: Pick<MessageRow, 'x'>): boolean {
  return content?.as === undefined;
}

/** Keeps who has got a message, or read it, and when. False when the row knows all of it already. */
function noteReceipts(row: MessageRow, { chat, ack, by = [chat], t }: AckEvent): boolean {
  if (ack < 2) return false;
  const receipts = (row.i ??= {});
  let isNew = false;
  for (const phone of by) {
    const times = (receipts[phone] ??= []);
    isNew ||= times[ack - 2] === undefined;
    times[ack - 2] ??= t;
  }
  return isNew;
}

function waiter(): PendingSend {
  let resolve!: PendingSend['resolve'];
  const promise = new Promise<SendResult>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
