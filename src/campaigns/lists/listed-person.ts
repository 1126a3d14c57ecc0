import { parseRecipient } from '../../messages/recipient.js';
import { listedNumbers, plain, sharedForm } from '../../platform/http/phone-number.js';
import type { CountryCode } from 'libphonenumber-js/max';

/** A person of a list. */
export interface ListedPerson {
  /** The digits of the number with country code, or the id of a hidden number (`…@lid`). */
  to: string;
  /** Equal for two lines that name the same person, also if they hold different forms of the number. */
  person: string;
}

/** Longer than any number in any notation, and than any chat id. */
const maxLength = 64;

/**
 * Reads a person as lists name people: a phone number in any usual notation, or a chat id.
 * @param text trimmed
 * @param country the country of numbers without a country code
 * @returns the reason if the text names no person
 */
export function listedPerson(text: string, country: CountryCode | null): ListedPerson | string {
  if (text === '') return 'is empty: enter the phone number';
  if (text.length > maxLength) return notNumber(country);
  const written = unwrapped(plain(text));
  if (/^[+-]?\d+(?:[.,]\d+)?e[+-]?\d+$/i.test(written))
    return 'is a number that the spreadsheet has rounded, so its last digits are lost: format the column as text, enter the numbers again, and save the list again';
  if (written.includes('@')) return chat(written);
  const numbers = listedNumbers(written, country);
  const [to] = numbers;
  if (to === undefined) return notNumber(country);
  if (numbers.length > 1)
    return `may be ${numbers.map((number) => `+${number}`).join(' or ')}: write the number with + and its country code`;
  return { to, person: sharedForm(to) };
}

/** Removes what a spreadsheet puts around the digits of a number. */
function unwrapped(text: string): string {
  if (/^\+?\d+$/.test(text)) return text;
  const value = text
    // A text that must not become a number: '0812 or ="0812".
    .replace(/^'/, '')
    .replace(/^="(.*)"$/, '$1')
    .trim();
  // 628123456789.0, from a program that has read the column as decimal numbers.
  if (/^\d{7,}[.,]0{1,2}$/.test(value)) return value.slice(0, value.search(/[.,]/));
  // 628,123,456,789
  return /^\d{1,3}(?:,\d{3})+$/.test(value) ? value.replaceAll(',', '') : value;
}

function chat(id: string): ListedPerson | string {
  const recipient = parseRecipient(id);
  if (!recipient) return 'must be a phone number with country code, or a chat id that ends in @c.us or @lid';
  const { address } = recipient;
  if (address.endsWith('@g.us'))
    return 'is a group: a campaign writes to persons only, and POST /messages writes to a group';
  return { to: address, person: sharedForm(address) };
}

function notNumber(country: CountryCode | null): string {
  return country === null
    ? 'is not a phone number with country code: write it as +6281234567890, or set the country of the list'
    : `is neither a phone number of ${country} nor a number with country code: write it as +6281234567890`;
}
