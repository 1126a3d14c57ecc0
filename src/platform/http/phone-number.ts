import { parsePhoneNumberFromString } from 'libphonenumber-js/max';
import { LRUCache } from 'lru-cache';

/** A number is parsed when its request is validated, and again when it is used: the second time, the cache has it. */
const cache = new LRUCache<string, { digits: string | null }>({
  max: 10_000,
  memoMethod: (text) => ({ digits: parse(text.trim()) }),
});
/** Longer than any number in any notation. */
const maxLength = 40;

/**
 * Parses a phone number with country code, in any usual notation: `+62 812-3456-7890`, `0062812…`, `62812…`.
 * @returns its digits without a plus. Null if it is not a possible number
 */
export function parsePhoneNumber(text: string): string | null {
  if (text.length > maxLength) return null;
  return cache.memo(text).digits;
}

function parse(text: string): string | null {
  if (!/^[+\d][\d\s().-]{4,30}$/.test(text)) return null;
  const international = text.startsWith('+') ? text : `+${text.replace(/^00/, '')}`;
  const parsed = parsePhoneNumberFromString(international);
  return parsed?.isPossible() ? parsed.number.slice(1) : null;
}
