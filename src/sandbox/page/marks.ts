import type { Emitter } from './events.js';
import type { Chat, Collections, Msg } from './models.js';
import { lidOfPhone, MsgKey, phoneOfWid, type Wid, widOfPhone } from './ids.js';
import type { Messages } from './messages.js';
import type { MessageRow, Store } from './store.js';

/** One person and the time at which the person got so far, in seconds since 1970. */
interface Receipt {
  id: Wid;
  t: number;
}

interface MessageInfo {
  delivery: Receipt[];
  deliveryRemaining: number;
  read: Receipt[];
  readRemaining: number;
  played: Receipt[];
  playedRemaining: number;
}

/** What the account does to messages for itself: stars, and deleting without telling anybody. And who has got a message. */
export class Marks {
  #store: Store;
  #messages: Messages;
  #collections!: Collections;

  constructor(store: Store, messages: Messages) {
    this.#store = store;
    this.#messages = messages;
  }

  attach(collections: Collections, cmd: Emitter): void {
    this.#collections = collections;
    Object.assign(cmd, {
      sendStarMsgs: (_chat: Chat, msgs: Msg[]) => this.#star(msgs, true),
      sendUnstarMsgs: (_chat: Chat, msgs: Msg[]) => this.#star(msgs, false),
      sendDeleteMsgs: (chat: Chat, { list }: { list: Msg[] }) => this.#delete(chat, list),
    });
  }

  /** The modules of WhatsApp Web for deleting and for the receipts of a message. */
  get modules() {
    return {
      WAWebChatClearBridge: {
        sendClear: (chat: Chat, keepStarred: boolean) => this.#clear(chat, keepStarred),
      },
      WAWebDeleteChatAction: { sendDelete: (chat: Chat) => this.#deleteChat(chat) },
      WAWebApiMessageInfoStore: { queryMsgInfo: (key: MsgKey) => this.#infoOf(key) },
    };
  }

  canStar(msg: Msg): boolean {
    return !msg.isNotification && msg.type !== 'revoked' && !msg.isViewOnce;
  }

  async #star(msgs: Msg[], star: boolean): Promise<void> {
    for (const msg of msgs) {
      if (star) msg.row.s = 1;
      else delete msg.row.s;
      msg.set({ star });
      await this.#store.save(msg.row);
    }
  }

  async #delete(chat: Chat, msgs: Msg[]): Promise<void> {
    await this.#messages.remove(
      chat,
      msgs.map(({ row }) => row.id),
    );
  }

  async #clear(chat: Chat, keepStarred: boolean): Promise<void> {
    const rows = (await this.#store.ofChat(chat.id._serialized)).filter(({ s }) => !keepStarred || !s);
    await this.#messages.remove(
      chat,
      rows.map(({ id }) => id),
    );
    chat.set({ unreadCount: 0 });
  }

  async #deleteChat(chat: Chat): Promise<void> {
    await this.#clear(chat, false);
    await this.#store.removeChat(chat.id._serialized);
    this.#collections.Chat.remove(chat);
  }

  async #infoOf(key: MsgKey): Promise<MessageInfo> {
    const row = this.#collections.Msg.get(key)?.row ?? (await this.#store.find(key.toString()));
    if (!row) throw new Error(`No message info found for ${key}`);
    return key.remote.isGroup()
      ? infoInGroup(row, this.#membersOf(key.remote))
      : infoOfPerson(row, key.remote);
  }

  /** How many members a group has besides this account. */
  #membersOf(group: Wid): number {
    const participants = this.#collections.Chat.get(group)?.groupMetadata?.participants;
    return Math.max(0, (participants?.length ?? 1) - 1);
  }
}

/** In a chat with one person, the person is in each list. */
function infoOfPerson({ i = {} }: MessageRow, wid: Wid): MessageInfo {
  const [delivered, read] = i[phoneOfWid(wid)] ?? [];
  const id = wid.isLid() ? wid : widOfPhone(wid.user);
  const receipts = (t: number | undefined): Receipt[] => (t === undefined ? [] : [{ id, t }]);
  return withRemaining(1, receipts(delivered), receipts(read));
}

/** In a group, each member is in the list of the furthest receipt only. */
function infoInGroup({ i = {} }: MessageRow, others: number): MessageInfo {
  const delivery: Receipt[] = [];
  const read: Receipt[] = [];
  for (const [phone, [delivered, readAt]] of Object.entries(i)) {
    const id = lidOfPhone(phone);
    if (readAt !== undefined) read.push({ id, t: readAt });
    else if (delivered !== undefined) delivery.push({ id, t: delivered });
  }
  return withRemaining(Math.max(others, Object.keys(i).length), delivery, read);
}

/** The counts as WhatsApp Web computes them: each counts on from the one before. Nobody plays in the sandbox. */
function withRemaining(people: number, delivery: Receipt[], read: Receipt[]): MessageInfo {
  const playedRemaining = people;
  const readRemaining = playedRemaining - read.length;
  const deliveryRemaining = readRemaining - delivery.length;
  return { delivery, deliveryRemaining, read, readRemaining, played: [], playedRemaining };
}
