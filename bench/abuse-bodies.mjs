/** The nastiest requests of every route, made from the OpenAPI document. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseJson } from '../setup/json.mjs';
import { PROJECT } from '../setup/settings.mjs';

/**
 * What this file reads of a schema, or of another part of the document.
 *
 * @typedef {object} Schema
 * @property {string} [$ref]
 * @property {string | string[]} [type]
 * @property {Schema[]} [allOf]
 * @property {Schema[]} [anyOf]
 * @property {Record<string, Schema>} [properties]
 * @property {Schema} [items]
 * @property {unknown[]} [examples]
 */
/** @typedef {Schema & { name: string, in: string, example?: unknown }} Parameter */
/** @typedef {Schema & { content?: Record<string, { schema?: Schema }> }} RequestBody */
/** @typedef {{ operationId?: string, parameters?: Parameter[], requestBody?: RequestBody }} OperationPart */
/** @typedef {{ paths: Record<string, Record<string, OperationPart>>, components: object }} Document */

/**
 * @typedef {object} Operation
 * @property {string} method
 * @property {string} path with its parameters in braces
 * @property {Parameter[]} parameters
 * @property {Schema | undefined} body
 */

/** @typedef {{ what: string, method: string, path: string, body?: string }} NastyRequest */

const document = /** @type {Document} */ (
  parseJson(readFileSync(join(PROJECT, 'docs/openapi.json'), 'utf8'))
);

/** @template {Schema} Part @param {Part} part @returns {Part} */
function resolve(part) {
  if (part.$ref === undefined) return part;
  /** @type {unknown} */
  let at = document;
  for (const key of part.$ref.slice(2).split('/')) at = /** @type {Record<string, unknown>} */ (at)[key];
  return resolve(/** @type {Part} */ (at));
}

/** Every operation of the document. @type {Operation[]} */
export const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods)
    .filter(([, { operationId }]) => operationId !== undefined)
    .map(([method, { parameters = [], requestBody }]) => ({
      method: method.toUpperCase(),
      path,
      parameters: parameters.map(resolve),
      body: requestBody && resolve(requestBody).content?.['application/json']?.schema,
    })),
);

/** The parts of a schema, whatever it is put together from. @param {Schema} schema @returns {Schema[]} */
function partsOf(schema) {
  const resolved = resolve(schema);
  return [resolved, ...[...(resolved.allOf ?? []), ...(resolved.anyOf ?? [])].flatMap(partsOf)];
}

/** @param {Schema} schema @returns {[name: string, schema: Schema][]} */
const fieldsOf = (schema) => partsOf(schema).flatMap(({ properties = {} }) => Object.entries(properties));

/** Just below the limits of bodies that the documentation promises: 8 MB below /messages, and 1 MB elsewhere. */
const sizeOf = (/** @type {string} */ path) => (path.startsWith('/api/v1/messages') ? 7_900_000 : 950_000);

/** An array of as many equal items as fit. @param {string} item @param {number} size */
const arrayOf = (item, size) =>
  `[${`${item},`.repeat(Math.max(0, Math.floor(size / (item.length + 1)) - 1))}${item}]`;
/** @param {number} size */
const wideObject = (size) =>
  `{${Array.from({ length: Math.floor(size / 12) }, (_, n) => `"k${String(n).padStart(6, '0')}":1`).join(',')}}`;

/** An item of which every field is wrong in many ways. @param {Schema | undefined} items */
function badItem(items) {
  const fields = items ? fieldsOf(items).map(([name]) => name) : [];
  return `{${[...fields, 'x', '__proto__'].map((name) => `${JSON.stringify(name)}:[{"":[]},["12ab"]]`).join(',')}}`;
}

/** Values of a field, worst first. @type {[what: string, make: (size: number, schema: Schema) => string][]} */
const values = [
  ['empty objects', (size) => arrayOf('{}', size)],
  ['invalid items', (size, schema) => arrayOf(badItem(schema.items), size)],
  ['empty arrays', (size) => arrayOf('[]', size)],
  ['invalid recipients', (size) => arrayOf('"12ab"', size)],
  ['odd recipients', (size) => arrayOf('"+6281234567890 ;ext=1"', size)],
  ['deep arrays', (size) => `${'['.repeat(size / 2)}${']'.repeat(size / 2)}`],
  ['deep objects', (size) => `${'{"a":'.repeat(size / 6)}1${'}'.repeat(size / 6)}`],
  ['a wide object', wideObject],
  ['a thousand invalid items', (size, schema) => arrayOf(badItem(schema.items), Math.min(size, 60_000))],
  ['a long number', (size) => '9'.repeat(size)],
  ['large numbers', (size) => arrayOf('-1.7976931348623157e308', size)],
  ['blanks', (size) => `"${' '.repeat(size)}x"`],
  ['digits', (size) => `"+${'62'.repeat(size / 2)}"`],
  ['digits and blanks', (size) => `"${'1 '.repeat(size / 2)}x"`],
  ['dots', (size) => `"http://${'a.'.repeat(size / 2)}"`],
  ['slashes', (size) => `"${'a/;='.repeat(size / 4)}"`],
  ['at signs', (size) => `"${'a@'.repeat(size / 2)}c.us"`],
  ['escapes', (size) => `"${'\\u0041'.repeat(size / 6)}"`],
  ['half characters', (size) => `"${'\\ud800'.repeat(size / 6)}"`],
  ['times', (size) => `"2026-12-01T00:00:00.${'0'.repeat(size)}Z"`],
];

/** Whole bodies that are no object. @type {typeof values} */
const wholes = [
  ['empty objects at the top', (size) => arrayOf('{}', size)],
  ['empty arrays at the top', (size) => arrayOf('[]', size)],
  ['deep arrays at the top', (size) => `${'['.repeat(size / 2)}${']'.repeat(size / 2)}`],
  ['unknown keys', wideObject],
  ['an open string', (size) => `{"${'x'.repeat(size)}`],
];

/** Values of a parameter in the URL, which has at most 16 kB. */
const urlBaits = [
  'message.*,'.repeat(1_200),
  '1'.repeat(12_000),
  `${'a.'.repeat(6_000)}@c.us`,
  `${'+'.repeat(12_000)}x`,
  `2026-${'0'.repeat(12_000)}`,
  Buffer.from('['.repeat(9_000)).toString('base64url'),
];

/**
 * Requests without an end, the worst kinds of every route first.
 *
 * @param {(path: string) => string} fill puts ids into a path
 * @param {number} [share] of the largest size that is allowed
 * @returns {Generator<NastyRequest, never>}
 */
export function* nastyRequests(fill, share = 1) {
  const withBody = operations.filter(({ body }) => body !== undefined);
  const withQuery = operations.filter(({ parameters }) =>
    parameters.some((parameter) => parameter.in === 'query' && parameter.name !== 'workspaceId'),
  );
  const rounds = Math.max(values.length, wholes.length);
  for (;;) {
    for (let round = 0; round < rounds; round += 1) {
      for (const { method, path, body } of withBody)
        for (const request of bodiesOf(body ?? {}, share * sizeOf(path), round))
          yield { method, path: fill(path), ...request };
      const bait = encodeURIComponent(urlBaits[round % urlBaits.length] ?? '');
      for (const { method, path, parameters } of withQuery)
        for (const { name } of parameters.filter((one) => one.in === 'query' && one.name !== 'workspaceId'))
          yield { what: 'a long query', method, path: `${fill(path)}?${name}=${bait.slice(0, 14_000)}` };
    }
  }
}

/**
 * The bodies of one round for a route: one for each field.
 *
 * @param {Schema} schema
 * @param {number} size
 * @param {number} round
 */
function* bodiesOf(schema, size, round) {
  const whole = wholes[round];
  if (whole) yield { what: whole[0], body: whole[1](size, {}) };
  const [what, make] = values[round % values.length] ?? ['nothing', () => 'null'];
  const example = /** @type {object} */ (resolve(schema).examples?.[0] ?? {});
  for (const [name, field] of fieldsOf(schema)) {
    const others = Object.entries(example).filter(([known]) => known !== name);
    const start = JSON.stringify(Object.fromEntries(others)).slice(0, -1);
    const value = make(size - start.length - name.length - 10, partsOf(field)[0] ?? {});
    yield {
      what: `${what} as ${name}`,
      body: `${start}${others.length > 0 ? ',' : ''}${JSON.stringify(name)}:${value}}`,
    };
  }
}
