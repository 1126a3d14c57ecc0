import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ValidationFailed } from '../../src/platform/errors/problem.js';
import { checkJson, defaultCaps, type JsonCaps } from '../../src/platform/http/json-caps.js';

const caps: JsonCaps = { values: 12, depth: 3, fields: 4, elements: 5, textBytes: 20 };

/** The field and the message of the refusal; null if the text is accepted. */
function refusal(text: string, limits = caps): [string, string] | null {
  try {
    checkJson(Buffer.from(text), limits);
    return null;
  } catch (error) {
    if (!(error instanceof ValidationFailed)) throw error;
    const { path, message } = error.errors![0]!;
    return [path, message];
  }
}

/** The same rules, on the parsed value. */
function isWithin(value: unknown, depth = 0, count = { values: 0 }): boolean {
  count.values += 1;
  if (count.values > caps.values) return false;
  const isText = (text: string) => Buffer.byteLength(JSON.stringify(text)) - 2 <= caps.textBytes;
  if (typeof value === 'string') return isText(value) && value.isWellFormed() && !value.includes('\0');
  if (typeof value !== 'object' || value === null) return true;
  if (depth === caps.depth) return false;
  const entries = Object.entries(value);
  if (entries.length > (Array.isArray(value) ? caps.elements : caps.fields)) return false;
  return entries.every(
    ([key, inner]) =>
      (Array.isArray(value) || (isText(key) && key.isWellFormed() && !key.includes('\0'))) &&
      isWithin(inner, depth + 1, count),
  );
}

describe('checkJson', () => {
  const texts = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 22 }),
    fc.string({ unit: fc.constantFrom('"', '\\', '{', ']', ',', ':', 'é', '\0', '\ud83d', '\ude42', 'u') }),
  );
  const { value: json, object } = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: 'small' },
      texts,
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.constantFrom(null, true, false),
      fc.array(tie('value'), { maxLength: 7 }),
      tie('object'),
    ),
    object: fc.dictionary(texts, tie('value'), { maxKeys: 6, noNullPrototype: true }),
  }));

  it('accepts exactly the values within the caps, however they are written', () => {
    fc.assert(
      fc.property(fc.oneof(json, object), fc.constantFrom(undefined, 1, '\t\r\n'), (value, space) => {
        const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
        expect(refusal(JSON.stringify(value, null, space)) === null).toBe(isObject && isWithin(value));
      }),
      { numRuns: 3_000 },
    );
  });

  it('never fails on what is no JSON, and leaves that to JSON.parse', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'{}[]",:\\u0d8 1') }), (text) => {
        refusal(text);
      }),
    );
  });

  it.each([
    ['elements', `{"a": [${'0,'.repeat(5)}0]}`, 'a', 'has more than 5 elements. Send fewer in one request'],
    ['fields', '{"a": [1, {"b":1,"c":1,"d":1,"e":1,"f":1}]}', 'a.1', 'has more than 4 fields'],
    ['depth', '{"a": {"b": [ [] ]}}', 'a.b.0', 'must not be nested deeper than 3 levels'],
    ['values', `{"a": [${'[1,1,1],'.repeat(4)}1]}`, 'body', 'has more than 12 values in all'],
    ['a text', `{"a": [1, "${'x'.repeat(21)}"]}`, 'a.1', 'has a text of more than 20 bytes. Shorten it'],
    ['a key', `{"a": {"${'x'.repeat(21)}": 1}}`, 'a', 'has a text of more than 20 bytes'],
    ['NUL', '{"a": {"b": "x\\u0000"}}', 'a.b', 'texts must be well-formed Unicode without NUL characters'],
    ['half a pair', '{"a": ["\\ud800x"]}', 'a.0', 'texts must be well-formed Unicode'],
  ])('says which cap a body exceeds, and where: %s', (_what, text, path, message) => {
    expect(refusal(text)).toEqual([path, expect.stringContaining(message)]);
  });

  it('allows one field to be long, and only that field', () => {
    const long = 'x'.repeat(1_000);
    const limits = { ...caps, longField: 'data' };
    expect(refusal(JSON.stringify({ a: [{ data: long }] }), limits)).toBe(null);
    expect(refusal(JSON.stringify({ data: [long] }), limits)?.[0]).toBe('data.0');
    expect(refusal(JSON.stringify({ data: { x: long } }), limits)?.[0]).toBe('data.x');
    expect(refusal(JSON.stringify({ [long]: 1 }), limits)?.[0]).toBe('body');
  });

  it('refuses what is not an object', () => {
    for (const text of ['\ufeff [{}]', ' "text"', 'null', '1'])
      expect(refusal(text)).toEqual(['body', 'must be a JSON object']);
    expect(refusal('\ufeff {"a": [1]}')).toBe(null);
  });

  it('stops early: the time of a refusal does not grow with the body', () => {
    const short = '{},'.repeat(10_000);
    const long = '{},'.repeat(3_000_000);
    const time = (text: string) => {
      const bytes = Buffer.from(`{"a":[${text}{}]}`);
      const started = performance.now();
      expect(() => checkJson(bytes, defaultCaps)).toThrow(ValidationFailed);
      return performance.now() - started;
    };
    time(short);
    const best = (text: string) => Math.min(...Array.from({ length: 5 }, () => time(text)));
    expect(best(long)).toBeLessThan(20 * Math.max(best(short), 0.1));
  });
});
