import { parsePhoneNumber, plain } from '../platform/http/phone-number.js';
import type { ContactPhone, MessageContact } from './content.dto.js';

/** Longer than any real name or number on a card. */
const maxTextLength = 256;
/** More numbers than any real card has. */
export const maxPhones = 100;
/** The longest card that a message keeps whole, in characters: with a small photo. */
export const maxVcardLength = 65_536;
/** A property of a card: its group, its name, its parameters and its value. A parameter in quotes may have any sign. */
const property = /^(?:([\w-]+)\.)?([\w-]+)((?:;[^";:]*(?:"[^"]*"[^";:]*)*)*):(.*)$/s;
/** Kinds of numbers that a `type` may name; others need a label. */
const numberTypes = new Set(['cell', 'home', 'work', 'main', 'fax', 'pager', 'other']);
/** Types that say nothing about whose number it is. */
const otherTypes = new Set(['voice', 'pref', 'internet', 'msg', 'text', 'video']);

interface Property {
  group: string;
  /** In upper case. */
  name: string;
  parameters: string;
  value: string;
}

/** The card of a contact as WhatsApp sends it: vCard 3.0, with the WhatsApp numbers. */
export function toVcard({ name, phones, organization }: Omit<MessageContact, 'vcard'>): string {
  return [
    'BEGIN:VCARD',
    'VERSION:3.0',
    `N:;${escaped(name)};;;`,
    `FN:${escaped(name)}`,
    ...(organization === null ? [] : [`ORG:${escaped(organization)};`]),
    ...phones.flatMap(({ number, phone, label }, index) => {
      const waid = phone === null ? '' : `;waid=${phone}`;
      if (label === null || numberTypes.has(label))
        return [`TEL;type=${(label ?? 'cell').toUpperCase()};type=VOICE${waid}:${escaped(number)}`];
      return [
        `item${index + 1}.TEL${waid}:${escaped(number)}`,
        `item${index + 1}.X-ABLabel:${escaped(label)}`,
      ];
    }),
    'END:VCARD',
  ].join('\n');
}

/** A contact of a row. Rows of older versions have one number, and no card. */
export function wholeContact(
  contact: Omit<MessageContact, 'phones' | 'vcard'> & Partial<MessageContact>,
): MessageContact & { vcard: string } {
  const { phone } = contact;
  const { phones = phone === null ? [] : [{ number: `+${phone}`, phone, label: null }] } = contact;
  return { ...contact, phones, vcard: contact.vcard ?? toVcard({ ...contact, phones }) };
}

/** Reads a card of any version. If a property besides numbers occurs several times, the first counts. */
export function fromVcard(card: string): MessageContact {
  const properties = propertiesOf(card);
  const valueOf = (wanted: string) => properties.find(({ name }) => name === wanted)?.value;
  const name = unescaped(valueOf('FN') ?? valueOf('N')?.split(';').reverse().filter(Boolean).join(' ') ?? '');
  const organization = unescaped(/^(?:\\.|[^;\\])*/s.exec(valueOf('ORG') ?? '')![0]);
  const phones = phonesOf(properties);
  return {
    name: shortened(name),
    phone: phones.find(({ phone }) => phone !== null)?.phone ?? null,
    phones,
    organization: organization === '' ? null : shortened(organization),
    vcard: card.length <= maxVcardLength ? card : null,
  };
}

/** The cards of a text: a program may put several into one. A text without any is one card that says nothing. */
export function splitVcards(text: string): string[] {
  const cards = text.split(/^(?=BEGIN:VCARD[ \t\r]*$)/im).filter((part) => /^BEGIN:VCARD/i.test(part));
  return cards.length === 0 ? [text] : cards;
}

/** Whether a text is exactly one card, with the lines that WhatsApp's programs require. */
export function isVcard(text: string): boolean {
  const names = propertiesOf(text.trim());
  const is = (place: number, name: string, value: RegExp) =>
    names.at(place)?.name === name && value.test(names.at(place)!.value.trim());
  const count = (wanted: string) => names.filter(({ name }) => name === wanted).length;
  return (
    is(0, 'BEGIN', /^vcard$/i) &&
    is(-1, 'END', /^vcard$/i) &&
    count('BEGIN') === 1 &&
    count('END') === 1 &&
    names.some(({ name, value }) => name === 'VERSION' && /^(2\.1|3\.0|4\.0)$/.test(value.trim()))
  );
}

function phonesOf(properties: Property[]): ContactPhone[] {
  const labels = new Map(
    properties.filter(({ name }) => name === 'X-ABLABEL').map(({ group, value }) => [group, value]),
  );
  return properties
    .filter(({ name, value }) => name === 'TEL' && value.trim() !== '')
    .slice(0, maxPhones)
    .map(({ group, parameters, value }) => {
      const number = shortened(telOf(unescaped(value)));
      const label = unescaped(labels.get(group) ?? '').replace(/^_\$!<(.*)>!\$_$/, '$1');
      const waid = /;waid=(\d{5,20})/i.exec(parameters)?.[1];
      return {
        number,
        phone: waid ?? internationalOf(number),
        label: label === '' ? typeOf(parameters) : shortened(label),
      };
    });
}

/** The number of a `tel:` URI (RFC 3966), or the text as it is. */
function telOf(text: string): string {
  if (!/^tel:/i.test(text)) return text;
  const [number = ''] = text.slice('tel:'.length).split(';');
  try {
    return decodeURIComponent(number);
  } catch {
    return number;
  }
}

/** Null for a number without a country code: which country its owner means, only a person can tell. */
function internationalOf(number: string): string | null {
  return /^\W*(\+|00)/.test(plain(number)) ? parsePhoneNumber(number) : null;
}

/** The first type that says whose number it is, in lower case: `;type=CELL,VOICE`, or `;CELL;VOICE` of vCard 2.1. */
function typeOf(parameters: string): string | null {
  const types = parameters
    .toLowerCase()
    .split(';')
    .flatMap((parameter) =>
      parameter
        .replace(/^type=/, '')
        .replaceAll('"', '')
        .split(','),
    )
    .filter((type) => /^[\w-]{1,32}$/.test(type));
  return types.find((type) => !otherTypes.has(type)) ?? null;
}

function propertiesOf(card: string): Property[] {
  return linesOf(card).flatMap((line) => {
    const [, group = '', name, parameters = '', value = ''] = property.exec(line) ?? [];
    if (name === undefined) return [];
    const isQuotedPrintable = /;(encoding=)?quoted-printable/i.test(parameters);
    return {
      group: group.toLowerCase(),
      name: name.toUpperCase(),
      parameters,
      value: isQuotedPrintable ? fromQuotedPrintable(value) : value,
    };
  });
}

/** The lines of a card, each with its continuation. */
function linesOf(card: string): string[] {
  // A long line continues on the next line, after a blank (RFC 2426).
  const lines = card.replace(/\r?\n[ \t]/g, '').split(/\r?\n/);
  const whole: string[][] = [];
  // In vCard 2.1 a line in quoted-printable continues after "=".
  let [isQuoted, isContinued] = [false, false];
  for (const line of lines) {
    if (!isContinued) isQuoted = /^[^:]*;(encoding=)?quoted-printable/i.test(line);
    const continues = isQuoted && line.endsWith('=');
    const part = continues ? line.slice(0, -1) : line;
    if (isContinued) whole.at(-1)!.push(part);
    else whole.push([part]);
    isContinued = continues;
  }
  return whole.map((parts) => parts.join(''));
}

function fromQuotedPrintable(text: string): string {
  const bytes = Buffer.from(text).toString('latin1');
  const decoded = bytes.replace(/=([\dA-F]{2})/gi, (_match, hex: string) =>
    String.fromCharCode(parseInt(hex, 16)),
  );
  return Buffer.from(decoded, 'latin1').toString('utf8');
}

function shortened(text: string): string {
  return text.slice(0, maxTextLength);
}

function escaped(text: string): string {
  return text.replace(/[\\,;]/g, '\\$&').replace(/\r\n|\r|\n/g, '\\n');
}

function unescaped(text: string): string {
  return text.replace(/\\([\\,;nN])/g, (_match, char: string) => (/n/i.test(char) ? '\n' : char)).trim();
}
