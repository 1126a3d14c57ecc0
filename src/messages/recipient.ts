import { parsePhoneNumber } from '../platform/http/phone-number.js';

/** Whom a message goes to: the WhatsApp chat, and how it is shown. */
export interface Recipient {
  chatId: string;
  /** A phone number's digits, or the chat id of a group or a hidden number. */
  address: string;
}

/**
 * Reads the `to` of a request: a phone number in any usual notation with country code, or a WhatsApp chat id.
 * @returns null when it is neither
 */
export function parseRecipient(to: string): Recipient | null {
  const chatId = /^(\d{5,20})@(c\.us|lid)$/.exec(to);
  if (chatId) return { chatId: to, address: chatId[2] === 'c.us' ? chatId[1]! : to };
  if (/^\d{5,20}(-\d{5,20})?@g\.us$/.test(to)) return { chatId: to, address: to };
  const phone = parsePhoneNumber(to);
  return phone === null ? null : { chatId: `${phone}@c.us`, address: phone };
}
