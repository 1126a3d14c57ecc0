import { addressOf, lidOfPhone, MsgKey, phoneOfWid, widOfPhone } from './ids.js';
import { chatWidOf } from './models.js';

/** What is done to messages that were sent: edits, revocations and reactions, of this account and of the others. */
export class Actions {
  #store;
  #link;
  #account;
  #rules;
  #collections;
  #tellReactions;
  #tellVotes;

  /**
   * @param tellReactions hands over reactions as WhatsApp Web writes them to its table, where whatsapp-web.js listens
   * @param tellVotes the same of votes in polls
   */
  constructor({ store, link, account, rules, tellReactions, tellVotes }) {
    this.#store = store;
    this.#link = link;
    this.#account = account;
    this.#rules = rules;
    this.#tellReactions = tellReactions;
    this.#tellVotes = tellVotes;
  }

  attach(collections) {
    this.#collections = collections;
    collections.Reactions.find = async (id) => {
      const key = typeof id === 'string' ? id : id._serialized;
      const row = collections.Msg.get(key)?.row ?? (await this.#store.find(key));
      const groups = row ? this.#groupsOf(row) : [];
      return { id: key, reactions: { length: groups.length, serialize: () => groups } };
    };
  }

  canEdit(msg) {
    return msg.id.fromMe && msg.type === 'chat' && msg.ack > 0 && isYounger(msg, this.#rules.editWindowMs);
  }

  canEditCaption(msg) {
    const { type } = msg;
    const isCaptioned = type === 'image' || type === 'video' || type === 'document';
    return msg.id.fromMe && isCaptioned && msg.ack > 0 && isYounger(msg, this.#rules.editWindowMs);
  }

  canRevoke(msg) {
    return msg.id.fromMe && msg.type !== 'revoked' && isYounger(msg, this.#rules.revokeWindowMs);
  }

  edit(msg, text) {
    return this.#submit('edit', msg, text);
  }

  revoke(msg) {
    return this.#submit('revoke', msg, '');
  }

  /** @param emoji an empty one takes the reaction back */
  react(msg, emoji) {
    return this.#submit('reaction', msg, emoji);
  }

  /** Takes in what the server tells; what is known already, or older, changes nothing. */
  async receive({ k, chat, fromMe, author, id, by, text, at }) {
    const remote = chatWidOf(this.#collections, chat);
    const key = MsgKey.ofEvent(remote, { fromMe, id, author }, this.#account.me);
    const msg = this.#collections.Msg.get(key);
    const row = msg ? msg.row : await this.#store.find(key._serialized);
    if (!row) return;
    if (k === 'reaction') this.#changeReaction(row, msg, { by, text, at });
    else if (k === 'vote') this.#changeVote(row, msg, { by, text, at });
    else if (k === 'edit') this.#changeText(row, msg, { text, at });
    else this.#markRevoked(row, msg, at);
  }

  /** The server has to have it first: resolves once it has, and this page shows it. */
  async #submit(k, msg, text) {
    const { fromMe, remote, id, participant } = msg.id;
    const chat = addressOf(remote);
    const author = participant && phoneOfWid(participant);
    const { at } = await this.#link.ask('act', { deed: { action: k, chat, fromMe, author, id, text } });
    await this.receive({ k, chat, fromMe, author, id, by: this.#account.me.user, text, at });
  }

  #changeText(row, msg, { text, at }) {
    if (row.y === 'revoked' || (row.e ?? 0) >= at) return;
    row.b = text;
    row.e = at;
    this.#store.saveSoon(row);
    msg?.set({ [msg.directPath ? 'caption' : 'body']: text, latestEditSenderTimestampMs: at });
  }

  #markRevoked(row, msg, at) {
    if (row.y === 'revoked') return;
    row.y = 'revoked';
    row.b = '';
    row.v = at;
    this.#store.saveSoon(row);
    msg?.set({
      type: 'revoked',
      body: '',
      protocolMessageKey: msg.id,
      revokeTimestamp: Math.floor(at / 1000),
    });
  }

  #changeReaction(row, msg, { by, text, at }) {
    row.r ??= {};
    if ((row.r[by]?.t ?? 0) >= at) return;
    row.r[by] = { e: text, t: at };
    this.#store.saveSoon(row);
    msg?.set({ hasReaction: Object.values(row.r).some(({ e }) => e !== '') });
    void this.#tellReactions([this.#reactionOf(row, by)]);
  }

  /** @param text the options that are chosen now, as JSON */
  #changeVote(row, msg, { by, text, at }) {
    row.w ??= {};
    if ((row.w[by]?.t ?? 0) >= at) return;
    const options = row.x?.poll?.options ?? [];
    row.w[by] = { o: JSON.parse(text).map((name) => options.indexOf(name)), t: at };
    this.#store.saveSoon(row);
    void this.#tellVotes([this.#voteOf(row, by)]);
  }

  /** The votes in a poll, as they lie in the table. */
  async votesOf(key) {
    const row = this.#collections.Msg.get(key)?.row ?? (await this.#store.find(key));
    return Object.keys(row?.w ?? {}).map((by) => this.#voteOf(row, by));
  }

  #voteOf(row, by) {
    const parent = MsgKey.fromString(row.id);
    const { o, t } = row.w[by];
    const fromMe = by === this.#account.me.user;
    return {
      id: new MsgKey({ fromMe, remote: parent.remote, id: `V${by}${parent.id}` }),
      pollUpdateParentKey: parent,
      parentMsgKey: parent._serialized,
      selectedOptionLocalIds: o,
      senderTimestampMs: t,
      t: Math.floor(t / 1000),
      from: widOfPhone(by),
      sender: widOfPhone(by),
    };
  }

  /** A reaction as it lies in the table. */
  #reactionOf(row, by) {
    const parent = MsgKey.fromString(row.id);
    const { e, t } = row.r[by];
    const fromMe = by === this.#account.me.user;
    return {
      id: MsgKey.ofEvent(parent.remote, { fromMe, id: `R${by}${parent.id}`, author: by }, this.#account.me),
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

  /** The reactions to a message that stand, by emoji. */
  #groupsOf(row) {
    const groups = new Map();
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

function isYounger(msg, windowMs) {
  return Date.now() - msg.t * 1000 < windowMs;
}
