import { ValidationFailed } from '../errors/problem.js';

/** What a JSON body may consist of. These caps keep parsing, copying and validating cheap. */
export interface JsonCaps {
  /** Values in all: texts, numbers, true, false, null, arrays and objects. Keys do not count. */
  values: number;
  /** Arrays and objects in each other. */
  depth: number;
  /** The fields of an object. */
  fields: number;
  /** The elements of an array. */
  elements: number;
  /** The bytes between the quotes of a text or a key. */
  textBytes: number;
  /** The name of the only field whose text may have any length. */
  longField?: string;
}

/**
 * The caps of most bodies. They follow from the API's own limits: the longest text has 65,536 characters, and an escaped
 * character has six bytes. 16,384 bytes of metadata have at most 8,192 values and about 2,700 fields. No other part is as large.
 */
export const defaultCaps: JsonCaps = {
  values: 10_000,
  depth: 32,
  fields: 3_000,
  elements: 8_192,
  textBytes: 6 * 65_536,
};

/** The caps of callers that Flotilla trusts. The depth is limited all the same. */
export const trustedCaps: JsonCaps = {
  values: Infinity,
  depth: defaultCaps.depth,
  fields: Infinity,
  elements: Infinity,
  textBytes: Infinity,
};

const quote = 0x22;
const comma = 0x2c;
const colon = 0x3a;
const openArray = 0x5b;
const backslash = 0x5c;
const closeArray = 0x5d;
const openObject = 0x7b;
const closeObject = 0x7d;
/** After so many bytes of a text, native search is faster than the loop. */
const shortRun = 256;
/** The characters of a key and of a path that an error shows. */
const shownKeyLength = 50;
const shownPathLength = 200;

const isSpace = tableOf('\t\n\r ');
/** The bytes that end a number, true, false or null. */
const endsScalar = tableOf('\t\n\r ,:"[]{}');

/** The way from the whole body to the present container. Level 0 is the body itself. */
interface Way {
  bytes: Buffer;
  isArray: boolean[];
  /** How many elements or fields of the container are behind the position. */
  counts: number[];
  /** Where the present key begins and ends. */
  keyStarts: number[];
  keyEnds: number[];
}

/**
 * Checks a JSON text in UTF-8 before it is parsed, in one pass over its bytes that makes no objects. It also refuses text that
 * PostgreSQL cannot store: NUL characters and halves of surrogate pairs, which only escapes can express. It does not check the
 * syntax: where it stops early, `JSON.parse` fails.
 * @throws ValidationFailed if the text exceeds a cap, or is not an object
 */
export function checkJson(bytes: Buffer, caps: JsonCaps): void {
  const way: Way = { bytes, isArray: [false], counts: [0], keyStarts: [0], keyEnds: [0] };
  const { isArray, counts, keyStarts, keyEnds } = way;
  const search = { quote: -1, backslash: -1 };
  let depth = 0;
  let values = 0;
  let isKey = false;
  let at = hasByteOrderMark(bytes) ? 3 : 0;
  while (at < bytes.length) {
    const byte = bytes[at]!;
    if (byte === colon || isSpace[byte] === 1) {
      at += 1;
      continue;
    }
    if (byte === comma) {
      const count = (counts[depth]! += 1);
      if (count >= (isArray[depth] ? caps.elements : caps.fields)) {
        const most = isArray[depth] ? `${caps.elements} elements` : `${caps.fields} fields`;
        throw refusal(way, depth - 1, `has more than ${most}. Send fewer in one request`);
      }
      isKey = !isArray[depth];
      at += 1;
      continue;
    }
    if (byte === closeArray || byte === closeObject) {
      if (depth === 0) return;
      depth -= 1;
      isKey = false;
      at += 1;
      continue;
    }
    if (depth === 0 && byte !== openObject) throw refusal(way, 0, 'must be a JSON object');
    if (!isKey) {
      values += 1;
      if (values > caps.values)
        throw refusal(way, 0, `has more than ${caps.values} values in all. Send fewer in one request`);
    }
    if (byte === quote) {
      const start = at + 1;
      const end = endOfText(bytes, start, search);
      const levels = isKey ? depth - 1 : depth;
      if (end === badUnicode)
        throw refusal(way, levels, 'texts must be well-formed Unicode without NUL characters');
      if (end === unterminated) return;
      if (end - start > caps.textBytes && (isKey || !isLongField(way, depth, caps)))
        throw refusal(way, levels, `has a text of more than ${caps.textBytes} bytes. Shorten it`);
      if (isKey) {
        keyStarts[depth] = start;
        keyEnds[depth] = end;
        isKey = false;
      }
      at = end + 1;
    } else if (byte === openObject || byte === openArray) {
      if (depth === caps.depth)
        throw refusal(way, depth, `must not be nested deeper than ${caps.depth} levels`);
      depth += 1;
      isKey = byte === openObject;
      isArray[depth] = !isKey;
      counts[depth] = 0;
      keyStarts[depth] = keyEnds[depth] = 0;
      at += 1;
    } else {
      do at += 1;
      while (at < bytes.length && endsScalar[bytes[at]!] === 0);
    }
  }
}

function hasByteOrderMark(bytes: Buffer): boolean {
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;
}

const unterminated = -1;
const badUnicode = -2;

/**
 * The position of the quote that ends a text.
 * @param search the next quote and backslash that native search has found. Each byte is searched once only
 */
function endOfText(bytes: Buffer, start: number, search: { quote: number; backslash: number }): number {
  let at = start;
  let runEnd = at + shortRun;
  while (at < bytes.length) {
    const byte = bytes[at]!;
    if (byte === quote) return at;
    if (byte === backslash) {
      const escape = bytes[at + 1] === 0x75 ? escapeLength(bytes, at) : 2;
      if (escape === 0) return badUnicode;
      at += escape;
      runEnd = at + shortRun;
    } else if (at < runEnd) at += 1;
    else {
      if (search.quote < at) search.quote = indexOf(bytes, quote, at);
      if (search.backslash < at) search.backslash = indexOf(bytes, backslash, at);
      at = Math.min(search.quote, search.backslash);
    }
  }
  return unterminated;
}

function indexOf(bytes: Buffer, byte: number, from: number): number {
  const found = bytes.indexOf(byte, from);
  return found === -1 ? bytes.length : found;
}

/** The length of `\uXXXX`, or of two of them that make one character. 0 if it is a NUL or half of a pair. */
function escapeLength(bytes: Buffer, at: number): number {
  const code = codeAt(bytes, at);
  if (code === 0) return 0;
  if (code < 0xd800 || code > 0xdfff) return 6;
  const next =
    code < 0xdc00 && bytes[at + 6] === backslash && bytes[at + 7] === 0x75 ? codeAt(bytes, at + 6) : 0;
  return next >= 0xdc00 && next <= 0xdfff ? 12 : 0;
}

/** The code unit of `\uXXXX`. A code that is not hexadecimal is some other number: `JSON.parse` refuses it. */
function codeAt(bytes: Buffer, at: number): number {
  let code = 0;
  for (let digit = at + 2; digit < at + 6; digit += 1) {
    const byte = bytes[digit] ?? 0;
    const value = byte >= 0x30 && byte <= 0x39 ? byte - 0x30 : (byte | 0x20) - 0x57;
    if (value < 0 || value > 15) return -1;
    code = code * 16 + value;
  }
  return code;
}

function isLongField(way: Way, depth: number, { longField }: JsonCaps): boolean {
  return longField !== undefined && !way.isArray[depth] && keyAt(way, depth) === longField;
}

function keyAt({ bytes, keyStarts, keyEnds }: Way, level: number): string {
  const end = Math.min(keyEnds[level]!, keyStarts[level]! + shownKeyLength);
  return bytes.toString('utf8', keyStarts[level], end);
}

/** An error about the value that the first levels of a way lead to. */
function refusal(way: Way, levels: number, message: string): ValidationFailed {
  const parts: string[] = [];
  for (let level = 1; level <= levels; level += 1)
    parts.push(way.isArray[level] ? String(way.counts[level]) : keyAt(way, level));
  const path = parts.join('.').slice(0, shownPathLength) || 'body';
  return new ValidationFailed([{ path, message }]);
}

function tableOf(characters: string): Uint8Array {
  const table = new Uint8Array(256);
  for (const character of characters) table[character.charCodeAt(0)] = 1;
  return table;
}
