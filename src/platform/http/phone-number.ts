import {
  type CountryCode,
  getCountryCallingCode,
  isSupportedCountry,
  parsePhoneNumberFromString,
} from 'libphonenumber-js/max';
import { LRUCache } from 'lru-cache';
import { presentContext } from '../context.js';

/** A number is parsed when its request is validated, and again when it is used: the second time, the cache has it. */
const cache = new LRUCache<string, { digits: string | null }, { text: string; country: CountryCode | null }>({
  max: 10_000,
  memoMethod: (_key, _stale, { context: { text, country } }) => ({
    digits: readNumber(plain(text), country),
  }),
});
/** Longer than any number in any notation. */
const maxLength = 64;
/** WhatsApp's id of a person by number. A device of the person may follow the number. */
const whatsappId = /^(\d{5,20})(?:[.:_]\d{1,5})*@(?:c\.us|s\.whatsapp\.net)$/i;
/** Forms of numbers that WhatsApp keeps, although the countries have changed them: libraries call them impossible. */
const oldForms = /^(?:521\d{10}|225\d{8}|229\d{8})$/;
/** What people write between the digits of a number. */
const separators = /[\s\p{Z}\p{Pd}\p{Ps}\p{Pe}\u2212.]/gu;

/** Reads the numbers of the present request that begin with a single 0 as numbers of this country. Without it, numbers need a country code. */
export function setDefaultCountry(country: string | null): void {
  const current = presentContext();
  if (current) current.country = country !== null && isCountry(country) ? country : null;
}

/** Whether this is the ISO 3166 code of a country whose numbers are known, for example `ID`. */
export function isCountry(text: string): text is CountryCode {
  return /^[A-Z]{2}$/.test(text) && isSupportedCountry(text);
}

/**
 * The text without invisible marks, with the digits and the signs of all scripts as those of ASCII.
 * @returns the text as it is if it has only ASCII
 */
export function plain(text: string): string {
  if (/^[\x20-\x7e]*$/.test(text)) return text.trim();
  return text
    .normalize('NFKC')
    .replace(/\p{Cf}/gu, '')
    .replace(/\p{Nd}/gu, (digit) => String(valueOf(digit)))
    .trim();
}

/**
 * Parses a phone number in any usual notation, or WhatsApp's id of a person by number: `+62 812-3456-7890`, `0062812…`,
 * `62812…`, `62812…@c.us`, `62812…@s.whatsapp.net`, in the digits of any script.
 * @returns its digits with country code, without a plus. Null if it is not a possible number
 */
export function parsePhoneNumber(text: string): string | null {
  if (text.length > maxLength) return null;
  const country = presentContext()?.country ?? null;
  // The same text is another number in another country.
  return cache.memo(`${country ?? ''} ${text}`, { context: { text, country } }).digits;
}

/** What is wrong with a text that is no phone number, and the cure. */
export function phoneNumberHint(text: unknown): string {
  const isNational =
    typeof text === 'string' &&
    text.length <= maxLength &&
    /^0[1-9]\d{3,}$/.test(plain(text).replace(separators, ''));
  if (!isNational) return 'must be a phone number with country code, for example +6281234567890';
  return presentContext()?.country
    ? 'is not a number of the defaultCountry of the workspace: write it with its country code, for example +6281234567890'
    : 'has no country code: write it as +6281234567890, or set defaultCountry of the workspace (PATCH /workspace)';
}

/** The digits that a country has added to its numbers, or that WhatsApp leaves out or puts in: Brazil, Mexico, Argentina, Benin, Ivory Coast. */
const addedDigits = [
  /^(55\d\d)9(?=\d{8}$)/,
  /^(52)1(?=\d{10}$)/,
  /^(54)9(?=\d{10}$)/,
  /^(229)01(?=\d{8}$)/,
  /^(225)\d\d(?=\d{8}$)/,
];

/** The form of a number that all its forms share: two numbers with the same shared form reach the same person. */
export function sharedForm(number: string): string {
  return addedDigits.reduce((rest, added) => rest.replace(added, '$1'), number);
}

/** Whether two numbers, as digits with country code, are the same or two forms of the same number. */
export function isSameNumber(one: string, other: string): boolean {
  return sharedForm(one) === sharedForm(other);
}

/**
 * The numbers that a text in a list of a country may mean, as digits with country code. People leave out the country code and,
 * in a spreadsheet, the first 0: `55 1234 5678` is a number of Mexico in a list of Mexico. The present request plays no part.
 * @param text as {@link plain} returns it
 * @returns none if the text is no number, one, or several if nobody can tell which number is meant
 */
export function listedNumbers(text: string, country: CountryCode | null): string[] {
  const digits = text.replace(separators, '');
  if (country === null || !/^[1-9]\d{4,14}$/.test(digits) || oldForms.test(digits))
    return known([readNumber(text, country)]);
  const international = parsePhoneNumberFromString(`+${digits}`);
  const isOfCountry = international?.countryCallingCode === getCountryCallingCode(country);
  // Most numbers of a list have the code of its country. For the library, such a number can also be one that only begins alike.
  if (isOfCountry && international?.isValid()) return [international.number.slice(1)];
  const read = known([readNumber(text, null), possible(digits, country)]);
  if (read.length < 2) return read;
  const real = read.filter((number) => parsePhoneNumberFromString(`+${number}`)?.isValid());
  return real.length > 0 ? real : read;
}

function known(numbers: (string | null)[]): string[] {
  return [...new Set(numbers)].filter((number) => number !== null);
}

function readNumber(text: string, country: CountryCode | null): string | null {
  const id = whatsappId.exec(text);
  if (id) return id[1]!;
  const written = text.replace(separators, '');
  if (!/^\+?\d{5,22}$/.test(written)) return null;
  if (/^0[^0]/.test(written)) return country && possible(written, country);
  const digits = written.replace(/^(\+|00)/, '');
  return oldForms.test(digits) ? digits : possible(`+${digits}`);
}

function possible(text: string, country?: CountryCode): string | null {
  const parsed = parsePhoneNumberFromString(text, country);
  return parsed?.isPossible() ? parsed.number.slice(1) : null;
}

/** The value of a digit of any script: Unicode has the ten digits of a script in a row. */
function valueOf(digit: string): number {
  let value = 0;
  for (let code = digit.codePointAt(0)! - 1; /\p{Nd}/u.test(String.fromCodePoint(code)); code -= 1)
    value += 1;
  return value % 10;
}
