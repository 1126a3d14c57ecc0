import { parsePhoneNumber, phoneNumberHint, plain } from '../platform/http/phone-number.js';

/** The recipient of a message: its WhatsApp chat, and its address in the API. */
export interface Recipient {
  chatId: string;
  /** A phone number's digits, or the chat id of a group or a hidden number. */
  address: string;
}

/** Longer than any chat id. */
const maxLength = 64;

/**
 * Parses a person or a group as a request names it: a phone number in any usual notation, or any id that WhatsApp has for it
 * (`…@c.us`, `…@s.whatsapp.net`, `…@lid`, `…@g.us`).
 * @returns null if it is neither
 */
export function parseRecipient(to: string): Recipient | null {
  if (to.length > maxLength) return null;
  const text = plain(to).toLowerCase();
  const lid = /^(\d{5,20})(?:[.:_]\d{1,5})*@lid$/.exec(text)?.[1];
  if (lid !== undefined) return { chatId: `${lid}@lid`, address: `${lid}@lid` };
  if (/^\d{5,20}(-\d{5,20})?@g\.us$/.test(text)) return { chatId: text, address: text };
  const phone = parsePhoneNumber(to);
  return phone === null ? null : { chatId: `${phone}@c.us`, address: phone };
}

/** What is wrong with a text that names no person, and the cure. */
export function recipientHint(text: unknown, endings = '@c.us, @lid or @g.us'): string {
  const hint = phoneNumberHint(text);
  return hint.startsWith('must be') ? `${hint}, or a chat id that ends in ${endings}` : hint;
}
