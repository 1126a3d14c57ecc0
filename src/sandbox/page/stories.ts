import type { OutgoingMessage } from './content.js';
import { createWid, MsgKey, phoneOfWid, type Wid, widOfPhone } from './ids.js';
import type { Link } from './link.js';
import type { Account, Collections, Msg } from './models.js';
import type { OwnMessage } from './own-message.js';
import type { Store } from './store.js';

const LIFETIME_SECONDS = 24 * 3600;

/** The stories of one person, as they are at this moment. */
class Status {
  declare readonly id: Wid;
  #msgs: Msg[];

  constructor(id: Wid, msgs: Msg[]) {
    this.id = id;
    this.#msgs = msgs;
  }

  serialize(): object {
    return {
      id: this.id,
      t: this.#msgs.at(-1)?.t,
      totalCount: this.#msgs.length,
      // This page never opens a story.
      unreadCount: this.#msgs.filter(({ id }) => !id.fromMe).length,
      msgs: this.#msgs.map((msg) => msg.serialize()),
    };
  }
}

interface StoryText {
  text: string;
  color: number;
  font: number;
}

interface Parts {
  link: Link;
  account: Account;
  store: Store;
  collections: Collections;
  revoke: (msg: Msg) => Promise<void>;
}

/** Fills the collection of stories, and gives the modules of WhatsApp Web that post and revoke them. */
export function storyModules({ link, account, store, collections, revoke }: Parts) {
  const statusOf = (user: Wid): Status | undefined => {
    const phone = phoneOfWid(user);
    const oldest = Date.now() / 1000 - LIFETIME_SECONDS;
    const msgs = collections.Msg.filter(
      ({ id, t, type }) =>
        id.remote.isStatus() && phoneOfWid(id.participant!) === phone && t > oldest && type !== 'revoked',
    );
    return msgs.length > 0 ? new Status(widOfPhone(phone), msgs) : undefined;
  };
  Object.assign(collections.Status, {
    get: (id: string) => statusOf(createWid(id)),
    find: async (id: string) => statusOf(createWid(id)),
    getMyStatus: () => statusOf(account.me!) ?? new Status(account.me!, []),
    getModelsArray: () => {
      const authors = collections.Msg.filter(({ id }) => id.remote.isStatus()).map(({ id }) =>
        phoneOfWid(id.participant!),
      );
      return [...new Set(authors)].flatMap((phone) => statusOf(widOfPhone(phone)) ?? []);
    },
  });

  /** Like the real page, this one does not send a story again by itself. */
  const send = async (msg: OwnMessage) => {
    const { row } = msg;
    row.x = { ...row.x, as: 'story' };
    collections.Msg.add(msg);
    await store.save(row);
    try {
      const story = { id: msg.id.id, type: msg.type, text: row.b, content: row.x };
      await link.ask('story', { story });
      msg.updateAck(1);
      return { messageSendResult: 'OK', msg };
    } catch (error) {
      console.error(error);
      msg.updateAck(-1);
      return { messageSendResult: 'ERROR_UNKNOWN' };
    } finally {
      await store.save(row);
    }
  };

  /** A text gets a key of its own: the message that whatsapp-web.js has made is not sent. */
  const texts = {
    createTextStatusMsgData: async ({ text, color, font }: StoryText): Promise<OutgoingMessage> => ({
      id: new MsgKey({
        fromMe: true,
        remote: createWid('status@broadcast'),
        id: await MsgKey.newId(),
        participant: account.me!,
      }),
      type: 'chat',
      body: text,
      t: Math.floor(Date.now() / 1000),
      ack: 0,
      backgroundColor: color,
      font,
    }),
  };

  return {
    WAWebStatusMsgDataUtils: texts,
    WAWebStatusGatingUtils: { canCheckStatusRankingPosterGating: () => false },
    /** Media of a story were uploaded before the story was made: the story takes their places over. */
    WAWebMediaUpdateMsg: async (
      msg: Msg,
      { directPath, mediaKey, encFilehash }: Partial<Msg>,
    ): Promise<void> => {
      if (!directPath) throw new Error('The media were not uploaded.');
      msg.set({ directPath, mediaKey: mediaKey!, encFilehash: encFilehash! });
    },
    WAWebSendStatusMsgAction: {
      sendStatusTextMsgAction: async (options: StoryText) =>
        send(new collections.Msg.modelClass(await texts.createTextStatusMsgData(options)) as OwnMessage),
      sendStatusMediaMsgAction: async (msg: OwnMessage, update: (msg: OwnMessage) => Promise<void>) => {
        await update(msg);
        return send(msg);
      },
    },
    WAWebRevokeStatusAction: { sendStatusRevokeMsgAction: (_status: Status, msg: Msg) => revoke(msg) },
  };
}
