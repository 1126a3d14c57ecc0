import { createHmac } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import pg from 'pg';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  Flotilla as Client,
  FlotillaError,
  verifyWebhook,
  WebhookRefused,
} from '../../clients/typescript/src/index.js';
import { Flotilla, type Workspace } from '../support/flotilla.js';

let flotilla: Flotilla;
let workspace: Workspace;
let client: Client;
let accountId: string;

beforeAll(async () => {
  flotilla = await Flotilla.start({ programs: ['api'], env: { EVENT_STREAMS_PER_WORKSPACE: '2' } });
  workspace = await flotilla.newWorkspace();
  client = workspace.client;
  accountId = (await client.post('/accounts', { body: { name: 'Support', environment: 'sandbox' } })).id;
});
afterAll(() => flotilla?.stop());

const send = (text: string) =>
  client.post('/messages', { body: { accountId, to: '+6281234567890', text }, idempotencyKey: text });

describe('the typed client', () => {
  it('calls operations with their path, query and body, and gets what they answer', async () => {
    const message = await send('hello');
    expect(message).toMatchObject({ status: 'queued', text: 'hello', accountId });
    expect(await client.get('/messages/{id}', { path: { id: message.id } })).toEqual(message);
    const { items } = await client.get('/messages', { query: { status: 'queued', limit: 1 } });
    expect(items).toHaveLength(1);
    expect(
      (await client.patch('/accounts/{id}', { path: { id: accountId }, body: { labels: ['a'] } })).labels,
    ).toEqual(['a']);
    expect(await client.get('/health/live')).toEqual({ status: 'ok' });
  });

  it('walks lists to their end, and gives nothing for what has no body', async () => {
    for (let number = 0; number < 5; number += 1) await send(`page ${number}`);
    const texts: (string | null)[] = [];
    for await (const { text } of client.all('/messages', { query: { limit: 2 } })) texts.push(text);
    expect(texts.slice(0, 5)).toEqual(['page 4', 'page 3', 'page 2', 'page 1', 'page 0']);
    const spare = await client.post('/accounts', { body: { name: 'spare', environment: 'sandbox' } });
    expect(await client.delete('/accounts/{id}', { path: { id: spare.id } })).toBeUndefined();
  });

  it('throws what the API refuses, with its code, its fields and its request', async () => {
    const refused = await client
      .get('/messages/{id}', { path: { id: '01960000-0000-7000-8000-000000000000' } })
      .catch((error: unknown) => error as FlotillaError);
    expect(refused).toBeInstanceOf(FlotillaError);
    expect(refused).toMatchObject({ status: 404, code: 'message.not_found', isTemporary: false });
    const wrong = await send('').catch((error: unknown) => error as FlotillaError);
    expect(wrong).toMatchObject({
      code: 'validation.failed',
      errors: [{ path: 'text' }],
      requestId: expect.any(String),
    });
    const { code } = (await client
      .with({ key: 'flk_wrong' })
      .get('/accounts')
      .catch((error: unknown) => error as FlotillaError)) as FlotillaError;
    expect(code).toBe('auth.invalid_key');
  });

  it('leaves no way out of a path', async () => {
    await expect(client.get('/messages/{id}', { path: { id: '..' } })).rejects.toThrow(TypeError);
    await expect(client.get('/messages/{id}', { path: { id: '../accounts' } })).rejects.toMatchObject({
      status: 400,
    });
  });

  it('says that nobody answers, and what repeats it only where that is harmless', async () => {
    let calls = 0;
    const broken = await listening(
      createServer((_request, response) => {
        calls += 1;
        response.writeHead(calls < 3 ? 503 : 200, { 'content-type': 'application/json' });
        response.end(calls < 3 ? '{"code":"service.unavailable","detail":"away"}' : '{"status":"ok"}');
      }),
    );
    const other = new Client({ url: broken.url, patienceMs: 5_000 });
    expect(await other.get('/health')).toEqual({ status: 'ok' });
    expect(calls).toBe(3);
    calls = 0;
    await expect(other.post('/accounts', { body: { name: 'x' } })).rejects.toMatchObject({
      code: 'service.unavailable',
    });
    expect(calls).toBe(1);
    broken.server.close();
    broken.server.closeAllConnections();
    const away = new Client({ url: broken.url, patienceMs: 0 });
    await expect(away.get('/health')).rejects.toMatchObject({
      status: 0,
      code: 'client.unreachable',
      isTemporary: true,
    });
  });

  it('follows events, and goes on where it was when the connection breaks', async () => {
    const ended = new AbortController();
    const seen: string[] = [];
    const connections: string[] = [];
    const breaking: typeof fetch = async (input, init) => {
      connections.push(new Headers(init?.headers).get('last-event-id') ?? '');
      const response = await fetch(input, init);
      if (connections.length > 2 || !response.body) return response;
      // The connection ends after the first chunk that has an event.
      const first = response.body.pipeThrough(
        new TransformStream<Uint8Array, Uint8Array>({
          transform(chunk, controller) {
            controller.enqueue(chunk);
            controller.terminate();
          },
        }),
      );
      return new Response(first, { status: response.status, headers: response.headers });
    };
    const following = client
      .with({ fetch: breaking })
      .events({ types: ['message.*'], after: '0-0', signal: ended.signal });
    const wanted = Array.from({ length: 3 }, (_item, number) => `event ${number}`);
    const sending = (async () => {
      for (const text of wanted) await send(text);
    })();
    for await (const { type, data } of following) {
      expect(type).toMatch(/^message\./);
      const text = String(data.text);
      if (text.startsWith('event')) seen.push(text);
      if (seen.length === wanted.length) break;
    }
    await sending;
    ended.abort();
    expect(seen).toEqual(wanted);
    expect(connections[0]).toBe('0-0');
    expect(connections.length).toBeGreaterThan(1);
    expect(connections[1]).toMatch(/^\d+-\d+$/);
  });

  it('goes on where its stream began when nothing had happened yet, after the time that it was asked to wait', async () => {
    const asked: { after: unknown; at: number }[] = [];
    const { server, url } = await listening(
      createServer((request, response) => {
        asked.push({ after: request.headers['last-event-id'], at: performance.now() });
        if (asked.length === 2) {
          response.writeHead(429, { 'retry-after': '2', 'content-type': 'application/problem+json' });
          response.end('{"code":"events.too_many_streams","detail":"too many"}');
          return;
        }
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        if (asked.length === 1) response.end('id: 7-1\n\n');
        else response.write('id: 7-2\nevent: message.sent\ndata: {"id":"7-2"}\n\n');
      }),
    );
    const stream = new Client({ url }).events();
    expect((await stream.next()).value).toEqual({ id: '7-2' });
    await stream.return();
    server.closeAllConnections();
    server.close();
    expect(asked.map(({ after }) => after)).toEqual([undefined, '7-1', '7-1']);
    expect(asked[2]!.at - asked[1]!.at).toBeGreaterThan(1_900);
    const real = await fetch(`${flotilla.stack.urls.api}/api/v1/events`, {
      headers: { authorization: `Bearer ${workspace.key}` },
    });
    const reader = real.body!.getReader();
    const { value } = await reader.read();
    await reader.cancel();
    expect(new TextDecoder().decode(value)).toMatch(/^id: \d+-\d+\n\n/);
  });

  it('sends files, and an idempotency key where the operation takes one', async () => {
    const form = new FormData();
    form.set('file', new Blob(['a note'], { type: 'text/plain' }), 'note.txt');
    expect(await client.post('/media', { body: form })).toMatchObject({ mimetype: 'text/plain', size: 6 });
    // @ts-expect-error -- this would make two accounts
    const twice = () => client.post('/accounts', { body: { name: 'x' }, idempotencyKey: 'x' });
    expect(twice).toBeInstanceOf(Function);
  });

  it('tells an admin who names no workspace of all of them, and of what is of none', async () => {
    const database = new pg.Client({ connectionString: flotilla.stack.env.DATABASE_URL });
    await database.connect();
    await database.query(`insert into events (type, data) values ('instance.status', '{"instanceId": "i"}')`);
    await database.end();
    await send('for the admin');
    const admin = new Client({ url: flotilla.stack.urls.api, key: flotilla.adminKey });
    const seen = new Map<string, string | null>();
    const signal = AbortSignal.timeout(60_000);
    for await (const event of admin.events({ after: '0-0', signal })) {
      seen.set(event.type, event.workspaceId);
      if (seen.size === 2) break;
    }
    expect(Object.fromEntries(seen)).toEqual({
      'message.queued': workspace.id,
      'instance.status': null,
    });
  });

  it('is told when a workspace has too many streams, and when the id is invalid', async () => {
    const limited = { key: await workspace.keyFor('viewer') };
    const open = () =>
      fetch(`${flotilla.stack.urls.api}/api/v1/events`, {
        headers: { authorization: `Bearer ${limited.key}` },
      });
    const streams = [await open(), await open()];
    expect(streams.map(({ status }) => status)).toEqual([200, 200]);
    expect(streams[0]!.headers.get('x-accel-buffering')).toBe('no');
    const third = await open();
    expect(third.status).toBe(429);
    expect(third.headers.get('retry-after')).toBe('60');
    expect(await third.json()).toMatchObject({ code: 'events.too_many_streams' });
    // Up to here somebody holds the two streams: a response that nobody holds is cancelled by the garbage collector.
    await Promise.all(streams.map(({ body }) => body!.cancel()));
    await expect(client.events({ after: 'x' }).next()).rejects.toMatchObject({
      code: 'events.invalid_cursor',
    });
  });
});

describe('verifyWebhook', () => {
  const secret = `whsec_${Buffer.from('a secret of at least 24 bytes').toString('base64')}`;
  const body = JSON.stringify({
    id: '1-1',
    type: 'message.sent',
    createdAt: new Date().toISOString(),
    workspaceId: null,
    accountId: null,
    data: {},
  });
  const signed = (at: Date, by = secret) => ({
    'webhook-id': 'msg_1',
    'webhook-timestamp': String(Math.floor(at.getTime() / 1_000)),
    'webhook-signature': new Webhook(by).sign('msg_1', at, body),
  });

  it('takes what the scheme signs, under any of the secrets that hold', async () => {
    expect(await verifyWebhook(body, signed(new Date()), secret)).toMatchObject({ type: 'message.sent' });
    const other = `whsec_${Buffer.from('another secret, older than that').toString('base64')}`;
    expect(await verifyWebhook(body, new Headers(signed(new Date(), other)), [secret, other])).toMatchObject({
      id: '1-1',
    });
  });

  it('refuses another body, an old body, an unsigned body and a foreign signature', async () => {
    const now = new Date();
    await expect(verifyWebhook(`${body} `, signed(now), secret)).rejects.toThrow(WebhookRefused);
    await expect(verifyWebhook(body, signed(new Date(now.getTime() - 400_000)), secret)).rejects.toThrow(
      'too old',
    );
    await expect(verifyWebhook(body, {}, secret)).rejects.toThrow('missing');
    const foreign = createHmac('sha256', 'x').update('msg_1').digest('base64');
    await expect(
      verifyWebhook(body, { ...signed(now), 'webhook-signature': `v1,${foreign} v2,x v1,%%%` }, secret),
    ).rejects.toThrow(WebhookRefused);
  });
});

async function listening(server: Server): Promise<{ server: Server; url: string }> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}
