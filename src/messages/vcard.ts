import { parsePhoneNumber } from '../platform/http/phone-number.js';
import type { MessageContact } from './content.dto.js';

/** Longer than any real name on a card. */
const maxTextLength = 256;
/** A property of a card that we read: its name, its parameters and its value. */
const property = /^(?:[\w-]+\.)?(FN|N|TEL|ORG)(;[^:]*)?:(.*)$/i;

/** The card of a contact as WhatsApp sends it: vCard 3.0, with the WhatsApp number. */
export function toVcard({ name, phone, organization }: MessageContact): string {
  return [
    'BEGIN:VCARD',
    'VERSION:3.0',
    `N:;${escaped(name)};;;`,
    `FN:${escaped(name)}`,
    ...(organization === null ? [] : [`ORG:${escaped(organization)};`]),
    ...(phone === null ? [] : [`TEL;type=CELL;type=VOICE;waid=${phone}:+${phone}`]),
    'END:VCARD',
  ].join('\n');
}

/** Reads a received card. If a property occurs several times, the first counts. */
export function fromVcard(card: string): MessageContact {
  // A long line continues on the next line, after a blank (RFC 2426).
  const lines = card.replace(/\r?\n[ \t]/g, '').split(/\r?\n/);
  /** By property: the parameters and the value of its first line. */
  const first = new Map<string, [string, string]>();
  for (const line of lines) {
    const [, name = '', parameters = '', value = ''] = property.exec(line) ?? [];
    if (name !== '' && !first.has(name.toUpperCase())) first.set(name.toUpperCase(), [parameters, value]);
  }
  const valueOf = (name: string) => first.get(name)?.[1];
  const name = unescaped(valueOf('FN') ?? valueOf('N')?.split(';').reverse().filter(Boolean).join(' ') ?? '');
  const [parameters, number] = first.get('TEL') ?? ['', ''];
  const waid = /;waid=(\d{5,20})/i.exec(parameters)?.[1];
  const organization = unescaped((valueOf('ORG') ?? '').replace(/(?<!\\);.*$/s, ''));
  return {
    name: name.slice(0, maxTextLength),
    phone: waid ?? parsePhoneNumber(number),
    organization: organization === '' ? null : organization.slice(0, maxTextLength),
  };
}

function escaped(text: string): string {
  return text.replace(/[\\,;]/g, '\\$&').replace(/\r?\n/g, '\\n');
}

function unescaped(text: string): string {
  return text.replace(/\\([\\,;nN])/g, (_match, char: string) => (/n/i.test(char) ? '\n' : char)).trim();
}
