import { once } from 'node:events';
import { readdir, readFile, stat } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createStack, type Stack } from '../../setup/stack.mjs';
import { CallSigner } from '../../src/platform/http/signed-calls.js';
import { eventually } from '../support/eventually.js';
import { browsersBelow } from '../support/processes.js';
import { Flotilla, type Workspace } from '../support/flotilla.js';

/** What a stranger, a browser and another machine may do, through HTTP against everything that listens. */
const metricsToken = 'metrics-token-of-these-tests';
const perKey = 400;

let flotilla: Flotilla;
let workspace: Workspace;

beforeAll(async () => {
  flotilla = await Flotilla.start({
    instances: 1,
    env: {
      NODE_ENV: 'production',
      SANDBOX: 'true',
      LOG_LEVEL: 'trace',
      CORS_ORIGINS: 'https://app.example.com, http://localhost:5173',
      RATE_LIMIT_PER_KEY: String(perKey),
      RATE_LIMIT_PER_IP: '60',
      HEADERS_TIMEOUT_MS: '1000',
      REQUEST_TIMEOUT_MS: '2000',
      METRICS_TOKEN: metricsToken,
    },
  });
  workspace = await flotilla.newWorkspace();
});
afterAll(() => flotilla?.stop());

let addresses = 0;
/** Another caller, as the reverse proxy on this machine would tell. */
const newAddress = () => `203.0.113.${(addresses += 1)}`;

function get(path: string, headers: Record<string, string> = {}, init: RequestInit = {}): Promise<Response> {
  return fetch(`${flotilla.stack.urls.api}${path}`, { redirect: 'manual', ...init, headers });
}

async function problem(response: Response): Promise<{ status: number; code: string; detail: string }> {
  expect(response.headers.get('content-type')).toContain('application/problem+json');
  return (await response.json()) as { status: number; code: string; detail: string };
}

const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

let session: string | undefined;

async function cookie(): Promise<string> {
  session ??= (
    await get('/admin/login', {}, { method: 'POST', body: new URLSearchParams({ key: flotilla.adminKey }) })
  ).headers
    .get('set-cookie')!
    .split(';')[0]!;
  return session;
}

/** Sends bytes as they are, and gives what comes back until the other side closes. */
async function raw(url: string, ...parts: string[]): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => undefined);
  for (const part of parts) socket.write(part);
  let answer = '';
  socket.on('data', (bytes) => (answer += String(bytes)));
  await once(socket, 'close');
  return answer;
}

/** The processor time that a program has used so far, in milliseconds. */
async function processorMs(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  // User and system time, in hundredths of a second.
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

describe('headers', () => {
  it('of data let nothing of it be run, framed, guessed or kept', async () => {
    for (const answer of [
      await get('/api/v1/accounts', bearer(workspace.key)),
      await get('/api/v1/accounts'),
      await get('/nothing'),
    ]) {
      expect(answer.headers.get('content-security-policy')).toContain("default-src 'none'");
      expect(answer.headers.get('content-security-policy')).toContain("frame-ancestors 'none'");
      expect(answer.headers.get('x-content-type-options')).toBe('nosniff');
      expect(answer.headers.get('referrer-policy')).toBe('no-referrer');
      expect(answer.headers.get('x-powered-by')).toBeNull();
      expect(answer.headers.get('strict-transport-security')).toBeNull();
    }
    expect((await get('/api/v1/accounts', bearer(workspace.key))).headers.get('cache-control')).toBe(
      'no-store',
    );
  });

  it('promise TLS where a proxy speaks it', async () => {
    const answer = await get('/health/live', { 'x-forwarded-proto': 'https' });
    expect(answer.headers.get('strict-transport-security')).toBe('max-age=31536000');
  });
});

describe('pages of other origins', () => {
  const preflight = (origin: string, path = '/api/v1/messages') =>
    get(
      path,
      {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,content-type',
      },
      { method: 'OPTIONS' },
    );

  it('may call the API when they are on the list', async () => {
    const asked = await preflight('https://app.example.com');
    expect(asked.status).toBe(204);
    expect(asked.headers.get('access-control-allow-origin')).toBe('https://app.example.com');
    expect(asked.headers.get('access-control-allow-headers')).toContain('Authorization');
    expect(asked.headers.get('access-control-allow-methods')).toContain('DELETE');
    expect(asked.headers.get('access-control-allow-credentials')).toBeNull();
    expect(asked.headers.get('vary')).toContain('Origin');
    const origin = 'http://localhost:5173';
    const called = await get('/api/v1/accounts', { origin, ...bearer(workspace.key) });
    expect([called.status, called.headers.get('access-control-allow-origin')]).toEqual([200, origin]);
    expect(called.headers.get('access-control-expose-headers')).toContain('Retry-After');
    const refused = await get('/api/v1/accounts', { origin });
    expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([401, origin]);
  });

  it.each(['https://evil.example.com', 'https://app.example.com.evil.com', 'http://app.example.com', 'null'])(
    'may not otherwise: %s',
    async (origin) => {
      for (const answer of [
        await preflight(origin),
        await get('/api/v1/accounts', { origin, ...bearer(workspace.key) }),
      ]) {
        expect(answer.headers.get('access-control-allow-origin')).toBeNull();
      }
    },
  );

  it('may call nothing else', async () => {
    for (const path of ['/metrics', '/admin/login', '/health']) {
      const answer = await preflight('https://app.example.com', path);
      expect(answer.headers.get('access-control-allow-origin')).toBeNull();
    }
  });
});

describe('how often', () => {
  it('one key may ask, it is told; another key is another matter', async () => {
    const busy = await flotilla.newWorkspace();
    const first = await get('/api/v1/accounts', bearer(busy.key));
    expect(first.headers.get('ratelimit-policy')).toBe(`"key";q=${perKey};w=60`);
    expect(first.headers.get('ratelimit')).toMatch(new RegExp(`^"key";r=${perKey - 1};t=\\d+$`));
    const answers: Response[] = [];
    for (let sent = 0; sent < perKey; sent += 50) {
      answers.push(
        ...(await Promise.all(Array.from({ length: 50 }, () => get('/api/v1/accounts', bearer(busy.key))))),
      );
    }
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(perKey - 1);
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused).toHaveLength(1);
    expect(await problem(refused[0]!)).toMatchObject({ code: 'rate_limit.exceeded' });
    const seconds = Number(refused[0]!.headers.get('retry-after'));
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThanOrEqual(60);
    expect(refused[0]!.headers.get('ratelimit')).toMatch(/^"key";r=0;t=\d+$/);
    expect((await get('/api/v1/accounts', bearer(workspace.key))).status).toBe(200);
  });

  it('an address may guess keys, in each place where one is taken; a right key is not held up by others', async () => {
    const address = newAddress();
    const from = { 'x-forwarded-for': address };
    const ask = (key: string, path = '/api/v1/accounts') => get(path, { ...from, ...bearer(key) });
    expect((await ask(workspace.key)).status).toBe(200);
    for (let guess = 0; guess < 20; guess += 1) {
      expect((await ask(`guess-${guess}`)).status).toBe(401);
      expect((await ask(`guess-${guess}`, '/metrics')).status).toBe(401);
      expect((await get('/api/v1/accounts', { ...from, 'x-api-key': `guess-${guess}` })).status).toBe(401);
    }
    const refused = await ask('one-guess-more');
    expect(await problem(refused)).toMatchObject({ status: 429, code: 'rate_limit.exceeded' });
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    for (const path of ['/metrics', '/admin/queues', '/docs'])
      expect((await ask('x', path)).status).toBe(429);
    expect((await get('/api/v1/accounts', from)).status).toBe(429);
    const login = await get('/admin/login', from, {
      method: 'POST',
      body: new URLSearchParams({ key: 'x' }),
    });
    expect(login.status).toBe(429);
    // Also one that was made a moment ago, as soon as the API has heard of it.
    const fresh = await workspace.keyFor('viewer');
    await eventually('a new key works', async () => (await ask(fresh)).status === 200);
    expect((await ask(flotilla.adminKey, '/metrics')).status).toBe(200);
    expect((await ask(workspace.key)).status).toBe(200);
    expect((await get('/health/live', from)).status).toBe(200);
    const elsewhere = { 'x-forwarded-for': newAddress(), ...bearer('x') };
    expect((await get('/api/v1/accounts', elsewhere)).status).toBe(401);
  });

  it('an address may guess the token of the metrics as often as any key', async () => {
    const ask = (key: string, from: string) => get('/metrics', { 'x-forwarded-for': from, ...bearer(key) });
    const [guessing, watching] = [newAddress(), newAddress()];
    for (let guess = 0; guess < 60; guess += 1)
      expect((await ask(`guess-${guess}`, guessing)).status).toBe(401);
    expect((await ask(metricsToken, guessing)).status).toBe(429);
    expect((await ask(metricsToken, watching)).status).toBe(200);
  });

  it('counts the addresses of one customer of IPv6 as one', async () => {
    const ask = (host: number) =>
      get('/api/v1/accounts', { 'x-forwarded-for': `2001:db8:1:2::${host.toString(16)}`, ...bearer('x') });
    for (let host = 1; host <= 60; host += 1) expect((await ask(host)).status).toBe(401);
    expect((await ask(61)).status).toBe(429);
    const neighbour = { 'x-forwarded-for': '2001:db8:1:3::1', ...bearer('x') };
    expect((await get('/api/v1/accounts', neighbour)).status).toBe(401);
  });
});

describe('without trusted proxies, in development, with two processes of the API', () => {
  const perWorkspace = 1_000;
  const waitLimit = 300;
  let direct: Flotilla;
  let second: Stack;
  beforeAll(async () => {
    const env = {
      TRUSTED_PROXIES: '',
      NODE_ENV: 'development',
      RATE_LIMIT_PER_IP: '20',
      RATE_LIMIT_PER_WORKSPACE: String(perWorkspace),
      STALL_TIMEOUT_MS: '2000',
      EVENT_STREAMS_PER_WORKSPACE: '40',
      UNREAD_MB_PER_WORKSPACE: '32',
      // A small heap, so that garbage that is not collected yet does not count as growth.
      NODE_OPTIONS: '--max-old-space-size=256',
      WAITS_PER_WORKSPACE: String(waitLimit),
    };
    direct = await Flotilla.start({ programs: ['api'], env });
    const shared = ['DATABASE_URL', 'REDIS_URL', 'ADMIN_API_KEY', 'INTERNAL_API_KEY', 'APP_KEY'];
    second = await createStack({
      programs: ['api'],
      env: { ...env, ...Object.fromEntries(shared.map((name) => [name, direct.stack.env[name]!])) },
    });
    await second.start();
  });
  afterAll(async () => {
    await second?.stop();
    await direct?.stop();
  });

  const keyFor = async (where: Flotilla, allowedIps: string[]): Promise<string> => {
    const { id } = (await where.call('POST', '/workspaces', { name: 'x' })).body;
    const key = { name: 'x', role: 'owner', allowedIps };
    return (await where.call('POST', `/workspaces/${id}/api-keys`, key)).body.key;
  };
  const ask = async (where: Flotilla, key: string, forwarded: string) =>
    (await where.call('GET', '/accounts', undefined, key, { 'x-forwarded-for': forwarded })).status;

  it('the address of a caller is what a trusted proxy says, and not what the caller had said to that', async () => {
    const key = await keyFor(flotilla, ['198.51.100.7']);
    expect(await ask(flotilla, key, '198.51.100.7')).toBe(200);
    expect(await ask(flotilla, key, '198.51.100.8')).toBe(401);
    expect(await ask(flotilla, key, '198.51.100.7, 198.51.100.8')).toBe(401);
  });

  describe('what a workspace can hold', () => {
    const streamLimit = 40;
    let own: Workspace;
    let accountId: string;
    const openSockets: Socket[] = [];
    beforeAll(async () => {
      own = await direct.newWorkspace();
      const account = { name: 'x', environment: 'sandbox' };
      accountId = (await own.call('POST', '/accounts', account)).body.id;
    });
    afterEach(() => {
      for (const socket of openSockets.splice(0)) socket.destroy();
    });

    /** Waits for a figure of the API process. A scrape costs the API about as much as a page. */
    const untilMetric = (name: string, isMeant: (value: number) => boolean | Promise<boolean>) =>
      eventually(
        name,
        async () => {
          await delay(200);
          const answer = await fetch(`${direct.stack.urls.api}/metrics`, {
            headers: bearer(direct.adminKey),
          });
          const line = (await answer.text()).split('\n').find((text) => text.startsWith(`flotilla_${name} `));
          return (await isMeant(Number(line!.split(' ').at(-1)))) || Promise.reject(new Error(line));
        },
        60_000,
      );
    const megabytes = async (): Promise<number> => {
      const { pid } = (await direct.stack.status()).get('flotilla:api')!;
      return Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, 'utf8'))![1]) / 1_024;
    };
    const unread = (paths: string[], headers: string[] = []): Socket => {
      const { hostname, port } = new URL(direct.stack.urls.api);
      const socket = connect(Number(port), hostname);
      openSockets.push(socket);
      socket.on('error', () => undefined);
      const lines = ['Host: x', `Authorization: Bearer ${own.key}`, ...headers, '', ''];
      for (const path of paths) socket.write([`GET /api/v1${path} HTTP/1.1`, ...lines].join('\r\n'));
      return socket;
    };
    /** The status of the first answer. After that, the client reads nothing. */
    const statusOf = async (socket: Socket): Promise<number> => {
      await once(socket, 'readable');
      return Number(String(socket.read(15)).split(' ')[1]);
    };
    const sendLarge = async (count: number): Promise<void> => {
      const messages = Array.from({ length: count }, () => ({
        accountId,
        to: '+6281234567890',
        text: 'x'.repeat(60_000),
      }));
      expect((await own.call('POST', '/messages/batch', { messages })).status).toBe(200);
    };

    it('a page ends early when it is large, and the next one goes on there', async () => {
      await sendLarge(120);
      const ids = new Set<string>();
      let cursor = '';
      do {
        const answer = await own.call('GET', `/messages?limit=200${cursor}`);
        expect(JSON.stringify(answer.body).length).toBeLessThan(1.1 * 2 ** 20);
        for (const { id } of answer.body.items) ids.add(id);
        cursor = answer.body.nextCursor === null ? '' : `&cursor=${answer.body.nextCursor}`;
      } while (cursor !== '');
      expect(ids.size).toBe(120);
    });

    it('pages that nobody reads: a few in memory, then 429 until their connections are closed', async () => {
      const before = await megabytes();
      let highest = before;
      const pages = Array.from({ length: 12 }, () => '/messages?limit=200');
      for (let client = 0; client < 8; client += 1) unread(pages);
      const refused = await eventually('refused', async () => {
        highest = Math.max(highest, await megabytes());
        const answer = await own.call('GET', '/messages?limit=1');
        return answer.status === 429 && answer;
      });
      expect(refused.body.code).toBe('workspace.too_much_unread');
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
      const other = await direct.newWorkspace();
      expect((await other.call('GET', '/messages?limit=1')).status).toBe(200);
      // The clients are still there: the API has given them up.
      await untilMetric('open_request_bytes{of="largest"}', async (bytes) => {
        highest = Math.max(highest, await megabytes());
        return bytes < 2 ** 20;
      });
      expect((await own.call('GET', '/messages?limit=1')).status).toBe(200);
      process.stdout.write(`unread pages: ${Math.round(before)} MB, then ${Math.round(highest)} MB\n`);
      expect(highest - before).toBeLessThan(150);
    });

    it('streams that nobody reads: no more than the limit, little memory, and their slots come back', async () => {
      const before = await megabytes();
      let highest = before;
      const open = () => unread(['/events'], ['Last-Event-ID: 0-0']);
      const statuses = await Promise.all(Array.from({ length: streamLimit * 2 }, () => statusOf(open())));
      expect(statuses.filter((status) => status === 200)).toHaveLength(streamLimit);
      expect(statuses.filter((status) => status === 429)).toHaveLength(streamLimit);
      for (let round = 0; round < 3; round += 1) {
        // It is refused while the streams of its own workspace hold too much.
        await eventually('sent', async () => {
          await sendLarge(60);
          return true;
        });
        highest = Math.max(highest, await megabytes());
      }
      await untilMetric('event_streams', async (count) => {
        highest = Math.max(highest, await megabytes());
        return count === 0;
      });
      // A slot is free exactly when its connection is gone.
      const again = await Promise.all(Array.from({ length: streamLimit + 1 }, () => statusOf(open())));
      expect(again.filter((status) => status === 200)).toHaveLength(streamLimit);
      process.stdout.write(`unread streams: ${Math.round(before)} MB, then ${Math.round(highest)} MB\n`);
      expect(highest - before).toBeLessThan(150);
    });

    it('waits: they slow nobody, more than the limit accept no message, and they end with their callers', async () => {
      const other = await direct.newWorkspace();
      const medianMs = async (): Promise<number> => {
        const times: number[] = [];
        for (let read = 0; read < 60; read += 1) {
          const begin = performance.now();
          expect((await other.call('GET', '/accounts')).status).toBe(200);
          times.push(performance.now() - begin);
        }
        return times.sort((a, b) => a - b)[30]!;
      };
      const callers = new AbortController();
      const wait = () =>
        fetch(`${direct.stack.urls.api}/api/v1/messages?wait=delivered&timeoutMs=60000`, {
          method: 'POST',
          signal: callers.signal,
          headers: { ...bearer(own.key), 'content-type': 'application/json' },
          body: JSON.stringify({ accountId, to: '+6281234567890', text: 'x' }),
        });
      const count = async () =>
        (await own.call('GET', '/workspace')).body.usage.messagesLast24Hours as number;
      const before = await count();
      const alone = await medianMs();
      const waiting = Promise.allSettled(Array.from({ length: waitLimit }, wait));
      await untilMetric('message_waits', (count) => count === waitLimit);
      await eventually(
        'all are accepted',
        async () => {
          await delay(200);
          return (await count()) === before + waitLimit;
        },
        60_000,
      );
      const beside = await medianMs();
      process.stdout.write(
        `reads beside ${waitLimit} waits: ${alone.toFixed(1)} ms, then ${beside.toFixed(1)} ms\n`,
      );
      expect(beside / alone).toBeLessThan(3);
      const refused = await wait();
      expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '2']);
      expect(await problem(refused)).toMatchObject({ code: 'message.too_many_waits' });
      expect(await count()).toBe(before + waitLimit);
      callers.abort();
      for (const { status } of await waiting) expect(status).toBe('rejected');
      await untilMetric('message_waits', (count) => count === 0);
    });
  });

  it('the documentation is open in development', async () => {
    for (const path of ['/docs', '/openapi.json']) {
      expect((await fetch(`${direct.stack.urls.api}${path}`)).status).toBe(200);
    }
  });

  it('the address is that of the connection when nobody is trusted, for allowed addresses and for counting', async () => {
    const key = await keyFor(direct, ['198.51.100.7']);
    expect(await ask(direct, key, '198.51.100.7')).toBe(401);
    expect(await ask(direct, await keyFor(direct, ['127.0.0.1']), '198.51.100.7')).toBe(200);
    const statuses: number[] = [];
    for (let guess = 0; guess < 21; guess += 1) statuses.push(await ask(direct, 'x', newAddress()));
    expect(statuses.at(-1)).toBe(429);
    const login = await fetch(`${direct.stack.urls.api}/admin/login`, {
      headers: { 'x-forwarded-proto': 'https' },
    });
    expect(login.headers.get('strict-transport-security')).toBeNull();
  });

  it('fifty keys of a workspace get what the workspace gets, through both processes together', async () => {
    const own = await direct.newWorkspace();
    const keys = await Promise.all(Array.from({ length: 50 }, () => own.keyFor('viewer')));
    const statuses = await Promise.all(
      keys.map(async (key, index) => {
        const url = `${(index % 2 ? second : direct.stack).urls.api}/api/v1/accounts`;
        const found: number[] = [];
        for (let asked = 0; asked < 26; asked += 1)
          found.push((await fetch(url, { headers: bearer(key) })).status);
        return found;
      }),
    );
    const count = (status: number) => statuses.flat().filter((each) => each === status).length;
    expect(count(200) + count(429)).toBe(50 * 26);
    expect(count(200)).toBeGreaterThanOrEqual(perWorkspace);
    expect(count(200)).toBeLessThanOrEqual(perWorkspace * 1.2);
    // A fresh key has no fresh quota; another workspace has its own.
    const fresh = await own.keyFor('owner');
    const refused = await fetch(`${second.urls.api}/api/v1/accounts`, { headers: bearer(fresh) });
    expect(refused.status).toBe(429);
    expect(refused.headers.get('ratelimit')).toMatch(/^"workspace";r=0;t=\d+$/);
    const other = await direct.newWorkspace();
    expect((await other.call('GET', '/accounts')).status).toBe(200);
  }, 60_000);

  it('a key works that nobody used before, while strangers flood its address, also after a restart', async () => {
    const own = await direct.newWorkspace();
    const keys = await Promise.all(Array.from({ length: 3 }, () => own.keyFor('viewer')));
    const api = `${direct.stack.urls.api}/api/v1/accounts`;
    const statusOf = async (headers: Record<string, string>, url = api) => {
      const answer = await fetch(url, { headers });
      await answer.arrayBuffer();
      return answer.status;
    };
    const isRunning = { flood: true };
    let guesses = 0;
    const flood = Array.from({ length: 4 }, async () => {
      while (isRunning.flood) {
        // While the API restarts, nobody answers.
        await statusOf(bearer(`flk_${(guesses += 1)}`)).catch(() => undefined);
        await delay(10);
      }
    });
    const isLimited = () =>
      eventually('guesses are limited', async () => (await statusOf(bearer('flk_wrong'))) === 429);
    try {
      await isLimited();
      await eventually(
        'the API has heard of the key',
        async () => (await statusOf(bearer(keys[0]!))) === 200,
      );
      await direct.stack.ctl('restart', 'flotilla:api');
      await isLimited();
      expect(await statusOf(bearer(keys[1]!))).toBe(200);
      // The other process knows of the guesses by now, and refuses them too.
      const elsewhere = `${second.urls.api}/api/v1/accounts`;
      await eventually('limited there', async () => (await statusOf(bearer('flk_wrong'), elsewhere)) === 429);
      expect(await statusOf(bearer(keys[2]!), elsewhere)).toBe(200);
    } finally {
      isRunning.flood = false;
      await Promise.all(flood);
    }
  }, 90_000);
});

describe('what is too large or too slow', () => {
  const post = (path: string, body: string, headers: Record<string, string> = bearer(workspace.key)) =>
    get(path, { 'content-type': 'application/json', ...headers }, { method: 'POST', body });

  it('a body, by what its route needs', async () => {
    const large = JSON.stringify({ name: 'x'.repeat(1_100_000) });
    expect(await problem(await post('/api/v1/accounts', large))).toMatchObject({
      status: 413,
      code: 'request.too_large',
    });
    expect(await problem(await post('/api/v1/messages/batch', large))).toMatchObject({
      status: 400,
      code: 'validation.failed',
    });
    expect(
      (
        await post('/admin/login', `key=${'x'.repeat(5_000)}`, {
          'content-type': 'application/x-www-form-urlencoded',
        })
      ).status,
    ).toBe(413);
    expect((await post('/admin/login', JSON.stringify({ key: 'x'.repeat(5_000) }))).status).toBe(413);
  });

  it('a path in capitals is another one, with nothing of what the real one may', async () => {
    for (const path of [
      '/API/V1/messages/batch',
      '/API/v1/accounts',
      '/api/V1/accounts',
      '/api/v1/ACCOUNTS',
      '/ADMIN/login',
      '/Metrics',
    ])
      expect(await problem(await get(path, bearer(flotilla.adminKey)))).toMatchObject({ status: 404 });
  });

  it('a large body of a stranger is not read', async () => {
    const { host } = new URL(flotilla.stack.urls.api);
    const head = `POST /api/v1/messages/batch HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\nX-Forwarded-For: ${newAddress()}\r\n`;
    expect(
      await raw(flotilla.stack.urls.api, `${head}Content-Length: 7000000\r\n\r\n{"messages": [`),
    ).toMatch(/^HTTP\/1\.1 401 .*"code":"auth\.required"/s);
    expect(await raw(flotilla.stack.urls.api, `${head}Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n`)).toMatch(
      /^HTTP\/1\.1 401 /,
    );
  });

  it('a large body that is refused for another reason is not read', async () => {
    const { host } = new URL(flotilla.stack.urls.api);
    const viewer = await workspace.keyFor('viewer');
    const head = (path: string, key: string) =>
      `POST ${path} HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\nX-Api-Key: ${key}\r\nContent-Length: 900000\r\n\r\n{"name": [`;
    for (const [path, key, code] of [
      ['/api/v1/accounts', viewer, 'auth.insufficient_role'],
      ['/api/v1/workspaces', workspace.key, 'auth.insufficient_role'],
      ['/api/v1/nothing', workspace.key, 'route.not_found'],
      ['/nothing', workspace.key, 'route.not_found'],
      // Nobody needs the body of a request that has none.
      [`/api/v1/accounts/${workspace.id}/disconnect`, workspace.key, 'account.not_found'],
    ] as const) {
      const answer = await raw(flotilla.stack.urls.api, head(path, key));
      expect(answer).toContain(`"code":"${code}"`);
      expect(answer).toMatch(/^connection: close\r$/im);
    }
  });

  it.each([
    ['whose size is known', 'Content-Length: 8000000\r\n\r\n{', 5],
    // It counts as it comes, bit by bit: on a busy machine the time of some ends before they have come.
    ['in chunks', `Transfer-Encoding: chunked\r\n\r\n6ACFC0\r\n${' '.repeat(7_000_000)}\r\n`, 7],
  ])('a caller cannot hold much memory with bodies %s that do not come', async (_what, body, most) => {
    const [own, other] = [await flotilla.newWorkspace(), await flotilla.newWorkspace()];
    const { host } = new URL(flotilla.stack.urls.api);
    const send = (key: string) =>
      raw(
        flotilla.stack.urls.api,
        `POST /api/v1/messages/batch HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\nX-Api-Key: ${key}\r\n${body}`,
      );
    const answers = await Promise.all([send(other.key), ...Array.from({ length: 9 }, () => send(own.key))]);
    const statuses = answers.map((answer) => Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]));
    expect(statuses[0]).toBe(408);
    expect(statuses.filter((status) => status === 408).length).toBeLessThanOrEqual(most + 1);
    const refused = answers.filter((_answer, index) => statuses[index] === 429);
    expect(refused.length).toBeGreaterThanOrEqual(9 - most);
    for (const answer of refused) expect(answer).toContain('"code":"workspace.too_much_unread"');
    expect((await get('/api/v1/accounts', bearer(own.key))).status).toBe(200);
  });

  const million = 1_000_000;
  const nasty: [what: string, path: string, body: string][] = [
    ['300,000 empty objects', '/messages/batch', `{"messages": [${'{},'.repeat(300_000)}{}]}`],
    ['a list of 300,000 empty objects', '/accounts', `[${'{},'.repeat(300_000)}{}]`],
    ['8.4 MB of nested empty lists', '/messages/batch', `{"messages": ${'[[],'.repeat(2.09 * million)}`],
    ['nested lists as metadata', '/messages', `{"metadata": {"a": [${'[],'.repeat(2 * million)}[]]}}`],
    [
      '1,000 messages with 45 unknown fields',
      '/messages/batch',
      JSON.stringify({
        messages: Array.from({ length: 1_000 }, () =>
          Object.fromEntries(Array.from({ length: 45 }, (_none, index) => [`unknown-${index}`, 1])),
        ),
      }),
    ],
    [
      '2,900 unknown fields',
      '/accounts',
      JSON.stringify(Object.fromEntries(Array.from({ length: 2_900 }, (_none, index) => [`f${index}`, 1]))),
    ],
    ['a field with a name of 300 kB', '/accounts', JSON.stringify({ ['x'.repeat(300_000)]: 1 })],
    ['many emoji', '/messages', JSON.stringify({ media: { filename: '🙂'.repeat(2 * million) } })],
    [
      'more mentions than a message may have',
      '/messages',
      JSON.stringify({ mentions: Array(8_000).fill('x') }),
    ],
  ];
  it.each(nasty)('%s cost the API little, and get a short answer', async (_what, path, body) => {
    const pid = (await flotilla.stack.status()).get('flotilla:api')!.pid;
    const before = await processorMs(pid!);
    const answer = await post(`/api/v1${path}`, body);
    const text = await answer.text();
    const took = (await processorMs(pid!)) - before;
    if (answer.status === 200) expect(text.length).toBeLessThan(body.length);
    else {
      expect(JSON.parse(text)).toMatchObject({ code: 'validation.failed', status: 400 });
      expect(text.length).toBeLessThan(100_000);
    }
    expect(took).toBeLessThan(1_000);
  });

  it('errors are listed up to 50, and do not repeat what was sent at length', async () => {
    const body = Object.fromEntries(
      Array.from({ length: 60 }, (_none, index) => [`${index}${'x'.repeat(1_000)}`, 1]),
    );
    const answer = await post('/api/v1/accounts', JSON.stringify(body));
    const problem = (await answer.json()) as { detail: string; errors: { path: string; message: string }[] };
    expect(problem.errors).toHaveLength(50);
    expect(problem.detail).toMatch(/This list has the first 50 of 6\d errors\.$/);
    for (const { path, message } of problem.errors) expect(path.length + message.length).toBeLessThan(200);
  });

  const fate: [what: string, request: string, status: number, code: string][] = [
    [
      'headers of 20 kB',
      `GET / HTTP/1.1\r\nX-Large: ${'x'.repeat(20_000)}\r\n\r\n`,
      431,
      'request.headers_too_large',
    ],
    ['what is no HTTP', 'hello\r\n\r\n', 400, 'request.malformed'],
    ['headers that do not end', 'GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ', 408, 'request.timeout'],
    [
      'a body that does not come',
      'POST /admin/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{',
      408,
      'request.timeout',
    ],
  ];
  it.each(fate)('%s', async (_what, request, status, code) => {
    for (const url of [flotilla.stack.urls.api, flotilla.stack.urls.instances[0]!]) {
      // The instance does not even wait for the body of a stranger.
      const isRefused = url !== flotilla.stack.urls.api && request.startsWith('POST');
      const answer = await raw(url, request);
      expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${isRefused ? 401 : status} `));
      expect(answer).toContain(`"code":"${isRefused ? 'internal.unsigned' : code}"`);
      expect(answer).toContain('application/problem+json');
    }
  });
});

describe('a connection', () => {
  it('is over after a refusal, also when the caller does not close its side', async () => {
    for (const url of [flotilla.stack.urls.api, flotilla.stack.urls.instances[0]!]) {
      const { hostname, port } = new URL(url);
      const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
      let isOver = false;
      socket.on('error', () => undefined).on('close', () => (isOver = true));
      socket.write('hello\r\n\r\n');
      socket.resume();
      await once(socket, 'end');
      // Only who writes hears that nobody reads any more.
      await eventually('closed', () => {
        if (!isOver) socket.write('x');
        return Promise.resolve(isOver);
      });
    }
  });

  it('keeps the address that a proxy adds behind any number of headers', async () => {
    const { body: own } = await flotilla.call('POST', '/workspaces', { name: 'x' });
    const wanted = { name: 'x', role: 'owner', allowedIps: ['198.51.100.9'] };
    const { key } = (await flotilla.call('POST', `/workspaces/${own.id}/api-keys`, wanted)).body;
    const junk = Array.from({ length: 150 }, (_none, index) => `X-Junk-${index}: x\r\n`).join('');
    const head = `GET /api/v1/workspace HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Api-Key: ${key}\r\n`;
    const answer = await raw(flotilla.stack.urls.api, `${head}${junk}X-Forwarded-For: 198.51.100.9\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
  });
});

describe('a program', () => {
  it('has no rights of root, and its browsers run in their own sandbox', async () => {
    await workspace.linkedAccounts(1);
    const { programsUser, varDir } = flotilla.stack;
    // A machine that forbids it says why, with the cure; then this test says so.
    expect(programsUser).toMatchObject({ browserSandbox: 'on' });
    expect(programsUser!.warning).toBeUndefined();
    const owners = await Promise.all(
      [...(await flotilla.stack.status())]
        .filter(([name]) => name.startsWith('flotilla:'))
        .map(async ([, { pid }]) => (await stat(`/proc/${pid}`)).uid),
    );
    const own = programsUser!.uid ?? process.getuid!();
    expect(own).not.toBe(0);
    expect(owners).toEqual(owners.map(() => own));
    const browsers = await browsersBelow(varDir);
    expect(browsers.length).toBeGreaterThan(0);
    for (const pid of browsers) {
      expect((await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0')).not.toContain('--no-sandbox');
      expect((await stat(`/proc/${pid}`)).uid).toBe(own);
    }
  });
});

describe('an instance', () => {
  const url = () => flotilla.stack.urls.instances[0]!;
  const id = '01960000-0000-7000-8000-000000000000';
  const call = (path: string, authorization: string | undefined, method = 'GET', body?: string) =>
    fetch(`${url()}${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...(authorization ? { authorization } : {}) },
      body,
    });
  const signer = () => new CallSigner(flotilla.stack.env.INTERNAL_API_KEY!);

  it('tells strangers that it lives, and nothing else', async () => {
    for (const path of ['/health', '/health/live', '/health/ready'])
      expect((await call(path, undefined)).status).toBe(200);
    for (const [method, path] of [
      ['GET', `/internal/accounts/${id}/screenshot`],
      ['POST', `/internal/accounts/${id}/lane`],
      ['POST', `/internal/accounts/${id}/logout`],
      ['GET', '/nothing'],
      ['GET', '/health/../internal'],
      ['GET', '/HEALTH/live/x'],
    ] as const) {
      for (const header of [
        undefined,
        `Bearer ${flotilla.stack.env.INTERNAL_API_KEY}`,
        `Bearer ${flotilla.adminKey}`,
      ]) {
        expect(await problem(await call(path, header, method)), `${method} ${path}`).toMatchObject({
          status: 401,
          code: 'internal.unsigned',
        });
      }
    }
  });

  it('does what is signed, once, here, with this body', async () => {
    const path = `/internal/accounts/${id}/lane`;
    const body = JSON.stringify({ epoch: 1 });
    const what = { method: 'POST', audience: url(), path };
    const signed = signer().sign(what, body);
    // Past the door: there is no such account.
    expect(await problem(await call(path, signed, 'POST', body))).toMatchObject({ status: 409 });
    expect(await problem(await call(path, signed, 'POST', body))).toMatchObject({
      status: 401,
      code: 'internal.replayed',
    });
    for (const other of ['{"epoch": 2}', '']) {
      const answer = await call(path, signer().sign(what, body), 'POST', other);
      expect(await problem(answer)).toMatchObject({ status: 401, code: 'internal.wrong_signature' });
    }
    const elsewhere = signer().sign({ ...what, audience: 'http://127.0.0.1:1' }, body);
    expect(await problem(await call(path, elsewhere, 'POST', body))).toMatchObject({
      code: 'internal.wrong_signature',
    });
    const late = signer().sign(what, body, Date.now() - 60_000);
    expect(await problem(await call(path, late, 'POST', body))).toMatchObject({
      code: 'internal.clock_skew',
    });
  });
});

describe('the sandbox', () => {
  const control = (head: Record<string, string>, method = 'GET', path = '/stats') => {
    const lines = Object.entries({ Connection: 'close', 'Content-Length': '0', ...head });
    const text = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('');
    return raw(flotilla.stack.urls.sandbox, `${method} ${path} HTTP/1.1\r\n${text}\r\n`);
  };

  it('is controlled from this machine, under a name that only this machine decides', async () => {
    const { host, port } = new URL(flotilla.stack.urls.sandbox);
    for (const name of [host, `localhost:${port}`, `[::1]:${port}`])
      expect(await control({ Host: name }), name).toMatch(/^HTTP\/1\.1 200 /);
    for (const name of [
      `evil.example.com:${port}`,
      `localhost.evil.example.com:${port}`,
      '127.0.0.1.nip.io',
      '',
    ]) {
      const answer = await control({ Host: name }, 'POST', '/phones');
      expect(answer, name).toMatch(/^HTTP\/1\.1 40[01] /);
    }
    expect(await control({ Host: 'sandbox.example.com', 'X-Api-Key': flotilla.adminKey })).toMatch(/ 200 /);
  });

  it('takes nothing from a page of another origin', async () => {
    const { host } = new URL(flotilla.stack.urls.sandbox);
    for (const head of [
      { Origin: 'https://evil.example.com' },
      { Origin: 'null' },
      { Origin: 'http://localhost:5173', 'X-Api-Key': flotilla.adminKey },
      { 'Sec-Fetch-Site': 'cross-site' },
      { 'Sec-Fetch-Site': 'same-site' },
    ] as Record<string, string>[]) {
      for (const [method, path] of [
        ['POST', '/phones'],
        ['GET', '/ledger'],
        ['DELETE', '/ledger'],
      ] as const) {
        const answer = await control({ Host: host, ...head }, method, path);
        expect(answer, JSON.stringify(head)).toMatch(/^HTTP\/1\.1 403 /);
        expect(answer).toContain('"code":"sandbox.foreign_page"');
        expect(answer.toLowerCase()).not.toContain('access-control-allow-origin');
      }
    }
    expect(await control({ Host: host, Origin: `http://${host}` })).toMatch(/ 200 /);
  });

  it('reads no upload of a stranger', async () => {
    const { hostname } = new URL(flotilla.stack.urls.sandbox);
    const socket = connectTls({
      host: hostname,
      port: Number(flotilla.stack.env.SANDBOX_PORT),
      rejectUnauthorized: false,
    });
    await once(socket, 'secureConnect');
    socket.write(
      'POST /v/media?hash=x HTTP/1.1\r\nHost: web.whatsapp.com\r\nContent-Length: 100000000\r\n\r\nx',
    );
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(String(answer)).toMatch(/^HTTP\/1\.1 401 /);
    socket.destroy();
  });
});

describe('what only the admin may see', () => {
  it.each(['/docs', '/openapi.json', '/docs/swagger-ui-init.js', '/admin/queues'])('%s', async (path) => {
    const from = { 'x-forwarded-for': newAddress() };
    expect(await problem(await get(path, from))).toMatchObject({ status: 401, code: 'auth.required' });
    expect((await get(path, { ...from, ...bearer(workspace.key) })).status).toBe(401);
    expect((await get(path, { ...from, cookie: await cookie() })).status).toBe(200);
    expect((await get(path, { ...from, ...bearer(flotilla.adminKey) })).status).toBe(200);
  });

  it('a browser is sent to the form, and back to where it wanted to go and nowhere else', async () => {
    const asked = await get('/docs?x=1', { accept: 'text/html' });
    expect([asked.status, asked.headers.get('location')]).toEqual([302, '/admin/login?next=%2Fdocs']);
    const logIn = async (next: string) =>
      (
        await get(
          '/admin/login',
          { 'x-forwarded-for': newAddress() },
          { method: 'POST', body: new URLSearchParams({ key: flotilla.adminKey, next }) },
        )
      ).headers.get('location');
    expect(await logIn('/docs')).toBe('/docs');
    for (const next of ['https://evil.example.com', '//evil.example.com', '/docs/../x', '/api/v1/accounts'])
      expect(await logIn(next)).toBe('/admin/queues');
    const form = await (await get('/admin/login?next=%22%3E%3Cscript%3E')).text();
    expect(form).not.toContain('<script>');
  });

  it('a page of somebody else cannot use the form, nor the login', async () => {
    const logIn = (headers: Record<string, string>) =>
      get(
        '/admin/login',
        { 'x-forwarded-for': newAddress(), ...headers },
        { method: 'POST', body: new URLSearchParams({ key: flotilla.adminKey }) },
      );
    for (const headers of [
      { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example.com' },
      { 'sec-fetch-site': 'same-site' },
      { origin: 'https://evil.example.com' },
      { origin: 'null' },
    ] as Record<string, string>[]) {
      const answer = await logIn(headers);
      expect(answer.headers.get('set-cookie')).toBeNull();
      expect(await problem(answer)).toMatchObject({ status: 403, code: 'auth.foreign_origin' });
    }
    expect((await logIn({ 'sec-fetch-site': 'same-origin' })).status).toBe(303);
    const { host } = new URL(flotilla.stack.urls.api);
    expect((await logIn({ origin: `http://${host}` })).status).toBe(303);
    const pause = { method: 'PUT' };
    const headers = { cookie: await cookie(), 'sec-fetch-site': 'cross-site' };
    expect((await get('/admin/queues/api/queues/messaging/pause', headers, pause)).status).toBe(403);
  });

  it('the metrics, and who has their token sees nothing else', async () => {
    const from = { 'x-forwarded-for': newAddress() };
    for (const key of [metricsToken, flotilla.adminKey])
      expect((await get('/metrics', { ...from, ...bearer(key) })).status).toBe(200);
    expect((await get('/metrics', from)).status).toBe(401);
    expect((await get('/metrics', { ...from, ...bearer(workspace.key) })).status).toBe(401);
    for (const path of ['/api/v1/workspaces', '/admin/queues', '/docs'])
      expect((await get(path, { ...from, ...bearer(metricsToken) })).status).toBe(401);
  });
});

describe('secrets and texts', () => {
  it('a key in a URL is refused, wherever it leads', async () => {
    for (const path of [
      `/api/v1/accounts?key=${workspace.key}`,
      '/api/v1/accounts?limit=1&api_key=x',
      '/api/v1/events?access_token=x',
      `/api/v1/accounts/${workspace.key}`,
      `/${workspace.key}`,
    ]) {
      expect(await problem(await get(path, bearer(workspace.key)))).toMatchObject({
        status: 400,
        code: 'auth.key_in_url',
        detail: expect.stringContaining('Authorization: Bearer KEY'),
      });
    }
  });

  it('reach no log, at the level that tells most', async () => {
    const [account] = await workspace.linkedAccounts(1);
    const phone = await flotilla.newPhone();
    const outgoing = 'Zebra-7731-outgoing';
    const incoming = 'Walrus-4402-incoming';
    const { body: message } = await workspace.send({
      to: phone,
      text: outgoing,
      metadata: { note: 'Okapi-1199' },
    });
    await eventually(
      'read',
      async () => (await workspace.call('GET', `/messages/${message.id}`)).body.status === 'read',
    );
    await workspace.call('PATCH', `/messages/${message.id}`, { text: `${outgoing}-edited` });
    await flotilla.sandbox('POST', `/phones/${phone}/messages`, { to: account.phoneNumber, text: incoming });
    await eventually('received', async () => {
      const { items } = (await workspace.call('GET', '/messages?direction=incoming')).body;
      return items.some(({ text }: { text: string }) => text === incoming);
    });
    const caption = 'Heron-5528-caption';
    const file = Buffer.from('Lynx-9043 is in the file');
    const media = {
      data: file.toString('base64'),
      mimetype: 'text/plain',
      filename: 'Tapir-3317.txt',
      caption,
    };
    await workspace.send({ to: phone, type: 'document', media });
    const { body: webhook } = await workspace.call('POST', '/webhooks', {
      url: 'https://flotilla.invalid/hook',
      events: ['message.*'],
    });
    await workspace.call('POST', `/webhooks/${webhook.id}/test`);
    const wanted = { name: 'shows a code', environment: 'sandbox' };
    const { body: unlinked } = await workspace.call('POST', '/accounts', wanted);
    await workspace.call('POST', `/accounts/${unlinked.id}/connect`);
    await workspace.untilStatus(unlinked.id, 'qr');
    const { qr } = (await workspace.call('GET', `/accounts/${unlinked.id}/qr`)).body;
    // What goes wrong is logged with more than what goes well.
    await workspace.send({ to: phone, text: `${outgoing}\u0000` });
    await workspace.call('POST', '/messages', `{"text": "${outgoing}`);
    await get('/api/v1/accounts', bearer(`${workspace.key}x`));

    const folder = join(flotilla.stack.varDir, 'log');
    const files = await readdir(folder);
    expect(files).toEqual(expect.arrayContaining(['api.log', 'worker_00.log', 'instance_00.log']));
    const env = flotilla.stack.env;
    const secrets = [
      outgoing,
      incoming,
      'Okapi-1199',
      caption,
      media.data,
      'Lynx-9043',
      webhook.secret,
      qr,
      workspace.key,
      metricsToken,
      ...['ADMIN_API_KEY', 'INTERNAL_API_KEY', 'APP_KEY', 'EMBEDDED_PASSWORD'].map((name) => env[name]!),
      decodeURIComponent(new URL(env.DATABASE_URL!).password),
      (await cookie()).split('=')[1]!,
    ].filter((secret) => secret.length > 8);
    const found: string[] = [];
    let lines = 0;
    for (const file of files) {
      const text = await readFile(join(folder, file), 'utf8');
      lines += text.split('\n').length;
      for (const secret of secrets) if (text.includes(secret)) found.push(`${file}: ${secret}`);
    }
    expect(found).toEqual([]);
    expect(lines).toBeGreaterThan(100);
  });
});
