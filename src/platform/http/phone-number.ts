import { parsePhoneNumberFromString } from 'libphonenumber-js/max';
import { LRUCache } from 'lru-cache';

/** A number is read when its request is checked and again when it is used: the second time it is known. */
const known = new LRUCache<string, { digits: string | null }>({
  max: 10_000,
  memoMethod: (text) => ({ digits: parse(text.trim()) }),
});
/** Longer than any number in any notation. */
const longest = 40;

/**
 * Reads a phone number in any usual notation with its country code: `+62 812-3456-7890`, `0062812…`, `62812…`.
 * @returns its digits without a plus, or null when it is no possible number
 */
export function parsePhoneNumber(text: string): string | null {
  if (text.length > longest) return null;
  return known.memo(text).digits;
}

function parse(text: string): string | null {
  if (!/^[+\d][\d\s().-]{4,30}$/.test(text)) return null;
  const international = text.startsWith('+') ? text : `+${text.replace(/^00/, '')}`;
  const parsed = parsePhoneNumberFromString(international);
  return parsed?.isPossible() ? parsed.number.slice(1) : null;
}
