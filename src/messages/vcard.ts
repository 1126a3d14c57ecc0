import { parsePhoneNumber } from '../platform/http/phone-number.js';
import type { MessageContact } from './content.dto.js';

/** Longer than any name on a card that a person reads. */
const longestText = 256;

/** A contact as the card that WhatsApp sends: vCard 3.0, with the WhatsApp number. */
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

/** What is read of a card that somebody sent: the first of each. */
export function fromVcard(card: string): MessageContact {
  // A long line goes on in the next one, behind a blank (RFC 2426).
  const lines = card.replace(/\r?\n[ \t]/g, '').split(/\r?\n/);
  const find = (name: string) =>
    lines.map((line) => new RegExp(`^(?:[\\w-]+\\.)?${name}(;[^:]*)?:(.*)$`, 'i').exec(line)).find(Boolean);
  const name = unescaped(
    find('FN')?.[2] ?? find('N')?.[2]?.split(';').reverse().filter(Boolean).join(' ') ?? '',
  );
  const [, parameters = '', number = ''] = find('TEL') ?? [];
  const waid = /;waid=(\d{5,20})/i.exec(parameters)?.[1];
  const organization = unescaped((find('ORG')?.[2] ?? '').replace(/(?<!\\);.*$/s, ''));
  return {
    name: name.slice(0, longestText),
    phone: waid ?? parsePhoneNumber(number),
    organization: organization === '' ? null : organization.slice(0, longestText),
  };
}

function escaped(text: string): string {
  return text.replace(/[\\,;]/g, '\\$&').replace(/\r?\n/g, '\\n');
}

function unescaped(text: string): string {
  return text.replace(/\\([\\,;nN])/g, (_match, char: string) => (/n/i.test(char) ? '\n' : char)).trim();
}
