import { ValidationFailed } from '../platform/errors/problem.js';

/** What answers show instead of the value of a header, or of the user and password of a URL. */
export const mask = '********';
export const maxHeaders = 20;
const maxNameLength = 100;
const maxValueLength = 4_096;
/** Headers that Flotilla or HTTP itself sets. */
const reserved =
  /^(webhook-.*|content-.*|proxy-.*|host|connection|keep-alive|transfer-encoding|te|trailer|upgrade|expect|accept-encoding)$/i;

/** What is wrong with the headers of a request; null if nothing is. */
export function headersFault(headers: unknown): string | null {
  if (typeof headers !== 'object' || headers === null || Array.isArray(headers))
    return 'must be an object of names and values';
  const entries = Object.entries(headers) as [string, unknown][];
  if (entries.length > maxHeaders) return `must be at most ${maxHeaders} headers`;
  if (new Set(entries.map(([name]) => name.toLowerCase())).size < entries.length)
    return 'must have each name once: upper and lower case are the same';
  for (const [name, value] of entries) {
    const shown = name.slice(0, maxNameLength);
    if (name.length > maxNameLength || !/^[\w!#$%&'*+.^`|~-]+$/.test(name))
      return `has a name that HTTP does not allow: ${shown}`;
    if (reserved.test(name)) return `must not have ${shown}: Flotilla sets it`;
    if (
      typeof value !== 'string' ||
      value.length > maxValueLength ||
      !/^[\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?$/.test(value)
    )
      return `must have a text of 1 to ${maxValueLength} characters of ASCII, without blanks at its ends, for ${shown}`;
  }
  return null;
}

/**
 * The headers that a change asks for: a masked value of an answer stands for the value that the endpoint has.
 * @throws ValidationFailed if the endpoint has no such header
 */
export function unmasked(
  wanted: Record<string, string>,
  present: Record<string, string>,
): Record<string, string> {
  const known = new Map(Object.entries(present).map(([name, value]) => [name.toLowerCase(), value]));
  return Object.fromEntries(
    Object.entries(wanted).map(([name, value]) => {
      const kept = value === mask ? known.get(name.toLowerCase()) : value;
      if (kept === undefined)
        throw new ValidationFailed([
          {
            path: 'headers',
            message: `has the masked value of an answer for ${name}: send the value itself`,
          },
        ]);
      return [name, kept];
    }),
  );
}
