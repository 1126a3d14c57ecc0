import type { Content } from '../journal/content.js';

/** Types of messages that the ledger names as Flotilla's API does, and WhatsApp's page differently. */
const names: [ledger: string, whatsapp: string][] = [
  ['event', 'event_creation'],
  ['channel_invite', 'newsletter_admin_invite'],
  ['text', 'chat'],
  ['voice', 'ptt'],
  ['poll', 'poll_creation'],
  ['contact', 'vcard'],
  ['contact', 'multi_vcard'],
];

/** The ledger's name of a type that a page sent. */
export function fromWhatsAppType(whatsappType: string): string {
  return names.find(([, whatsapp]) => whatsapp === whatsappType)?.[0] ?? whatsappType;
}

/** WhatsApp's name of a type in the ledger. */
export function toWhatsAppType(type: string, { contacts }: Content): string {
  if (type === 'contact') return contacts?.length === 1 ? 'vcard' : 'multi_vcard';
  return names.find(([ledger]) => ledger === type)?.[1] ?? type;
}
