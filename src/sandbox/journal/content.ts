import { given } from '../../platform/database/given.js';
import type { MediaPointer } from '../network/media.js';

/** What a message carries besides its text. */
export interface Content {
  /** With the hash of the plain bytes, which a judge compares. */
  media?: MediaPointer & { sha256: string };
  location?: { latitude: number; longitude: number; description?: string };
  contacts?: { name: string; vcard: string }[];
  poll?: { question: string; options: string[]; multiple: boolean };
  /** The WhatsApp id of the message that it answers. */
  replyTo?: string;
  /** Digits of phone numbers. */
  mentions?: string[];
}

/** What a page says that a message carries: of its media the hash is still to be found out. */
export type SubmittedContent = Omit<Content, 'media'> & { media?: MediaPointer };

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
