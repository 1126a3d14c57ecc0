import { contentOf, type OutgoingMessage, textOf } from './content.js';
import type { Media } from './media.js';
import { type Account, Msg, msgOfRow, rowOf } from './models.js';
import type { MessageRow, Store } from './store.js';

/** A message that a program makes by itself and sends by another way than chats: a post in a channel, or a story. */
export abstract class OwnMessage extends Msg {
  /** Its number in the channel. */
  declare serverId?: number;

  /** The page has this ack of it. */
  updateAck(ack: number): void {
    this.row.a = ack;
    this.set({ ack });
  }

  /** What a channel says of its media. */
  avParams(): object {
    const { mimetype, filehash, size, directPath } = this;
    return { mimetype, filehash, size, directPath };
  }
}

interface Parts {
  account: Account;
  store: Store;
  media: Media;
}

/** The class that makes such messages out of the attributes that whatsapp-web.js gives. */
export function ownMessageClass({
  account,
  store,
  media,
}: Parts): new (message: OutgoingMessage) => OwnMessage {
  return class extends OwnMessage {
    constructor(message: OutgoingMessage) {
      if (Object.hasOwn(message, '__x_id'))
        throw new Error(
          "Data passed to getter must include an id property (it's how we memoize) but got undefined",
        );
      const row = rowOfOwn(message, store.nextOrder());
      super({ ...msgOfRow(row, account.me, true, media) }, row, media);
    }
  };
}

/** The row does not wait for an ack as messages of chats do: the page does not send it again by itself. */
function rowOfOwn(message: OutgoingMessage, order: number): MessageRow {
  const row = rowOf(message.id, { ...message, body: textOf(message), content: contentOf(message), order });
  delete row.p;
  return row;
}
