import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { eventually } from '../support/eventually.js';
import { scratchDatabase } from '../support/scratch-database.js';
import { type Answer, type Api, startApi } from '../support/api.js';

/* The answers of the API to internal errors, and to conflicts with another request at the same moment. */

let drop: () => Promise<void>;
let api: Api;
let workspaceId: string;
let key: string;

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  api = await startApi(scratch.config);
  workspaceId = (await api.call('POST', '/workspaces', { name: 'test' })).body.id;
  const wanted = { name: 'test', role: 'owner' };
  key = (await api.call('POST', `/workspaces/${workspaceId}/api-keys`, wanted)).body.key;
}, 60_000);
afterAll(async () => {
  await api?.close();
  await drop?.();
});

const root = (path: string): Promise<Response> => fetch(new URL(path, api.url));

/** Runs a function while a table is missing: it is renamed. */
async function without<Result>(table: string, work: () => Promise<Result>): Promise<Result> {
  await api.database.query(`alter table ${table} rename to elsewhere`);
  try {
    return await work();
  } finally {
    await api.database.query(`alter table elsewhere rename to ${table}`);
  }
}

describe('the API', () => {
  it('reveals no internals when it fails, but an id that leads to them in the log', async () => {
    const failed = await without('webhooks', () => api.call('GET', '/webhooks', undefined, key));
    expect(failed).toMatchObject({
      status: 500,
      body: { code: 'internal.error', title: 'Internal Server Error', requestId: expect.any(String) },
    });
    expect(JSON.stringify(failed.body)).not.toMatch(/webhooks|relation|select|node_modules|\.ts|\.js/i);
    expect(failed.headers.get('x-request-id')).toBe(failed.body.requestId);
    expect((await api.call('GET', '/webhooks', undefined, key)).status).toBe(200);
  });

  it('is not ready while its tables are missing', async () => {
    expect((await root('/health/ready')).status).toBe(200);
    const answer = await without('workspaces', () => root('/health/ready'));
    expect(answer.status).toBe(503);
    expect(await answer.json()).toMatchObject({
      code: 'service.not_ready',
      detail: expect.stringContaining('flotilla migrate'),
    });
    // It is alive all the same, because a restart would not help.
    expect((await without('workspaces', () => root('/health/live'))).status).toBe(200);
  });

  it('reports a conflict when another request deletes a needed row at the same moment', async () => {
    const wanted = { name: 'short', environment: 'sandbox' };
    const { body: account } = await api.call('POST', '/accounts', wanted, key);
    const other = api.database.createQueryRunner();
    try {
      await other.startTransaction();
      const [{ pid }] = await other.query('select pg_backend_pid() as pid');
      await other.query('delete from accounts where id = $1', [account.id]);
      const sending: Promise<Answer> = api.call(
        'POST',
        '/messages',
        { accountId: account.id, to: '+6281234567890', text: 'hello' },
        key,
      );
      await eventually('it waits', async () => {
        const blocked = 'select from pg_stat_activity where $1 = any(pg_blocking_pids(pid))';
        return (await api.database.query(blocked, [pid])).length === 1;
      });
      await other.commitTransaction();
      expect(await sending).toMatchObject({ status: 409, body: { code: 'request.conflict' } });
    } finally {
      await other.release();
    }
  }, 60_000);

  it('accepts bodies in UTF-8 only, and says so', async () => {
    const answer = await fetch(`${api.url}/webhooks`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json; charset=latin-1' },
      body: '{}',
    });
    expect(answer.status).toBe(415);
    expect(await answer.json()).toMatchObject({ code: 'request.unsupported_media_type' });
  });
});

describe('a body', () => {
  it('is not parsed before the route, the key and the role are known', async () => {
    const { key: viewer } = (
      await api.call('POST', `/workspaces/${workspaceId}/api-keys`, { name: 'test', role: 'viewer' })
    ).body;
    const body = JSON.stringify({ name: 'x'.repeat(60_000) });
    const parsed = vi.spyOn(JSON, 'parse');
    const statuses = new Map<number, number>();
    const post = async (path: string, headers: Record<string, string> = {}) => {
      const { status } = await fetch(`${api.url}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body,
      });
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    };
    try {
      for (let sent = 0; sent < 300; sent += 20)
        await Promise.all(Array.from({ length: 20 }, () => post('/messages')));
      await post('/accounts', { authorization: `Bearer ${viewer}` });
      await post('/nothing', { authorization: `Bearer ${key}` });
      expect(parsed.mock.calls.filter(([text]) => text.length > 60_000)).toEqual([]);
      await post('/accounts', { authorization: `Bearer ${key}` });
      expect(parsed.mock.calls.filter(([text]) => text.length > 60_000)).toHaveLength(1);
    } finally {
      parsed.mockRestore();
    }
    expect(statuses.get(403)).toBe(1);
    expect(statuses.get(404)).toBe(1);
    expect(statuses.get(400)).toBe(1);
    expect((statuses.get(401) ?? 0) + (statuses.get(429) ?? 0)).toBe(300);
  });
});
