import { given } from '../../platform/database/given.js';
import type { Content } from '../wire-types.js';

/** The ledger speaks our contract's words, the page WhatsApp's. */
const words: [ours: string, whatsapp: string][] = [
  ['text', 'chat'],
  ['voice', 'ptt'],
  ['poll', 'poll_creation'],
  ['contact', 'vcard'],
  ['contact', 'multi_vcard'],
];

export function typeOfPage(whatsappType: string): string {
  return words.find(([, whatsapp]) => whatsapp === whatsappType)?.[0] ?? whatsappType;
}

export function typeForPage(type: string, { contacts }: Content): string {
  if (type === 'contact') return contacts?.length === 1 ? 'vcard' : 'multi_vcard';
  return words.find(([ours]) => ours === type)?.[1] ?? type;
}

/** Those parts of a message that make its content. */
export function contentOf({ media, location, contacts, poll, replyTo, mentions }: Content): Content {
  return given({ media, location, contacts, poll, replyTo, mentions });
}
