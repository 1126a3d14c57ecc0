import { mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Config } from '../../src/platform/config/config.js';
import { type Api, type Answer, startApi } from '../support/api.js';
import { operations } from '../support/documented.js';
import { eventually } from '../support/eventually.js';
import { scratchDatabase } from '../support/scratch-database.js';

/* What callers get wrong around a request: its encoding, its headers, its nulls and its ids. */

let drop: () => Promise<void>;
let mediaDir: string;
let config: Config;
let api: Api;
let workspaceId: string;
let otherId: string;
let key: string;
let accountId: string;

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  mediaDir = await mkdtemp(join(tmpdir(), 'media-'));
  config = {
    ...scratch.config,
    database: { ...scratch.config.database, poolSize: 3 },
    media: { ...scratch.config.media, path: mediaDir },
    http: { ...scratch.config.http, rateLimitPerAddress: 3 },
  };
  api = await startApi(config);
  workspaceId = (await api.call('POST', '/workspaces', { name: 'first' })).body.id;
  otherId = (await api.call('POST', '/workspaces', { name: 'second' })).body.id;
  key = (await newKey({})).body.key;
  accountId = uuidv7();
  await api.database.query(
    `insert into accounts (id, workspace_id, name, environment, status, phone_number)
     values ($1, $2, 'a', 'sandbox', 'ready', '6281')`,
    [accountId, workspaceId],
  );
}, 60_000);
afterAll(async () => {
  await api?.close();
  await drop?.();
  await rm(mediaDir, { recursive: true, force: true });
}, 30_000);

const call = (method: string, path: string, body?: unknown) => api.call(method, path, body, key);
const newKey = (more: object) =>
  api.call('POST', `/workspaces/${workspaceId}/api-keys`, { name: 'k', role: 'owner', ...more });
const to = '+6281234567890';

/** A request with these very bytes and headers. */
async function raw(
  method: string,
  path: string,
  body: Buffer | string | undefined,
  headers: Record<string, string>,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(`${api.url}${path}`, { method, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () =>
        resolve({
          status: response.statusCode!,
          headers: new Headers(response.headers as Record<string, string>),
          body: JSON.parse(Buffer.concat(chunks).toString() || 'null'),
        }),
      );
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

describe('a body', () => {
  const text = JSON.stringify({ to, text: 'Café à 5 €' });
  const utf16 = Buffer.from(`\ufeff${text}`, 'utf16le');
  const json = 'application/json';
  const cases: [
    what: string,
    body: Buffer | string | undefined,
    type: string | undefined,
    status: number,
    code: string,
    detail: RegExp,
  ][] = [
    ['in Latin-1', Buffer.from(text, 'latin1'), json, 400, 'request.malformed', /not UTF-8/],
    ['in UTF-16', utf16, json, 400, 'request.malformed', /not UTF-8/],
    [
      'that ends within a character',
      Buffer.from(text).subarray(0, text.length),
      json,
      400,
      'request.malformed',
      /not UTF-8|not JSON/,
    ],
    [
      'that says it is Latin-1',
      text,
      `${json}; charset=iso-8859-1`,
      415,
      'request.unsupported_media_type',
      /UTF-8/,
    ],
    ['without Content-Type', text, undefined, 415, 'request.unsupported_media_type', /no Content-Type/],
    [
      'as curl -d sends it',
      text,
      'application/x-www-form-urlencoded',
      415,
      'request.unsupported_media_type',
      /x-www-form-urlencoded/,
    ],
    [
      'as plain text',
      text,
      'text/plain; charset=utf-8',
      415,
      'request.unsupported_media_type',
      /text\/plain/,
    ],
    [
      'as a form',
      `--x\r\n\r\n${text}\r\n--x--`,
      'multipart/form-data; boundary=x',
      415,
      'request.unsupported_media_type',
      /multipart/,
    ],
    ['that is an array', `[${text}]`, json, 400, 'validation.failed', /^body: must be a JSON object/],
    ['that is a text', JSON.stringify(text), json, 400, 'validation.failed', /^body: must be a JSON object/],
    ['that is null', 'null', json, 400, 'validation.failed', /^body: must be a JSON object/],
    ['that is empty', '', json, 400, 'validation.failed', /^body: .*must be a JSON object/],
    ['that is not there', undefined, undefined, 400, 'validation.failed', /^body: .*must be a JSON object/],
  ];

  it.each(cases)('%s', async (_what, body, type, status, code, detail) => {
    for (const [method, path] of [
      ['POST', '/messages'],
      ['POST', '/webhooks'],
      ['POST', '/messages/batch'],
    ] as const) {
      const headers = { 'x-api-key': key, ...(type === undefined ? {} : { 'content-type': type }) };
      const answer = await raw(method, path, body, headers);
      expect(answer.body).toMatchObject({ status, code, detail: expect.stringMatching(detail) });
      expect(JSON.stringify(answer.body.errors ?? [])).not.toContain('"path":"to"');
    }
    expect((await call('GET', '/messages')).body.items).toEqual([]);
  });

  it('may be missing where no field is required, and may begin with a byte order mark', async () => {
    expect(
      (
        await raw('POST', `/workspaces/${workspaceId}/api-keys/${uuidv7()}/rotate`, undefined, {
          'x-api-key': config.adminApiKey,
        })
      ).body.code,
    ).toBe('api_key.not_found');
    expect(
      (
        await raw('POST', '/accounts', `\ufeff{"name": "Zoë"}`, {
          'x-api-key': key,
          'content-type': 'Application/JSON;charset="UTF-8"',
        })
      ).body,
    ).toMatchObject({ name: 'Zoë' });
  });

  it('has a URL whose text is UTF-8', async () => {
    for (const query of ['to=%E9', 'to=%', 'cursor=%zz'])
      expect((await call('GET', `/messages?${query}`)).body).toMatchObject({
        status: 400,
        errors: [{ path: 'url' }],
      });
  });
});

describe('null', () => {
  it('means left out, at every depth, and in every item of a batch', async () => {
    const wanted = {
      accountId,
      to,
      type: null,
      text: 'hello',
      ...{ media: null, location: null, contact: null, poll: null, replyTo: null, mentions: null },
      ...{ priority: null, sendAt: null, expiresAt: null, metadata: null },
    };
    const sent = await call('POST', '/messages', wanted);
    expect([sent.status, sent.body]).toEqual([
      202,
      expect.objectContaining({ type: 'text', priority: 'normal', metadata: {} }),
    ]);
    const place = { latitude: 1, longitude: 2, name: null, address: null };
    const batch = await call('POST', '/messages/batch', {
      messages: [wanted, { accountId, to, type: 'location', location: place }],
    });
    expect(batch.body.items.map(({ status }: { status: number }) => status)).toEqual([202, 202]);
  });

  it('lets everything in an answer be sent back', async () => {
    const { body: file } = await call('POST', '/messages', {
      accountId,
      to,
      type: 'document',
      media: { data: Buffer.from('a,b\n').toString('base64'), mimetype: 'text/csv', filename: 'a.csv' },
    });
    const parts = [
      { type: 'document', media: file.media },
      { type: 'location', location: { latitude: 1, longitude: 2 } },
      { type: 'contact', contact: { name: 'Siti', phone: to } },
      { type: 'poll', poll: { question: 'When?', options: ['now', 'later'] } },
    ];
    for (const part of parts) {
      const { body: first, status } = await call('POST', '/messages', { accountId, to, ...part });
      expect([status, first]).toEqual([202, expect.anything()]);
      const {
        type,
        text,
        media,
        location,
        contact,
        poll,
        mentions,
        replyTo,
        metadata,
        priority,
        scheduledFor,
      } = first;
      const again = {
        accountId,
        to,
        type,
        text,
        media,
        location,
        contact,
        poll,
        mentions,
        replyTo,
        metadata,
        priority,
        sendAt: scheduledFor,
      };
      const second = await call('POST', '/messages', again);
      expect([second.status, second.body]).toEqual([
        202,
        expect.objectContaining({ type, media, location, contact, poll }),
      ]);
    }
    const renamed = await call('POST', '/messages', {
      accountId,
      to,
      type: 'document',
      media: { ...file.media, filename: 'b.csv' },
    });
    expect(renamed.body).toMatchObject({ status: 400, errors: [{ path: 'media.filename' }] });

    const { body: account } = await call('POST', '/accounts', {
      name: 'x',
      labels: ['a'],
      pacing: { jitter: 0.5, burst: null },
    });
    const { name, labels, pacing, receive, proxyUrl, placement } = account;
    expect(pacing).toEqual({ jitter: 0.5 });
    const changed = await call('PATCH', `/accounts/${account.id}`, {
      name,
      labels,
      pacing,
      receive,
      proxyUrl,
      placement,
    });
    expect([changed.status, changed.body]).toEqual([200, account]);

    const { body: webhook } = await call('POST', '/webhooks', {
      url: 'https://93.184.216.34/x',
      events: ['*'],
      secret: null,
      description: null,
      accountIds: null,
    });
    const { url, events, accountIds, description, isEnabled } = webhook;
    expect(
      (
        await call('PATCH', `/webhooks/${webhook.id}`, {
          url,
          events,
          accountIds,
          description,
          isEnabled,
          secret: null,
        })
      ).status,
    ).toBe(200);

    const { body: own } = await api.call('GET', `/workspaces/${workspaceId}`);
    const { limits, defaultCountry, unknownPolicy } = own;
    expect(
      (
        await api.call('PATCH', `/workspaces/${workspaceId}`, {
          name: own.name,
          limits,
          pacing: own.pacing,
          defaultCountry,
          unknownPolicy,
        })
      ).status,
    ).toBe(200);
  });

  it('is no value for a required field, and keeps its own meaning where it has one', async () => {
    expect((await call('POST', '/accounts', { name: null })).body).toMatchObject({
      status: 400,
      errors: [{ path: 'name' }],
    });
    expect((await call('POST', '/messages', { accountId, to: null, text: 'x' })).body).toMatchObject({
      status: 400,
      errors: [{ path: 'to' }],
    });
    const limit = async (maxAccounts: number | null) =>
      (await api.call('PATCH', `/workspaces/${workspaceId}`, { limits: { maxAccounts } })).body.limits
        .maxAccounts;
    expect([await limit(9), await limit(null)]).toEqual([9, null]);
  });
});

describe('an address that a proxy forwards with its port', () => {
  it.each([
    ['192.0.2.7:5678', ['192.0.2.0/24'], '192.0.2.7'],
    ['[2001:db8::7]:443', ['2001:db8::/32'], '2001:db8::7'],
    ['[2001:db8::8]', ['2001:db8::8'], '2001:db8::8'],
    ['"[2001:db8::9]:80"', ['2001:db8::9'], '2001:db8::9'],
    ['192.0.2.8:1, 127.0.0.1:9', ['192.0.2.8'], '192.0.2.8'],
    ['::ffff:192.0.2.9', ['192.0.2.9'], '::ffff:192.0.2.9'],
  ])('%s is in an allow-list, and in the audit log', async (forwarded, allowedIps, address) => {
    const { key: bound } = (await newKey({ allowedIps })).body;
    const headers = { 'x-api-key': bound, 'content-type': 'application/json' };
    expect(
      (await raw('GET', '/workspace', undefined, { ...headers, 'x-forwarded-for': forwarded })).status,
    ).toBe(200);
    const elsewhere = { ...headers, 'x-forwarded-for': '198.51.100.1:5678' };
    expect((await raw('GET', '/workspace', undefined, elsewhere)).body).toMatchObject({
      status: 401,
      detail: expect.stringContaining(' 198.51.100.1.'),
    });
    expect(
      (await raw('GET', '/workspace', undefined, { ...headers, 'x-forwarded-for': 'unknown' })).status,
    ).toBe(401);
    await raw('POST', '/accounts', '{"name":"from a proxy"}', { ...headers, 'x-forwarded-for': forwarded });
    const entry = () => api.call('GET', `/admin/logs?type=audit&workspaceId=${workspaceId}`);
    await eventually(
      'the log has the address',
      async () => (await entry()).body.items[0]?.details.ip === address,
    );
  });

  it('shares one limit of wrong keys with its other connections', async () => {
    const guess = (port: number) =>
      raw('GET', '/workspace', undefined, {
        'x-api-key': 'flk_wrong',
        'x-forwarded-for': `203.0.113.5:${port}`,
      });
    const statuses = [];
    for (let port = 1; port <= 4; port += 1) statuses.push((await guess(port)).status);
    expect(statuses).toEqual([401, 401, 401, 429]);
  });
});

describe('a request that cannot mean what it says', () => {
  it('a key that would never work', async () => {
    for (const [more, path] of [
      [{ expiresAt: '2020-01-01T00:00:00Z' }, 'expiresAt'],
      [{ expiresAt: new Date().toISOString() }, 'expiresAt'],
      [{ allowedIps: [] }, 'allowedIps'],
    ] as const)
      expect((await newKey(more)).body).toMatchObject({ status: 400, errors: [{ path }] });
    const { id } = (await newKey({})).body;
    expect(
      (
        await api.call('POST', `/workspaces/${workspaceId}/api-keys/${id}/rotate`, {
          expiresAt: '2020-01-01T00:00:00Z',
        })
      ).body,
    ).toMatchObject({ status: 400, errors: [{ path: 'expiresAt' }] });
  });

  it("a workspace's key with the id of another workspace", async () => {
    for (const [method, path, body] of [
      ['GET', '/messages'],
      ['GET', '/workspace'],
      ['POST', '/accounts', { name: 'x' }],
      ['GET', '/events'],
    ] as const) {
      expect((await call(method, `${path}?workspaceId=${otherId}`, body)).body, path).toMatchObject({
        status: 403,
        code: 'auth.other_workspace',
      });
      expect((await call(method, `${path}?workspaceId=x`, body)).body, path).toMatchObject({
        status: 400,
        errors: [{ path: 'workspaceId' }],
      });
    }
    expect((await call('GET', `/messages?workspaceId=${workspaceId.toUpperCase()}`)).status).toBe(200);
  });

  it('an event id from the future', async () => {
    const future = '9000000000000000000-1';
    const stream = await raw('GET', '/events', undefined, { 'x-api-key': key, 'last-event-id': future });
    expect(stream.body).toMatchObject({ status: 400, code: 'events.invalid_cursor' });
    const newest = /newest id is (\d+-\d+)/.exec(stream.body.detail)![1]!;
    const { body: webhook } = await call('POST', '/webhooks', {
      url: 'https://93.184.216.34/y',
      events: ['*'],
    });
    const replay = (after: string) =>
      call('POST', `/webhooks/${webhook.id}/replay`, { since: '2026-01-01T00:00:00Z', after });
    expect((await replay(future)).body).toMatchObject({ status: 400, code: 'events.invalid_cursor' });
    expect((await replay(newest)).status).toBe(202);
    const resumed = await fetch(`${api.url}/events`, {
      headers: { 'x-api-key': key, 'last-event-id': newest },
    });
    expect(resumed.status).toBe(200);
    await resumed.body!.cancel();
  });

  it('a period that ends before it begins', async () => {
    const { body: webhook } = await call('POST', '/webhooks', {
      url: 'https://93.184.216.34/z',
      events: ['*'],
    });
    const replay = (until: string) =>
      call('POST', `/webhooks/${webhook.id}/replay`, { since: '2026-11-24T08:00:00Z', until });
    for (const until of ['2026-11-24T07:59:59Z', '2026-11-24T09:30:00+02:00', '2020-01-01T00:00:00Z'])
      expect((await replay(until)).body, until).toMatchObject({
        status: 400,
        errors: [{ path: 'until', message: 'must be later than since' }],
      });
    expect((await replay('2026-11-24T09:30:00+01:00')).status).toBe(202);
  });

  it('an id in a path that is none: the error names the parameter', async () => {
    const uuid = '01960000-0000-7000-8000-000000000000';
    const checked: string[] = [];
    for (const { method, path, parameters } of operations) {
      const ids = parameters.filter(({ in: where, name }) => where === 'path' && /^(id|\w+Id)$/.test(name));
      for (const { name } of ids) {
        if (/^\/api\/v1\/admin\//.test(path)) continue;
        const wrong = path
          .replace(`{${name}}`, 'not-an-id')
          .replaceAll(/\{groupId\}/g, '120363012345678901@g.us')
          .replaceAll(/\{(chatId|contactId|phone)\}/g, '+6281234567890')
          .replaceAll(/\{\w+\}/g, uuid)
          .slice('/api/v1'.length);
        const answer = await raw(method, wrong, undefined, { 'x-api-key': config.adminApiKey });
        const scoped = await raw(method, `${wrong}?workspaceId=${workspaceId}`, undefined, {
          'x-api-key': config.adminApiKey,
        });
        const found = [answer, scoped].find(({ body }) => body.errors?.[0]?.path === name);
        expect(found?.status, `${method} ${path}: ${JSON.stringify(scoped.body)}`).toBe(400);
        checked.push(path);
      }
    }
    expect(checked.length).toBeGreaterThan(50);
  }, 60_000);
});

describe('deleting', () => {
  /** The events of an open stream, once it is closed. */
  async function follow(ofKey: string): Promise<{ types: string[]; close: () => Promise<void> }> {
    const response = await fetch(`${api.url}/events?types=message.*`, { headers: { 'x-api-key': ofKey } });
    const types: string[] = [];
    const reading = (async () => {
      // A chunk may end in the middle of a line.
      const text = await response.text();
      types.push(...[...text.matchAll(/^event: (.*)$/gm)].map((found) => found[1]!));
    })();
    return { types, close: () => reading };
  }

  it('a workspace tells its streams what became of 300 waiting messages, also while another transaction holds back events', async () => {
    const { id } = (await api.call('POST', '/workspaces', { name: 'short' })).body;
    const { key: own } = (await api.call('POST', `/workspaces/${id}/api-keys`, { name: 'k', role: 'owner' }))
      .body;
    const { id: account } = (await api.call('POST', '/accounts', { name: 'a' }, own)).body;
    const stream = await follow(own);
    const messages = Array.from({ length: 300 }, () => ({ accountId: account, to, text: 'x' }));
    await api.call('POST', '/messages/batch', { messages }, own);
    const holder = api.database.createQueryRunner();
    await holder.startTransaction();
    await holder.query('select pg_current_xact_id()');
    const deleted = api.call('DELETE', `/workspaces/${id}`);
    // Longer than the streams of other processes have for the last events.
    await delay(1_000);
    await holder.commitTransaction();
    await holder.release();
    expect((await deleted).status).toBe(204);
    await stream.close();
    expect(stream.types.filter((type) => type === 'message.queued')).toHaveLength(300);
    expect(stream.types.filter((type) => type === 'message.cancelled')).toHaveLength(300);
    expect(
      (await api.database.query('select count(*)::int from messages where workspace_id = $1', [id]))[0].count,
    ).toBe(0);
  }, 60_000);

  it('an account ends a request that waits for one of its messages', async () => {
    const { id } = (await call('POST', '/accounts', { name: 'a' })).body;
    const waiting = call('POST', '/messages?wait=sent&timeoutMs=15000', { accountId: id, to, text: 'x' });
    await expect
      .poll(async () => (await api.database.query('select from messages where account_id = $1', [id])).length)
      .toBe(1);
    const started = performance.now();
    expect((await call('DELETE', `/accounts/${id}`)).status).toBe(204);
    expect((await waiting).status).toBeLessThan(500);
    expect(performance.now() - started).toBeLessThan(10_000);
  });

  it('and a reaction to a message that ended is refused for good', async () => {
    const { body } = await call('POST', '/messages', { accountId, to, text: 'x' });
    await call('DELETE', `/messages/${body.id}`);
    const answer = await call('POST', `/messages/${body.id}/reaction`, { emoji: '👍' });
    expect(answer.body).toMatchObject({
      status: 409,
      code: 'message.not_sent',
      detail: expect.stringContaining('It will not be sent'),
    });
  });
});

it('no page says what it is made with', async () => {
  const origin = new URL(api.url).origin;
  for (const path of [
    '/admin/queues',
    '/admin/queues/static/favicon.svg',
    '/admin/queues/api/queues',
    '/docs',
    '/health',
    '/nothing',
  ]) {
    const { headers } = await fetch(`${origin}${path}`, {
      headers: { authorization: `Bearer ${config.adminApiKey}` },
      redirect: 'manual',
    });
    expect(headers.get('x-powered-by'), path).toBeNull();
  }
});
