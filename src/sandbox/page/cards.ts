import { formattedPhoneNumber } from './numbers.js';
import type { Contact } from './models.js';

/** A property of a card, for example one of its phone numbers. */
interface Property {
  value: string;
  /** In lower case. `waid` is a list: a card may name several WhatsApp accounts. */
  properties: Record<string, string | string[]>;
}

type ParsedCard = Record<string, Property[]>;

/** The modules of WhatsApp Web that read and write contact cards. */
export const cardModules = {
  WAWebVcardParsingUtils: { parseVcard },
  WAWebVcardGetNameFromParsed: { vcardGetNameFromParsed: nameOf },
  WAWebFrontendVcardUtils: { vcardFromContactModel: cardOf },
};

/** The properties of a card, by name; undefined for a text that is no card. */
function parseVcard(text: string): ParsedCard | undefined {
  // A line that begins with a space continues the one before.
  const lines = text.replace(/\r?\n[ \t]/g, '').split(/\r?\n/);
  const parsed: ParsedCard = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    if (colon < 0) continue;
    const [name = '', ...parameters] = line.slice(0, colon).split(';');
    const properties: Property['properties'] = {};
    for (const parameter of parameters) {
      const [key = '', value = ''] = parameter.toLowerCase().split('=');
      properties[key] = key === 'waid' ? value.split(',') : value;
    }
    // Some phones put the property into a group, as in "item1.TEL".
    const key = name.toUpperCase().replace(/^.*\./, '');
    (parsed[key] ??= []).push({ value: line.slice(colon + 1), properties });
  }
  const is = (name: string, value: RegExp) => parsed[name]?.some((property) => value.test(property.value));
  const isCard = is('BEGIN', /^vcard$/i) && is('END', /^vcard$/i) && is('VERSION', /^(?:2\.1|3\.0|4\.0)$/);
  return isCard ? parsed : undefined;
}

function nameOf({ FN, NICKNAME, TEL }: ParsedCard): string | null {
  return (FN ?? NICKNAME ?? TEL)?.[0]?.value ?? null;
}

/** The card of a contact. The card of a hidden number has no number. */
function cardOf(contact: Contact): { displayName: string; vcard: string; isMultiVcard: false } {
  const displayName = contact.formattedName.replace(/[\\;,]/g, '\\$&');
  const phone = contact.phoneNumber?.user;
  const lines = [
    'BEGIN:VCARD',
    'VERSION:3.0',
    `N:;${displayName};;;`,
    `FN:${displayName}`,
    ...(phone ? [`TEL;type=CELL;waid=${phone}:${formattedPhoneNumber(phone)}`] : []),
    ...(contact.isBusiness ? [`X-WA-BIZ-NAME:${displayName}`] : []),
    'END:VCARD',
  ];
  return { displayName, vcard: lines.join('\n'), isMultiVcard: false };
}
