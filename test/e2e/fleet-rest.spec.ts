import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Flotilla } from '../support/flotilla.js';

let flotilla: Flotilla;
let database: Client;
/** A server of the fleet that answers its health check as told: a status, or null for never. */
let machine: Server;
let answer: number | null = 200;
let machineUrl: string;

beforeAll(async () => {
  flotilla = await Flotilla.start({ instances: 1, env: { SERVER_ID: 'home-server', SERVER_REGION: 'SG' } });
  database = new Client({ connectionString: flotilla.stack.env.DATABASE_URL });
  await database.connect();
  machine = createServer((request, response) => {
    if (request.url !== '/health') response.writeHead(500).end();
    else if (answer !== null) response.writeHead(answer).end('x'.repeat(1_000_000));
  });
  await once(machine.listen(0, '127.0.0.1'), 'listening');
  machineUrl = `http://127.0.0.1:${(machine.address() as AddressInfo).port}/`;
});
afterAll(async () => {
  machine?.closeAllConnections();
  machine?.close();
  await database?.end();
  await flotilla?.stop();
});

const call = (method: string, path: string, body?: unknown) => flotilla.call(method, `/admin${path}`, body);

describe('servers', () => {
  it('a running one has registered itself, with its instance and what its environment says', async () => {
    const { status, body } = await call('GET', '/servers/home-server');
    expect(status).toBe(200);
    expect(body).toEqual({
      id: 'home-server',
      name: 'home-server',
      url: null,
      type: 'vps',
      region: 'SG',
      environment: 'production',
      location: null,
      tags: [],
      maxCapacity: 50,
      priority: 0,
      weight: 1,
      isEnabled: true,
      isHealthy: true,
      reserved: 0,
      connected: 0,
      instances: [{ id: 'home-server.instance_00', status: 'active' }],
      responseTimeMs: expect.objectContaining({ p95: null }),
      lastHealthCheckAt: null,
      healthCheckFailures: 0,
      createdAt: expect.any(String),
      updatedAt: expect.any(String),
    });
  });

  it('are created, listed in pages, changed and deleted', async () => {
    const wanted = {
      id: 'server-sg-1',
      name: 'Singapore 1',
      url: 'http://10.0.0.5:3000',
      type: 'cloud',
      region: 'SG',
      environment: 'staging',
      location: 'Singapore',
      tags: ['a', 'b'],
      maxCapacity: 30,
      priority: 10,
      weight: 3,
    };
    const created = await call('POST', '/servers', wanted);
    expect(created.body).toMatchObject({
      ...wanted,
      isEnabled: true,
      isHealthy: true,
      instances: [],
      reserved: 0,
    });
    expect(created.status).toBe(201);
    const bare = await call('POST', '/servers', { name: 'Bare' });
    expect(bare.body).toMatchObject({
      id: expect.stringMatching(/^server-[0-9a-f]{8}$/),
      maxCapacity: 50,
      priority: 0,
      weight: 1,
      url: null,
    });

    const all = (await call('GET', '/servers')).body;
    expect(all.nextCursor).toBeNull();
    const ids = all.items.map(({ id }: { id: string }) => id);
    expect(ids).toEqual(['home-server', bare.body.id, 'server-sg-1'].sort());
    const first = (await call('GET', '/servers?limit=2')).body;
    expect(first.items.map(({ id }: { id: string }) => id)).toEqual(ids.slice(0, 2));
    const second = (await call('GET', `/servers?limit=2&cursor=${first.nextCursor}`)).body;
    expect(second).toMatchObject({ items: [{ id: ids[2] }], nextCursor: null });

    const changed = await call('PATCH', '/servers/server-sg-1', {
      maxCapacity: 40,
      isEnabled: false,
      url: null,
    });
    expect(changed.body).toMatchObject({ ...wanted, maxCapacity: 40, isEnabled: false, url: null });
    const { body: logs } = await call('GET', '/logs?serverId=server-sg-1');
    expect(logs.items.map(({ message }: { message: string }) => message)).toEqual([
      'Server settings changed',
      'Server registered',
    ]);
    expect(logs.items[0].details.changed.max_capacity).toEqual({ old: 30, new: 40 });

    for (const id of ['server-sg-1', bare.body.id]) {
      expect((await call('DELETE', `/servers/${id}`)).status).toBe(204);
      expect((await call('GET', `/servers/${id}`)).body).toMatchObject({
        status: 404,
        code: 'server.not_found',
      });
    }
  });

  const bad: [what: string, body: object, path: string, words: string][] = [
    ['no name', {}, 'name', 'name must be'],
    ['an id with a slash', { name: 'x', id: 'a/b' }, 'id', 'letters, digits'],
    ['an id that is too short', { name: 'x', id: 'ab' }, 'id', '3 to 128 characters'],
    ['a reserved id', { name: 'x', id: 'Admin' }, 'id', 'reserved word'],
    ['an id that is no text', { name: 'x', id: 5 }, 'id', 'must be a server id'],
    ['a URL of another kind', { name: 'x', url: 'ftp://x' }, 'url', 'http or https'],
    ['no capacity', { name: 'x', maxCapacity: 0 }, 'maxCapacity', 'not be less than 1'],
    ['a capacity that is a text', { name: 'x', maxCapacity: '5' }, 'maxCapacity', 'integer'],
    ['a weight that is too large', { name: 'x', weight: 1001 }, 'weight', '1000'],
    ['tags that are no list', { name: 'x', tags: 'a' }, 'tags', 'array'],
    ['an unknown field', { name: 'x', isHealthy: true }, 'isHealthy', 'unknown field'],
    ['a type that is no text', { name: 'x', type: 5 }, 'type', 'string'],
  ];
  it.each(bad)('refuses %s', async (_what, body, path, words) => {
    const refused = await call('POST', '/servers', body);
    expect(refused.body).toMatchObject({ status: 400, code: 'validation.failed', errors: [{ path }] });
    expect(refused.body.detail).toContain(words);
  });

  it('refuses a duplicate, a new id, and to delete a server that is in use', async () => {
    expect((await call('POST', '/servers', { id: 'home-server', name: 'x' })).body).toMatchObject({
      status: 409,
      code: 'server.exists',
      detail: expect.stringContaining('PATCH'),
    });
    expect((await call('PATCH', '/servers/home-server', { id: 'other-server' })).body).toMatchObject({
      status: 400,
      errors: [{ path: 'id' }],
    });
    expect((await call('DELETE', '/servers/home-server')).body).toMatchObject({
      status: 409,
      code: 'server.has_live_instances',
      detail: expect.stringContaining('home-server.instance_00'),
    });
    const workspace = await flotilla.newWorkspace();
    const { body: account } = await workspace.call('POST', '/accounts', {
      name: 'x',
      environment: 'sandbox',
    });
    await call('POST', '/servers', { id: 'server-kept', name: 'Kept' });
    await database.query(`update devices set assigned_server_id = 'server-kept' where id = $1`, [account.id]);
    expect((await call('DELETE', '/servers/server-kept')).body).toMatchObject({
      status: 409,
      code: 'server.has_accounts',
      detail: expect.stringContaining('migrate'),
    });
    expect((await call('GET', `/logs?accountId=${account.id}`)).body.items[0]).toMatchObject({
      serverId: 'server-kept',
      workspaceId: workspace.id,
      accountId: account.id,
      type: 'info',
      message: 'Device assignment changed',
      details: { new_server: 'server-kept', reason: 'assigned by SQL' },
    });
    await workspace.call('DELETE', `/accounts/${account.id}`);
    expect((await call('DELETE', '/servers/server-kept')).status).toBe(204);
    for (const [method, path] of [
      ['GET', '/servers/nowhere'],
      ['PATCH', '/servers/nowhere'],
      ['DELETE', '/servers/nowhere'],
      ['POST', '/servers/nowhere/health-check'],
    ] as const) {
      const missing = await call(method, path, method === 'PATCH' ? { name: 'x' } : undefined);
      expect(missing.body, `${method} ${path}`).toMatchObject({ status: 404, code: 'server.not_found' });
    }
  });
});

describe('a health check', () => {
  it('asks the live instances of a server without a URL', async () => {
    const { status, body } = await call('POST', '/servers/home-server/health-check');
    expect(status).toBe(200);
    expect(body).toEqual({
      isHealthy: true,
      responseTimeMs: expect.any(Number),
      checkedAt: expect.any(String),
      failures: 0,
      detail: 'home-server.instance_00: answers 200',
      instances: [{ id: 'home-server.instance_00', isHealthy: true, responseTimeMs: expect.any(Number) }],
    });
    expect((await call('GET', '/servers/home-server')).body.lastHealthCheckAt).toBe(body.checkedAt);
  });

  it('asks the health URL of a server that has one, counts failures, and records them', async () => {
    await call('POST', '/servers', { id: 'server-url', name: 'With a URL', url: machineUrl });
    const check = async () => (await call('POST', '/servers/server-url/health-check')).body;
    answer = 404;
    expect(await check()).toMatchObject({ isHealthy: true, failures: 0, instances: [] });
    answer = 503;
    expect(await check()).toMatchObject({ isHealthy: false, responseTimeMs: null, failures: 1 });
    answer = null;
    expect(await check()).toMatchObject({
      isHealthy: false,
      failures: 2,
      detail: expect.stringContaining('5000 ms'),
    });
    expect((await call('GET', '/servers/server-url')).body).toMatchObject({
      isHealthy: false,
      healthCheckFailures: 2,
    });
    answer = 200;
    expect(await check()).toMatchObject({ isHealthy: true, failures: 0 });
    const { body: logs } = await call('GET', '/logs?serverId=server-url&type=warning');
    expect(logs.items.map(({ message }: { message: string }) => message)).toEqual([
      'Health check',
      'Health check',
      'Server health changed',
    ]);
    await call('DELETE', '/servers/server-url');
  });

  it('says what is missing where nothing can be asked', async () => {
    await call('POST', '/servers', { id: 'server-mute', name: 'Mute' });
    expect((await call('POST', '/servers/server-mute/health-check')).body).toMatchObject({
      isHealthy: false,
      failures: 1,
      detail: expect.stringContaining('set its url'),
    });
    await call('DELETE', '/servers/server-mute');
  });
});

describe('logs and samples', () => {
  it('the log is paged, and filtered by server, instance, type and time', async () => {
    const all = (await call('GET', '/logs?limit=200')).body.items;
    const first = (await call('GET', '/logs?limit=1')).body;
    expect(first.items).toEqual([all[0]]);
    expect((await call('GET', `/logs?limit=1&cursor=${first.nextCursor}`)).body.items).toEqual([all[1]]);
    const ofInstance = (await call('GET', '/logs?instanceId=home-server.instance_00')).body.items;
    expect(ofInstance[0]).toMatchObject({
      message: 'Instance state changed',
      details: { new_state: 'active' },
    });
    expect(
      (await call('GET', `/logs?since=${new Date(Date.now() + 60_000).toISOString()}`)).body.items,
    ).toEqual([]);
  });

  it('the samples too; those of the last minutes are in the server', async () => {
    await call('POST', '/servers', { id: 'server-stats', name: 'Measured' });
    await database.query(
      `insert into server_stats (server_id, instance_id, at, cpu, memory, memory_bytes, accounts, connected,
         messages_per_minute, error_rate, average_response_time_ms, p95_response_time_ms, p99_response_time_ms, uptime_seconds)
       values ('server-stats', 'server-stats.instance_00', now() - interval '1 hour', 1, 1, 1, 1, 1, 9, 0, 9, 9, 9, 9),
              ('server-stats', 'server-stats.instance_00', now(), 45.2, 67.8, 5, 4, 3, 30, 0.1, 100, 300, 500, 60),
              ('server-stats', 'server-stats.instance_01', now(), 45.2, 67.8, 5, 4, 3, 10, 0, 200, 250, 600, 60)`,
    );
    const { body } = await call('GET', '/stats?serverId=server-stats');
    expect(body.items).toHaveLength(3);
    expect(body.items[1]).toEqual({
      at: expect.any(String),
      serverId: 'server-stats',
      instanceId: 'server-stats.instance_00',
      cpu: 45.2,
      memory: 67.8,
      memoryBytes: 5,
      accounts: 4,
      connected: 3,
      messagesPerMinute: 30,
      errorRate: 0.1,
      averageResponseTimeMs: 100,
      p95ResponseTimeMs: 300,
      p99ResponseTimeMs: 500,
      uptimeSeconds: 60,
    });
    const since = new Date(Date.now() - 600_000).toISOString();
    expect((await call('GET', `/stats?serverId=server-stats&since=${since}`)).body.items).toHaveLength(2);
    expect((await call('GET', '/stats?instanceId=server-stats.instance_01')).body.items).toHaveLength(1);
    expect((await call('GET', '/stats?serverId=server-stats&limit=2')).body.nextCursor).toEqual(
      expect.any(String),
    );
    expect((await call('GET', '/servers/server-stats')).body.responseTimeMs).toEqual({
      avg: 125,
      p95: 300,
      p99: 600,
    });
    await call('DELETE', '/servers/server-stats');
  });

  it.each([
    ['/logs?type=loud', 'type'],
    ['/logs?accountId=x', 'accountId'],
    ['/logs?since=yesterday', 'since'],
    ['/logs?cursor=x', 'cursor'],
    ['/logs?limit=201', 'limit'],
    ['/logs?colour=red', 'colour'],
    ['/stats?since=x', 'since'],
    ['/stats?cursor=-1', 'cursor'],
    ['/servers?limit=0', 'limit'],
  ])('refuses %s', async (path, field) => {
    expect((await call('GET', path)).body).toMatchObject({
      status: 400,
      code: 'validation.failed',
      errors: [{ path: field }],
    });
  });
});

describe('load balancing', () => {
  it('is least sessions over all servers until somebody says otherwise', async () => {
    expect((await call('GET', '/load-balancing')).body).toEqual({
      strategy: 'least_sessions',
      strategies: [
        'least_sessions',
        'round_robin',
        'weighted_round_robin',
        'least_connections',
        'priority_first',
      ],
      shardSize: 4,
      filters: {},
      updatedAt: expect.any(String),
    });
    const filters = { environment: 'production', location: 'US-East', tags: ['primary'], minCapacity: 50 };
    const set = await call('PUT', '/load-balancing', {
      strategy: 'weighted-round-robin',
      shardSize: 2,
      filters,
    });
    expect(set.status).toBe(200);
    expect(set.body).toMatchObject({ strategy: 'weighted_round_robin', shardSize: 2, filters });
    expect((await call('GET', '/load-balancing')).body).toEqual(set.body);
    const back = await call('PUT', '/load-balancing', { strategy: 'least_sessions' });
    expect(back.body).toMatchObject({ strategy: 'least_sessions', shardSize: 4, filters: {} });
    expect((await call('GET', '/logs?limit=1')).body.items[0]).toMatchObject({
      serverId: null,
      message: 'Load balancing changed',
      details: {
        old: { strategy: 'weighted_round_robin', shardSize: 2, filters },
        new: { strategy: 'least_sessions', shardSize: null, filters: {} },
      },
    });
  });

  it.each([
    [{}, 'strategy', 'least_sessions'],
    [{ strategy: 'random' }, 'strategy', 'priority_first'],
    [{ strategy: 'round_robin', shardSize: 0 }, 'shardSize', '1'],
    [{ strategy: 'round_robin', filters: [] }, 'filters', 'object'],
    [{ strategy: 'round_robin', filters: { planet: 'Mars' } }, 'filters.planet', 'unknown field'],
    [{ strategy: 'round_robin', filters: { minCapacity: -1 } }, 'filters.minCapacity', '1'],
  ])('refuses %j', async (body, path, words) => {
    const refused = await call('PUT', '/load-balancing', body);
    expect(refused.body).toMatchObject({ status: 400, code: 'validation.failed', errors: [{ path }] });
    expect(refused.body.detail).toContain(words);
  });
});

it("is the admin's alone", async () => {
  const { key } = await flotilla.newWorkspace();
  for (const path of ['/servers', '/logs', '/stats', '/load-balancing']) {
    expect((await flotilla.call('GET', `/admin${path}`, undefined, key)).body).toMatchObject({
      status: 403,
      code: 'auth.insufficient_role',
    });
  }
});
