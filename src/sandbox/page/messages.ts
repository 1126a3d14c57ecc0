import type {
  AckEvent,
  AddressBookEntry,
  BrowserEvent,
  MessageEvent,
  QueuedEvent,
  Rules,
} from '../wire/frames.js';
import type { Actions } from './actions.js';
import type { Channels } from './channels.js';
import { contentOf, type OutgoingMessage, textOf } from './content.js';
import type { IdLike } from './events.js';
import type { Groups } from './groups.js';
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
  type Msg,
  msgOfRow,
  rowOf,
} from './models.js';
import type { MessageRow, Notice, Store } from './store.js';

/** How many sends may wait for the server at the same time. */
const MAX_PENDING = 1000;
/** How many numbers are remembered as registered. */
const MAX_KNOWN_NUMBERS = 10_000;
const EARLIER_AT_ONCE = 50;

/** What WhatsApp Web says of a message that was sent. */
interface SendResult {
  messageSendResult: 'OK' | 'ERROR_UNKNOWN';
  t?: number | undefined;
}

/** A message without ack 1. */
interface PendingSend {
  promise: Promise<SendResult>;
  resolve: (result: SendResult) => void;
  /** Whether its row is on the disk. */
  isStored?: boolean;
  /** The connection that it was sent over last. */
  sentOn?: number;
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
  /** Sends without ack 1, by the text form of their key. */
  #pending = new Map<string, PendingSend>();
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
    collections.Msg.search = async (query) => ({
      messages: collections.Msg.filter((msg) => msg.body?.includes(query)),
    });
    collections.Chat.find = async (id) => (await this.findOrCreateChat(createWid(id))).chat;
  }

  /** Brings back what the last page of this profile had. */
  async restore(): Promise<void> {
    const { rows, chats } = await this.#store.restore(MESSAGES_IN_MEMORY);
    for (const { id, seen = 0 } of chats) this.#seen.set(id, seen);
    for (const row of rows) {
      const msg = this.#modelOf(row, false);
      this.#collections.Msg.add(msg);
      if (row.p) this.#pending.set(row.id, { ...waiter(), isStored: true });
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
    const known = this.#numbers.get(phone);
    if (known) return known;
    const found = await this.#link.ask('exists', { phone }, { changesNothing: true });
    // Remembered only when it is registered: any other number may be registered a moment later.
    if (found && !(isByLid && found.hidden)) this.#learn(phone, found.name);
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
    if (!found) throw new Error('No LID for user');
    const address = this.isKnown(phone) ? widOfPhone(phone) : wid;
    return { chat: this.#chatOf(address, found.name), created: true };
  }

  /** The chat of a group that the account is in. */
  groupChat(wid: Wid, subject: string): Chat {
    const known = this.#collections.Chat.get(wid);
    return known ?? this.#chatOf(wid, subject);
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
  }

  /** Adds a message to a chat and sends it. Like WhatsApp Web it gives one promise for each step. */
  addAndSend(chat: Chat, message: OutgoingMessage): [added: Promise<Msg>, sent: Promise<SendResult>] {
    const added = this.#addOutgoing(chat, message);
    const sent = added.then(({ id }): SendResult | Promise<SendResult> => {
      const entry = this.#pending.get(id.toString());
      return entry ? entry.promise : { messageSendResult: 'OK' };
    });
    // Not every caller waits for the result.
    sent.catch(() => undefined);
    return [added, sent];
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
        if (event.k === 'msg') this.#receiveMessage(event);
        else if (event.k === 'channel') this.#channels.receive(event);
        else if (event.k === 'group') this.#groups.receive(event);
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
  refused(id: string): void {
    for (const [key, entry] of this.#pending) {
      if (MsgKey.fromString(key).id !== id) continue;
      this.#settle(key, -1);
      entry.resolve({ messageSendResult: 'ERROR_UNKNOWN' });
    }
  }

  /** Sends nothing until the next connection has caught up: older messages go first. */
  hold(): void {
    this.#connection = 0;
  }

  /** Sends, under the same ids, what the server has not acknowledged, and from now on every new message. */
  resend(): void {
    this.#connection = ++this.#connections;
    for (const key of this.#pending.keys()) this.#transmit(key);
  }

  async #addOutgoing(chat: Chat, message: OutgoingMessage): Promise<Msg> {
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
    if (!this.#pending.has(key.toString())) this.#pending.set(key.toString(), waiter());
    let msg = Msg.get(key);
    if (!msg) {
      const order = this.#store.nextOrder();
      const row = rowOf(key, { ...message, body: textOf(message), content: contentOf(message), order });
      msg = this.#modelOf(row, true);
      Msg.add(msg);
      this.#touchChat(msg, false);
      await this.#store.save(row);
    }
    const entry = this.#pending.get(key.toString());
    if (entry) entry.isStored = true;
    this.#transmit(key.toString());
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

  /** Sends a stored message once per connection; without a connection it waits on disk for the next one. */
  #transmit(key: string): void {
    const entry = this.#pending.get(key);
    const msg = this.#collections.Msg.get(key);
    if (!entry?.isStored || !msg || !this.#connection || entry.sentOn === this.#connection) return;
    const to = addressOf(msg.id.remote);
    const { b: text, x: content } = msg.row;
    const frame = { t: 'send' as const, id: msg.id.id, to, type: msg.type, text, content };
    if (this.#link.send(frame)) entry.sentOn = this.#connection;
  }

  #receiveMessage(event: MessageEvent): void {
    const { Msg } = this.#collections;
    const { Chat: chats } = this.#collections;
    const isStory = event.content.as === 'story';
    const isStranger = !isStory && event.hidden && !event.author && !chats.get(widOfPhone(event.chat));
    const address = isStory ? 'status@broadcast' : event.chat;
    const remote = isStranger ? lidOfPhone(event.chat) : this.#widOf(address);
    const author = isStory ? event.chat : event.author;
    const key = MsgKey.ofEvent(remote, { ...event, author }, this.#account.me!);
    const known = Msg.get(key);
    if (known) {
      if (event.fromMe) this.#settle(key.toString(), 1);
      if (event.again) Msg.trigger('add', known);
      return;
    }
    if (event.name && !event.fromMe && !event.hidden) this.#learn(event.author ?? event.chat, event.name);
    const row = rowOf(key, {
      body: event.text,
      type: event.type,
      t: event.t,
      ack: 1,
      order: this.#store.nextOrder(),
      name: event.name,
      content: event.content,
    });
    this.#store.saveSoon(row);
    const msg = this.#modelOf(row, true);
    Msg.add(msg);
    this.#touchChat(msg, !event.fromMe, event.author ? undefined : event.name);
  }

  /** The chat that the wire calls `address`. */
  #widOf(address: string): Wid {
    return chatWidOf(this.#collections, address);
  }

  async #receiveAck({ chat, id, ack }: AckEvent): Promise<void> {
    const key = MsgKey.ofEvent(this.#widOf(chat), { fromMe: true, id }, this.#account.me!).toString();
    if (this.#collections.Msg.get(key)) {
      this.#settle(key, ack);
      return;
    }
    const row = await this.#store.find(key);
    if (!row || row.a >= ack) return;
    delete row.p;
    row.a = ack;
    this.#store.saveSoon(row);
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

  #learn(phone: string, name: string | undefined): void {
    if (this.#numbers.has(phone) && this.#numbers.get(phone)!.name === name) return;
    this.#numbers.set(phone, { name });
    if (this.#numbers.size > MAX_KNOWN_NUMBERS) {
      this.#numbers.delete(this.#numbers.keys().next().value!);
    }
  }
}

function waiter(): PendingSend {
  let resolve!: PendingSend['resolve'];
  const promise = new Promise<SendResult>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
