import { parsePhoneNumberFromString } from 'libphonenumber-js/max';

/**
 * Reads a phone number in any usual notation with its country code: `+62 812-3456-7890`, `0062812…`, `62812…`.
 * @returns its digits without a plus, or null when it is no possible number
 */
export function parsePhoneNumber(text: string): string | null {
  const trimmed = text.trim();
  if (!/^[+\d][\d\s().-]{4,30}$/.test(trimmed)) return null;
  const international = trimmed.startsWith('+') ? trimmed : `+${trimmed.replace(/^00/, '')}`;
  const parsed = parsePhoneNumberFromString(international);
  return parsed?.isPossible() ? parsed.number.slice(1) : null;
}
