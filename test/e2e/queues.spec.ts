import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { queueNames } from '../../src/queues/queue-policies.js';
import { eventually } from '../support/eventually.js';
import { Flotilla, type Workspace } from '../support/flotilla.js';

/** The queues as an operator sees them through HTTP. */
let flotilla: Flotilla;
let workspace: Workspace;

beforeAll(async () => {
  flotilla = await Flotilla.start({ programs: ['api', 'worker'] });
  workspace = await flotilla.newWorkspace();
});
afterAll(() => flotilla?.stop());

function get(path: string, headers: Record<string, string> = {}, init: RequestInit = {}): Promise<Response> {
  return fetch(`${flotilla.stack.urls.api}${path}`, { redirect: 'manual', ...init, headers });
}

async function logIn(key = flotilla.adminKey): Promise<Response> {
  return get('/admin/login', {}, { method: 'POST', body: new URLSearchParams({ key }) });
}

let session: string | undefined;

/** One login for all: they are counted. */
async function cookie(): Promise<string> {
  session ??= (await logIn()).headers.get('set-cookie')!.split(';')[0]!;
  return session;
}

const html = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' };

describe('the admin login', () => {
  it('shows a form, and gives a cookie that only our own pages can use', async () => {
    const page = await get('/admin/login', html);
    expect(page.status).toBe(200);
    expect(await page.text()).toContain('<form method="post" action="/admin/login">');
    const answer = await logIn();
    expect([answer.status, answer.headers.get('location')]).toEqual([303, '/admin/queues']);
    expect(answer.headers.get('set-cookie')).toMatch(
      /^flotilla_admin=\d+\.[\w-]+; Path=\/; Max-Age=43200; HttpOnly; SameSite=Strict$/,
    );
    const behindProxy = await get(
      '/admin/login',
      { 'x-forwarded-proto': 'https' },
      {
        method: 'POST',
        body: new URLSearchParams({ key: flotilla.adminKey }),
      },
    );
    expect(behindProxy.headers.get('set-cookie')).toContain('; Secure');
  });

  it.each([['wrong'], ['workspace']])('refuses a %s key, and says so on the page', async (kind) => {
    const answer = await logIn(kind === 'wrong' ? 'x'.repeat(40) : workspace.key);
    expect([answer.status, answer.headers.get('set-cookie')]).toEqual([401, null]);
    expect(await answer.text()).toContain('not the admin key');
  });

  it('believes no cookie that it has not signed, and no cookie with a changed time', async () => {
    const [until, signature] = (await cookie()).split('=')[1]!.split('.');
    const forged = [
      `1.${signature}`,
      `${Number(until) + 1}.${signature}`,
      `${until}.`,
      `${until}.${'A'.repeat(43)}`,
    ];
    for (const value of forged) {
      expect((await get('/metrics', { cookie: `flotilla_admin=${value}` })).status).toBe(401);
    }
  });

  it('ends with a logout from our own pages', async () => {
    const session = await cookie();
    const post = (headers: Record<string, string>) =>
      get('/admin/logout', { cookie: session, ...headers }, { method: 'POST' });
    expect((await post({ 'sec-fetch-site': 'cross-site' })).status).toBe(403);
    const answer = await post({ 'sec-fetch-site': 'same-origin' });
    expect(answer.status).toBe(303);
    expect(answer.headers.get('set-cookie')).toContain('flotilla_admin=; Path=/; Max-Age=0');
  });
});

describe('Bull Board', () => {
  it('is closed: a browser is sent to the form, others are told why', async () => {
    const browser = await get('/admin/queues', html);
    expect([browser.status, browser.headers.get('location')]).toEqual([302, '/admin/login']);
    for (const path of ['/admin/queues', '/admin/queues/api/queues', '/admin/queues/static/js/main.js']) {
      const answer = await get(path);
      expect(answer.status).toBe(401);
      expect(await answer.json()).toMatchObject({ code: 'auth.required' });
    }
    expect((await get('/admin/queues/api/queues', { 'x-api-key': workspace.key })).status).toBe(401);
  });

  it('shows the queues to who has logged in', async () => {
    const session = { cookie: await cookie() };
    const page = await get('/admin/queues', session);
    expect(page.status).toBe(200);
    const script = /src="(static\/js\/main[^"]+)"/.exec(await page.text())![1]!;
    expect((await get(`/admin/queues/${script}`, session)).status).toBe(200);
    const { queues } = (await (await get('/admin/queues/api/queues', session)).json()) as {
      queues: { name: string }[];
    };
    expect(queues.map(({ name }) => name)).toEqual(queueNames);
  });

  it('shows the ids of what jobs carry, and nothing else of it', async () => {
    const redis = new Redis(flotilla.stack.env.REDIS_URL!, { maxRetriesPerRequest: null });
    const queue = new Queue('messaging', { connection: redis });
    try {
      await queue.add(
        'probe',
        { id: 'probe', text: 'a secret text' },
        { jobId: 'probe-1', delay: 3_600_000 },
      );
      const session = { cookie: await cookie() };
      for (const path of ['queues?activeQueue=messaging&status=delayed', 'queues/messaging/probe-1']) {
        const answer = await get(`/admin/queues/api/${path}`, session);
        const text = await answer.text();
        expect([answer.status, text]).toEqual([200, expect.stringContaining('{"id":"probe"}')]);
        expect(text).not.toContain('secret');
      }
    } finally {
      await queue.remove('probe-1');
      await queue.close();
      redis.disconnect();
    }
  });

  it('pauses a queue as the command does, from our own pages only', async () => {
    const session = await cookie();
    const pause = (headers: Record<string, string>) =>
      get(
        '/admin/queues/api/queues/whatsapp-campaign/pause',
        { cookie: session, ...headers },
        { method: 'PUT' },
      );
    expect((await pause({ origin: 'https://evil.example' })).status).toBe(403);
    expect((await pause({})).status).toBe(403);
    const pausedAt = async () => {
      const { body } = await flotilla.call('GET', '/admin/queues');
      return body.items.find(({ name }: { name: string }) => name === 'whatsapp-campaign').pausedAt;
    };
    expect(await pausedAt()).toBeNull();
    expect((await pause({ origin: flotilla.stack.urls.api })).status).toBe(200);
    expect(await pausedAt()).toEqual(expect.any(String));
    await flotilla.call('POST', '/admin/queues/whatsapp-campaign/resume');
    expect(await pausedAt()).toBeNull();
  });

  it('leaves no queue paused that it was not allowed to obliterate', async () => {
    // Nothing serves this one: its job is active for as long as it is here.
    const name = 'campaign-stats';
    const redis = new Redis(flotilla.stack.env.REDIS_URL!, { maxRetriesPerRequest: null });
    const queue = new Queue(name, { connection: redis });
    const worker = new Worker(name, null, { connection: redis, autorun: false });
    try {
      await queue.add('probe', { id: 'probe' }, { jobId: 'probe-1' });
      expect(await worker.getNextJob('token')).toMatchObject({ id: 'probe-1' });
      const headers = {
        cookie: await cookie(),
        origin: flotilla.stack.urls.api,
        'content-type': 'application/json',
      };
      const put = async (action: string, body = {}) =>
        (
          await get(`/admin/queues/api/queues/${name}/${action}`, headers, {
            method: 'PUT',
            body: JSON.stringify(body),
          })
        ).status;
      expect(await put('pause')).toBe(200);
      expect(await put('obliterate')).toBe(409);
      expect(await put('resume')).toBe(200);
      expect(await queue.isPaused()).toBe(false);
      await put('pause');
      expect(await put('obliterate', { force: true })).toBe(200);
      await put('resume');
      expect([await queue.isPaused(), await queue.getActiveCount()]).toEqual([false, 0]);
    } finally {
      await worker.close();
      await queue.close();
      redis.disconnect();
    }
  });
});

describe('the queues of the API', () => {
  it('are all there, in order, with the ordinary ones', async () => {
    const { status, body } = await flotilla.call('GET', '/admin/queues');
    expect(status).toBe(200);
    expect(body.items.map(({ name }: { name: string }) => name)).toEqual(queueNames);
    expect(body.items[0]).toEqual({
      name: 'messaging',
      waiting: 0,
      delayed: 0,
      active: 0,
      failed: 0,
      oldestSeconds: 0,
      backlog: 0,
      pausedAt: null,
    });
  });

  it('can be paused and resumed, and an unknown one is not found', async () => {
    const { body } = await flotilla.call('POST', '/admin/queues/messaging/pause');
    expect(body).toEqual({ name: 'messaging', pausedAt: expect.any(String) });
    expect((await flotilla.call('POST', '/admin/queues/messaging/pause')).body).toEqual(body);
    expect((await flotilla.call('POST', '/admin/queues/messaging/resume')).body.pausedAt).toBeNull();
    const missing = await flotilla.call('POST', '/admin/queues/emails/pause');
    expect([missing.status, missing.body.code]).toEqual([404, 'queue.not_found']);
    const forbidden = await flotilla.call('POST', '/admin/queues/messaging/pause', undefined, workspace.key);
    expect(forbidden.status).toBe(403);
  });
});

describe('the metrics', () => {
  it('are closed, and open to the admin by key or login', async () => {
    expect((await get('/metrics')).status).toBe(401);
    expect((await get('/metrics', { 'x-api-key': workspace.key })).status).toBe(401);
    expect((await get('/metrics', { authorization: `Bearer ${flotilla.adminKey}` })).status).toBe(200);
    expect((await get('/metrics', { cookie: await cookie() })).status).toBe(200);
  });

  it('tell of queues, workers, accounts and requests', async () => {
    await flotilla.call('GET', `/workspaces/${workspace.id}`);
    const text = await eventually('the worker is counted', async () => {
      const answer = await (await get('/metrics', { 'x-api-key': flotilla.adminKey })).text();
      return answer.includes('flotilla_workers{status="running"} 1') && answer;
    });
    for (const line of [
      'flotilla_database_up 1',
      'flotilla_queue_jobs{queue="whatsapp-urgent",state="waiting"} 0',
      'flotilla_queue_oldest_seconds{queue="messaging"} 0',
      'flotilla_failed_jobs{queue="whatsapp-normal"} 0',
      'flotilla_accounts{status="ready"} 0',
      'flotilla_http_request_duration_seconds_count{method="GET",route="/api/v1/workspaces/:id",status="200"} 1',
      'process_cpu_seconds_total',
    ]) {
      expect(text).toContain(line);
    }
    expect(text).not.toContain(workspace.id);
  });
});

describe('while Redis is away', () => {
  beforeAll(() => flotilla.stack.ctl('stop', 'flotilla-data:redis'));

  it('the queues say what PostgreSQL knows, the board that Redis is away, and nothing hangs', async () => {
    const started = performance.now();
    const { status, body } = await flotilla.call('GET', '/admin/queues');
    expect(status).toBe(200);
    expect(body.items[0]).toMatchObject({ name: 'messaging', waiting: null, backlog: null, failed: 0 });
    expect(body.items[2]).toMatchObject({ name: 'whatsapp-urgent', waiting: 0 });
    const session = { cookie: await cookie() };
    const board = await get('/admin/queues/api/queues', session);
    expect(board.status).toBe(503);
    expect(await board.json()).toMatchObject({ code: 'redis.unreachable' });
    expect((await get('/admin/queues', session)).status).toBe(200);
    expect((await get('/metrics', session)).status).toBe(200);
    expect(performance.now() - started).toBeLessThan(10_000);
  });
});

describe('guessing', () => {
  it('is slowed down', async () => {
    const statuses = new Set<number>();
    for (let attempt = 0; attempt < 11; attempt += 1) statuses.add((await logIn('guess')).status);
    expect(statuses).toContain(429);
  });
});
