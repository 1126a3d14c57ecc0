import { operations, type Operation, resolve } from './documented.js';
import { keyRoles, nobody, pathOf, type Tenants, validBody } from './tenants.js';

/** One request as it goes on the wire. */
export interface FuzzRequest {
  method: string;
  path: string;
  headers: [name: string, value: string][];
  body: string | Buffer | undefined;
  /** Whose key it carries. */
  who: string;
}

/** Numbers from 0 to 1 that a seed determines (mulberry32), so that a run can be repeated. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const deep = (levels: number, open: string, close: string) =>
  `${open.repeat(levels)}1${close.repeat(levels)}`;

const nastyTexts = [
  '',
  ' ',
  '\u0000',
  'a\u0000b',
  '\ud800',
  '\udfff\ud800',
  '\u202e\u2066RTL\u2069',
  '𝕬\u0301\u0301\u0301👩‍👩‍👧‍👦',
  'x'.repeat(70_000),
  "' or 1=1 --",
  "'; drop table messages; --",
  '$1',
  '%',
  '%00',
  '\\',
  '../../etc/passwd',
  '${7*7}{{7*7}}',
  'a\r\nX-Injected: yes',
  '<script>alert(1)</script>',
  'null',
  'undefined',
  'NaN',
  '1e999',
  '-1',
  '9'.repeat(400),
  '0x10',
  nobody,
  '00000000-0000-0000-0000-000000000000',
  '2026-13-45T99:99:99Z',
  '+275760-09-13T00:00:00.001Z',
  '0000-01-01T00:00:00Z',
  '2026-11-25T10:00:00',
  '2026-11-25T10:00:00+23:59',
  '2026',
  '2026-W10',
  '20261125T100000Z',
  'http://169.254.169.254/latest/meta-data',
  'file:///etc/passwd',
  'javascript:alert(1)',
  '__proto__',
  'constructor',
  'toString',
];
const nastyValues: unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  -0,
  0.1,
  1e308,
  -1e308,
  2 ** 31,
  2 ** 53,
  -(2 ** 63),
  [],
  [[]],
  {},
  [null],
  { $ne: 1 },
  { length: 3 },
  { toString: 1 },
  Array.from({ length: 3_000 }, (_item, index) => index),
];
const nastyKeys = [
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  '',
  'a.b',
  '$where',
  'id',
  'workspaceId',
  'status',
];
const nastySegments = [
  '..',
  '.',
  '%2e%2e',
  '%2e%2e%2f',
  '%2f',
  '%00',
  '%ff',
  '%',
  '%zz',
  '%c0%ae',
  '%0d%0aX:1',
  '//',
  '',
  ';a=b',
  '*',
  "'",
  'a'.repeat(3_000),
  '__proto__',
];
const nastyTypes = [
  'text/plain',
  'application/x-www-form-urlencoded',
  'multipart/form-data',
  'multipart/form-data; boundary=x',
  'application/json; charset=utf-7',
  'application/json; charset=latin-1',
  'application/JSON',
  'application/problem+json',
  'x',
  '',
];
const nastyHeaders: [string, string][] = [
  ['Idempotency-Key', 'x'.repeat(300)],
  ['Idempotency-Key', '\u00ff'],
  ['Idempotency-Key', ''],
  ['Last-Event-ID', '9'.repeat(40)],
  ['Last-Event-ID', "1-1'"],
  ['X-Request-Id', 'a'.repeat(500)],
  ['Content-Encoding', 'gzip'],
  ['Content-Encoding', 'br, gzip, deflate'],
  ['Accept', 'image/png'],
  ['Accept', '*/*;q=NaN'],
  ['Range', 'bytes=0-,-1'],
  ['If-None-Match', '*'],
  ['Cookie', 'flotilla_admin=99999999999999.x'],
  ['X-Forwarded-For', '127.0.0.1, \u00e9'],
  ['Origin', 'null'],
  ['Expect', '100-continue'],
  ['X-HTTP-Method-Override', 'DELETE'],
];
const nastyBodies = [
  '{',
  '[',
  '"',
  'nul',
  '\ufeff{}',
  '{"a":1}{"b":2}',
  '{"to":"x","to":"y"}',
  '{"__proto__":{"isAdmin":true}}',
  '{"constructor":{"prototype":{"isAdmin":true}}}',
  deep(20_000, '[', ']'),
  deep(20_000, '{"a":', '}'),
  deep(40, '{"metadata":', '}'),
  `[${'1,'.repeat(50_000)}1]`,
  Buffer.from([0xff, 0xfe, 0x00, 0x7b]),
  Buffer.from([0x7b, 0x22, 0xc3, 0x28, 0x22, 0x3a, 0x31, 0x7d]),
  'x'.repeat(1_100_000),
];
const oddMethods = ['HEAD', 'OPTIONS', 'PUT', 'PATCH', 'DELETE', 'TRACE', 'PROPFIND', 'POST', 'SEARCH'];

/** Makes one request after another out of the document: some valid, most wrong in one or several ways. */
export function fuzzRequests(random: () => number, tenants: Tenants, others: Tenants, adminKey: string) {
  const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)]!;
  const chance = (share: number) => random() < share;
  const text = () => (chance(0.8) ? pick(nastyTexts) : String.fromCodePoint(Math.floor(random() * 0x10ffff)));
  const value = (): unknown => (chance(0.6) ? text() : pick(nastyValues));

  function mutate(original: unknown, depth = 0): unknown {
    if (depth > 6 || chance(0.12)) return value();
    if (Array.isArray(original)) {
      if (chance(0.1)) return Array.from({ length: pick([0, 2, 60]) }, () => original[0]);
      return original.map((item) => (chance(0.5) ? mutate(item, depth + 1) : item));
    }
    if (typeof original !== 'object' || original === null) return chance(0.5) ? value() : original;
    const entries = Object.entries(original).map(([key, item]): [string, unknown] => [
      key,
      chance(0.3) ? mutate(item, depth + 1) : item,
    ]);
    if (entries.length > 0 && chance(0.15)) entries.splice(Math.floor(random() * entries.length), 1);
    if (chance(0.2)) entries.push([pick(nastyKeys), value()]);
    return Object.fromEntries(entries);
  }

  function optional(operation: Operation): object {
    const known = Object.keys(resolve(operation.body)?.properties ?? {});
    return Object.fromEntries(known.filter(() => chance(0.15)).map((name) => [name, value()]));
  }

  function query(operation: Operation): string {
    const names = operation.parameters.filter((one) => one.in === 'query').map(({ name }) => name);
    const parts: string[] = [];
    for (const name of names.filter((one) => one !== 'workspaceId' && chance(0.3))) {
      const raw = pick([
        '1',
        '200',
        '201',
        '-1',
        'NaN',
        '1e9',
        '',
        '%',
        '%00',
        '%ff',
        "'",
        'x',
        encode(text().slice(0, 2_000)),
      ]);
      parts.push(`${name}=${raw}`);
      if (chance(0.2)) parts.push(`${name}=again`, `${name}[]=1`, `${name}[__proto__]=1`);
    }
    if (chance(0.1)) parts.push(`${encode(pick(nastyKeys))}=${encode(text().slice(0, 200))}`);
    if (chance(0.02)) parts.push('api_key=x');
    return parts.join('&');
  }

  return function next(): FuzzRequest {
    const operation = pick(operations);
    const who = pick(['nobody', 'a wrong key', 'stranger', 'admin', ...keyRoles, ...keyRoles]);
    const keys: Record<string, string | undefined> = {
      ...tenants.keys,
      nobody: undefined,
      'a wrong key': 'flk_wrong',
      stranger: tenants.stranger,
      admin: adminKey,
    };
    const key = keys[who];
    // Only the admin may touch what is another workspace's; of the bystanders nobody may.
    const target = who !== 'admin' && chance(0.3) ? others : tenants;
    const isDestructive = operation.method === 'DELETE' || /\/(logout|migrate)$/.test(operation.path);
    let { path } = pathOf(operation, isDestructive && chance(0.9) ? { things: new Map() } : target);
    if (operation.path === '/api/v1/workspaces/{id}' && operation.method === 'DELETE')
      path = `/api/v1/workspaces/${nobody}`;
    if (chance(0.15)) {
      const segments = path.split('/');
      segments[1 + Math.floor(random() * (segments.length - 1))] = pick(nastySegments);
      path = segments.join('/');
    }
    const parts = [
      query(operation),
      who === 'admin' && chance(0.8) ? `workspaceId=${tenants.first.id}` : '',
    ].filter(Boolean);
    if (parts.length > 0) path += `?${parts.join('&')}`;
    const headers: [string, string][] = [];
    if (key !== undefined)
      headers.push(chance(0.8) ? ['Authorization', `Bearer ${key}`] : ['X-Api-Key', key]);
    if (chance(0.15)) headers.push(pick(nastyHeaders));
    const valid = validBody(operation, target);
    let body: string | Buffer | undefined;
    if (valid !== undefined || chance(0.05)) {
      const given = { ...(valid as object), ...optional(operation) };
      body = chance(0.12) ? pick(nastyBodies) : (JSON.stringify(chance(0.2) ? valid : mutate(given)) ?? '');
      headers.push(['Content-Type', chance(0.92) ? 'application/json' : pick(nastyTypes)]);
    }
    const method = chance(0.05) ? pick(oddMethods) : operation.method;
    return { method, path, headers, body, who };
  };
}

function encode(text: string): string {
  return encodeURIComponent(text.toWellFormed());
}

/** A line for a terminal that makes the same request. */
export function curlOf({ method, path, headers, body }: FuzzRequest, url: string): string {
  const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
  const shown = body === undefined ? '' : ` --data-binary ${quote(String(body).slice(0, 2_000))}`;
  const lines = headers.map(([name, value]) => ` -H ${quote(`${name}: ${value}`)}`).join('');
  return `curl --path-as-is -g -i -X ${method} ${quote(`${url}${path}`)}${lines}${shown}`;
}
