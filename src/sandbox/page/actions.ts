import type { ActionEvent, ActionType, Rules } from '../wire/frames.js';
import { addressOf, lidOfPhone, MsgKey, phoneOfWid, type Wid, widOfPhone } from './ids.js';
import type { Link } from './link.js';
import { type Account, chatWidOf, type Collections, type Msg } from './models.js';
import { changePin } from './pins.js';
import { changeEvent, changeResponse } from './scheduled-events.js';
import type { MessageRow, Store } from './store.js';

/** A reaction as it is in WhatsApp Web's table. */
export interface Reaction {
  id: MsgKey;
  reactionParentKey: MsgKey;
  reactionText: string;
  reactionTimestamp: number;
  from: Wid;
  author: Wid | undefined;
  orphan: number;
  read: boolean;
  ack: number;
}

/** A vote in a poll as it is in WhatsApp Web's table. */
export interface Vote {
  id: MsgKey;
  pollUpdateParentKey: MsgKey;
  parentMsgKey: string;
  selectedOptionLocalIds: number[];
  senderTimestampMs: number;
  t: number;
  from: Wid;
  sender: Wid;
}

interface ActionsOptions {
  store: Store;
  link: Link;
  account: Account;
  rules: Rules;
  /** Hands over reactions as WhatsApp Web writes them to its table, where whatsapp-web.js listens. */
  tellReactions: (reactions: Reaction[]) => unknown;
  /** The same for votes in polls. */
  tellVotes: (votes: Vote[]) => unknown;
}

/** What one person did: the number, the new text or emoji, and the time in milliseconds since 1970. */
export type Change = Pick<ActionEvent, 'by' | 'text' | 'at'>;

/** What is done to messages that were sent: edits, revocations, reactions and votes, by this account and by others. */
export class Actions {
  #store: Store;
  #link: Link;
  #account: Account;
  #rules: Rules;
  #collections!: Collections;
  #tellReactions: ActionsOptions['tellReactions'];
  #tellVotes: ActionsOptions['tellVotes'];

  constructor({ store, link, account, rules, tellReactions, tellVotes }: ActionsOptions) {
    this.#store = store;
    this.#link = link;
    this.#account = account;
    this.#rules = rules;
    this.#tellReactions = tellReactions;
    this.#tellVotes = tellVotes;
  }

  attach(collections: Collections): void {
    this.#collections = collections;
    collections.Reactions.find = async (id) => {
      const key = String(id);
      const row = collections.Msg.get(key)?.row ?? (await this.#store.find(key));
      const groups = row ? this.#groupsOf(row) : [];
      return { id: key, reactions: { length: groups.length, serialize: () => groups } };
    };
  }

  canEdit(msg: Msg): boolean {
    return msg.id.fromMe && msg.type === 'chat' && msg.ack > 0 && isYounger(msg, this.#rules.editWindowMs);
  }

  canEditCaption(msg: Msg): boolean {
    const { type } = msg;
    const isCaptioned = type === 'image' || type === 'video' || type === 'document';
    return msg.id.fromMe && isCaptioned && msg.ack > 0 && isYounger(msg, this.#rules.editWindowMs);
  }

  canRevoke(msg: Msg): boolean {
    return msg.id.fromMe && msg.type !== 'revoked' && isYounger(msg, this.#rules.revokeWindowMs);
  }

  edit(msg: Msg, text: string): Promise<void> {
    return this.#submit('edit', msg, text);
  }

  revoke(msg: Msg): Promise<void> {
    return this.#submit('revoke', msg, '');
  }

  /** @param emoji an empty one takes the reaction back */
  react(msg: Msg, emoji: string): Promise<void> {
    return this.#submit('reaction', msg, emoji);
  }

  /**
   * Applies an action. An action that is known, or older than the last action, changes nothing.
   * @param given the model of the message, which may be loaded without being in memory
   */
  async receive({ k, chat, fromMe, author, id, by, text, at }: ActionEvent, given?: Msg): Promise<void> {
    const remote = chatWidOf(this.#collections, chat);
    const key = MsgKey.ofEvent(remote, { fromMe, id, author }, this.#account.me!);
    const held = this.#collections.Msg.get(key);
    const row = held ? held.row : await this.#store.find(key.toString());
    if (!row) return;
    const msg = held ?? given;
    if (k === 'reaction') this.#changeReaction(row, msg, { by, text, at });
    else if (k === 'vote') this.#changeVote(row, { by, text, at });
    else if (k === 'pin' || k === 'reschedule' || k === 'rsvp') {
      if (CHANGES[k](row, msg, { by, text, at })) this.#store.saveSoon(row);
    } else if (k === 'edit') this.#changeText(row, msg, { text, at });
    else this.#markRevoked(row, msg, at);
  }

  /** Does something to a message. Resolves once the server has the action and this page shows it. */
  act(k: ActionType, msg: Msg, text: string): Promise<void> {
    return this.#submit(k, msg, text);
  }

  /** Resolves once the server has the action and this page shows it. */
  async #submit(k: ActionType, msg: Msg, text: string): Promise<void> {
    const { fromMe, remote, id, participant } = msg.id;
    const chat = addressOf(remote);
    const author = participant && phoneOfWid(participant);
    const { at } = await this.#link.ask('act', { deed: { action: k, chat, fromMe, author, id, text } });
    await this.receive({ k, chat, fromMe, author, id, by: this.#account.me!.user, text, at }, msg);
  }

  #changeText(row: MessageRow, msg: Msg | undefined, { text, at }: Omit<Change, 'by'>): void {
    if (row.y === 'revoked' || (row.e ?? 0) >= at) return;
    row.b = text;
    row.e = at;
    this.#store.saveSoon(row);
    if (msg?.directPath) msg.set({ caption: text, isCaptionByUser: true, latestEditSenderTimestampMs: at });
    else msg?.set({ body: text, latestEditSenderTimestampMs: at });
  }

  /** Like the real page, gives the message the key of the message that revoked it, in the same place. */
  #markRevoked(row: MessageRow, msg: Msg | undefined, at: number): void {
    if (row.y === 'revoked') return;
    const { Msg: messages, Chat: chats } = this.#collections;
    const oldKey = MsgKey.fromString(row.id);
    const { fromMe, remote, participant, id } = oldKey;
    const newKey = new MsgKey({ fromMe, remote, participant, id: `REVOKE${id}` });
    row.id = newKey.toString();
    row.y = 'revoked';
    row.b = '';
    row.v = at;
    if (this.#rules.revokedNamesOldKey) row.k = oldKey.toString();
    this.#store.replaceSoon(oldKey.toString(), row);
    if (!msg) return;
    messages.replaceId(oldKey, newKey);
    msg.set({
      id: newKey,
      type: 'revoked',
      subtype: 'sender',
      body: undefined,
      caption: undefined,
      revokeTimestamp: Math.floor(at / 1000),
      ...(this.#rules.revokedNamesOldKey ? { protocolMessageKey: oldKey } : {}),
    });
    msg.announce('change:msgKey', { newKey, oldKey });
    const chat = chats.get(remote);
    if (oldKey.equals(chat?.lastReceivedKey)) chat!.lastReceivedKey = newKey;
  }

  #changeReaction(row: MessageRow, msg: Msg | undefined, { by, text, at }: Change): void {
    row.r ??= {};
    if ((row.r[by]?.t ?? 0) >= at) return;
    row.r[by] = { e: text, t: at };
    this.#store.saveSoon(row);
    msg?.set({ hasReaction: Object.values(row.r).some(({ e }) => e !== '') });
    void this.#tellReactions([this.#reactionOf(row, by)]);
  }

  /** @param change its text is the options that are chosen now, as JSON */
  #changeVote(row: MessageRow, { by, text, at }: Change): void {
    row.w ??= {};
    if ((row.w[by]?.t ?? 0) >= at) return;
    const options = row.x?.poll?.options ?? [];
    row.w[by] = { o: (JSON.parse(text) as string[]).map((name) => options.indexOf(name)), t: at };
    this.#store.saveSoon(row);
    void this.#tellVotes([this.#voteOf(row, by)]);
  }

  /** The votes in a poll. */
  async votesOf(key: string): Promise<Vote[]> {
    const row = this.#collections.Msg.get(key)?.row ?? (await this.#store.find(key));
    return Object.keys(row?.w ?? {}).map((by) => this.#voteOf(row!, by));
  }

  /** @param by somebody who has voted */
  #voteOf(row: MessageRow, by: string): Vote {
    const parent = MsgKey.fromString(row.id);
    const { o, t } = row.w![by]!;
    const fromMe = by === this.#account.me!.user;
    return {
      id: new MsgKey({ fromMe, remote: parent.remote, id: `V${by}${parent.id}` }),
      pollUpdateParentKey: parent,
      parentMsgKey: parent.toString(),
      selectedOptionLocalIds: o,
      senderTimestampMs: t,
      t: Math.floor(t / 1000),
      from: widOfPhone(by),
      sender: widOfPhone(by),
    };
  }

  /** @param by somebody who has reacted */
  #reactionOf(row: MessageRow, by: string): Reaction {
    const parent = MsgKey.fromString(row.id);
    const { e, t } = row.r![by]!;
    const fromMe = by === this.#account.me!.user;
    return {
      id: MsgKey.ofEvent(parent.remote, { fromMe, id: `R${by}${parent.id}`, author: by }, this.#account.me!),
      reactionParentKey: parent,
      reactionText: e,
      reactionTimestamp: t,
      from: widOfPhone(by),
      author: parent.remote.isGroup() ? lidOfPhone(by) : undefined,
      orphan: 0,
      read: false,
      ack: 1,
    };
  }

  /** The reactions to a message that were not taken back, by emoji. */
  #groupsOf(row: MessageRow): { aggregateEmoji: string; senders: object[] }[] {
    const groups = new Map<string, object[]>();
    for (const by of Object.keys(row.r ?? {})) {
      const { id, reactionParentKey, reactionText, reactionTimestamp, from, author } = this.#reactionOf(
        row,
        by,
      );
      if (reactionText === '') continue;
      const sender = {
        msgKey: id,
        parentMsgKey: reactionParentKey,
        senderUserJid: (author ?? from)._serialized,
        reactionText,
        timestamp: reactionTimestamp,
      };
      groups.set(reactionText, [...(groups.get(reactionText) ?? []), sender]);
    }
    return Array.from(groups, ([aggregateEmoji, senders]) => ({ aggregateEmoji, senders }));
  }
}

/** Actions that change only the message. Each says whether it changed anything. */
const CHANGES = { pin: changePin, reschedule: changeEvent, rsvp: changeResponse };

function isYounger(msg: Msg, windowMs: number): boolean {
  return Date.now() - msg.t * 1000 < windowMs;
}
