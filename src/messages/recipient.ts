import { parsePhoneNumber } from '../platform/http/phone-number.js';

/** The recipient of a message: its WhatsApp chat, and its address in the API. */
export interface Recipient {
  chatId: string;
  /** A phone number's digits, or the chat id of a group or a hidden number. */
  address: string;
}

/**
 * Parses the `to` of a request: a phone number with country code in any usual notation, or a WhatsApp chat id.
 * @returns null if it is neither
 */
export function parseRecipient(to: string): Recipient | null {
  const chatId = /^(\d{5,20})@(c\.us|lid)$/.exec(to);
  if (chatId) return { chatId: to, address: chatId[2] === 'c.us' ? chatId[1]! : to };
  if (/^\d{5,20}(-\d{5,20})?@g\.us$/.test(to)) return { chatId: to, address: to };
  const phone = parsePhoneNumber(to);
  return phone === null ? null : { chatId: `${phone}@c.us`, address: phone };
}
