import { parsePhoneNumber, phoneNumberHint, plain } from '../platform/http/phone-number.js';

/** The recipient of a message: its WhatsApp chat, and its address in the API. */
export interface Recipient {
  chatId: string;
  /** A phone number's digits, or the chat id of a group or a hidden number. */
  address: string;
}

const stories = 'status@broadcast';

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

/** Whether a chat id is that of stories or of a channel, where one posts and writes to nobody. */
export function isPostPlace(chatId: string): boolean {
  return chatId === stories || chatId.endsWith('@newsletter');
}

/** Parses where a message goes: to a person or a group, or as a story (`status`) or a post into a channel (`…@newsletter`). */
export function parseDestination(to: string): Recipient | null {
  const text = to.length > maxLength ? '' : to.trim().toLowerCase();
  if (text === 'status' || text === stories) return { chatId: stories, address: stories };
  if (/^\d{5,30}@newsletter$/.test(text)) return { chatId: text, address: text };
  return parseRecipient(to);
}

/** What is wrong with a text that names no person, and the cure. */
export function recipientHint(text: unknown, endings = '@c.us, @lid or @g.us'): string {
  const hint = phoneNumberHint(text);
  return hint.startsWith('must be') ? `${hint}, or a chat id that ends in ${endings}` : hint;
}
