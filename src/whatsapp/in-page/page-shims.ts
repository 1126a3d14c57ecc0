import type { PageWindow } from './page-functions.js';

/*
 * Shims, inside the WhatsApp Web page: what the library and our own code expect of the page, and newer builds do not have. Each
 * shim detects its feature and names the builds that it serves. See page-functions.ts for the rules that such functions follow.
 */

declare const window: PageWindow;

/**
 * Mends the page for the library. Runs after every page load, before anything else is installed; running twice changes nothing.
 * What cannot be mended stays as it is: the page contract (page-contract.ts) finds it.
 */
export function installShims(): void {
  const MsgKey = window.require('WAWebMsgKey');
  const sending = window.require('WAWebSendMsgChatAction');
  const { createWid } = window.require('WAWebWidFactory');
  const { Msg, Chat } = window.require('WAWebCollections');

  /*
   * Builds from 2.3000.1042401057 (July 2026): the text of a key is in a field with a minified name, and `_serialized` is gone. The
   * library reads `_serialized`, and copies keys with Object.assign: only an own, enumerable field survives.
   */
  const probe = new MsgKey({ fromMe: true, remote: createWid('0@c.us'), id: 'FLOTILLA' });
  const text = probe.toString();
  const fields = Object.entries(probe as object);
  const field = fields.find(([, value]) => value === text)?.[0];
  if (probe._serialized !== text && field !== undefined) {
    const write = (key: object, value: unknown) => {
      for (const name of [field, '_serialized'])
        Object.defineProperty(key, name, { value, writable: true, enumerable: true, configurable: true });
    };
    // The constructor assigns the field, so that the setter sees every new key.
    Object.defineProperty(MsgKey.prototype, field, {
      configurable: true,
      set(this: object, value: unknown) {
        write(this, value);
      },
    });
    const mend = (key: object | null | undefined) => {
      if (key && !Object.hasOwn(key, '_serialized')) write(key, String(key));
    };
    for (const { id } of Msg.getModelsArray()) mend(id);
    for (const { lastReceivedKey } of Chat.getModelsArray()) mend(lastReceivedKey);
  }

  /*
   * Builds from 2.3000.1047775310 (September 2026): media that is prepared for a message brings `__x_id`. The library spreads it over
   * the message, where it overwrites the message's own id (wwebjs#201921 to #201925).
   */
  const send = sending.addAndSendMsgToChat;
  if (!sending.isMendedByFlotilla && typeof send === 'function') {
    sending.addAndSendMsgToChat = (chat, message, ...rest) => {
      delete message.__x_id;
      return send(chat, message, ...rest);
    };
    sending.isMendedByFlotilla = true;
  }
}
