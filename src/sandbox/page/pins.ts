import type { Actions, Change } from './actions.js';
import { lidOfPhone, MsgKey } from './ids.js';
import type { Msg } from './models.js';
import type { MessageRow, Store } from './store.js';

/** WhatsApp shows this many pinned messages in a chat; a newer pin ends the oldest. */
const MAX_PINS = 3;
const PIN = 1;
const WEEK_SECONDS = 7 * 24 * 3600;

/** The modules of WhatsApp Web about messages that are pinned in their chats. */
export function pinModules(store: Store, actions: Actions) {
  const constants = { getPinExpiryDuration: (): number => WEEK_SECONDS };
  return {
    WAWebPinMsgConstants: constants,
    WAWebSendPinMessageAction: {
      sendPinInChatMsg: async (msg: Msg, pinType: number) => {
        // Looked up each time: whatsapp-web.js replaces the function.
        const seconds = pinType === PIN ? constants.getPinExpiryDuration() : 0;
        try {
          await actions.act('pin', msg, String(seconds));
          return { messageSendResult: 'OK' };
        } catch {
          // The real page answers with a result when the server refuses.
          return { messageSendResult: 'ERROR_UNKNOWN' };
        }
      },
    },
    WAWebPinInChatSchema: {
      getTable: () => ({ equals: async (_index: unknown, chat: string) => pinsOf(await store.pinned(chat)) }),
    },
  };
}

/** The pins that count, as WhatsApp Web has them in its table. */
function pinsOf(rows: MessageRow[]): object[] {
  const now = Date.now();
  return rows
    .filter(({ q }) => q!.s > 0 && q!.t + q!.s * 1000 > now)
    .sort((a, b) => b.q!.t - a.q!.t)
    .slice(0, MAX_PINS)
    .map(({ id, q }) => ({
      pinType: PIN,
      parentMsgKey: id,
      chatId: MsgKey.fromString(id).remote._serialized,
      pinExpiryDuration: q!.s,
      senderTimestampMs: q!.t,
      sender: lidOfPhone(q!.by),
    }));
}

/** @returns whether the row changed */
export function changePin(row: MessageRow, _msg: Msg | undefined, { by, text, at }: Change): boolean {
  if ((row.q?.t ?? 0) >= at) return false;
  row.q = { by, s: Number(text), t: at };
  return true;
}
