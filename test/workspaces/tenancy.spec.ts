import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Config } from '../../src/platform/config/config.js';
import { LimitsService } from '../../src/workspaces/limits.service.js';
import { runCommand } from '../support/commands.js';
import { eventually } from '../support/eventually.js';
import { silent } from '../support/services.js';
import { scratchDatabase } from '../support/scratch-database.js';
import { type Api, startApi } from '../support/api.js';

/* Keys, limits, isolation and the audit log, through HTTP; two processes of the API where it matters. */

const maxApiKeys = 12;

let drop: () => Promise<void>;
let mediaDir: string;
let config: Config;
let api: Api;
let other: Api;
let workspaceId: string;
let owner: { id: string; key: string };

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  mediaDir = await mkdtemp(join(tmpdir(), 'media-'));
  config = {
    ...scratch.config,
    database: { ...scratch.config.database, poolSize: 3 },
    media: { ...scratch.config.media, path: mediaDir },
    workspaces: { ...scratch.config.workspaces, maxApiKeys },
  };
  api = await startApi(config);
  other = await startApi(config);
}, 60_000);
afterAll(async () => {
  await api?.close();
  await other?.close();
  await drop?.();
  await rm(mediaDir, { recursive: true, force: true });
}, 30_000);

beforeEach(async () => {
  ({ workspaceId, owner } = await newWorkspace());
});

async function newWorkspace() {
  const { body } = await api.call('POST', '/workspaces', { name: 'test' });
  return { workspaceId: body.id as string, owner: await newKey(body.id) };
}

async function newKey(workspace: string, wanted: object = {}): Promise<{ id: string; key: string }> {
  const { status, body } = await api.call('POST', `/workspaces/${workspace}/api-keys`, {
    name: 'k',
    role: 'owner',
    ...wanted,
  });
  expect(status).toBe(201);
  return body;
}

/** Lets the time of a key pass. Nobody has used it yet, so no process knows it. */
async function expire(id: string): Promise<void> {
  await api.database.query(`update api_keys set expires_at = now() - interval '1 hour' where id = $1`, [id]);
}

/** An account that is ready, so that messages can be posted; nothing sends them here. */
async function readyAccount(workspace: string): Promise<string> {
  const id = uuidv7();
  await api.database.query(
    `insert into accounts (id, workspace_id, name, environment, status, phone_number)
     values ($1, $2, 'a', 'sandbox', 'ready', '6281')`,
    [id, workspace],
  );
  return id;
}

const statusOf = async (key: string, on = api) => (await on.call('GET', '/workspace', undefined, key)).status;
const message = { to: '+6281234567890', text: 'hello' };

const untilStatus = (status: number, key: string, on = api) =>
  eventually(`the key gets ${status}`, async () => (await statusOf(key, on)) === status);
/** Until so many processes hear at once that a key is deleted. */
const untilListening = (count: number) =>
  eventually(`${count} listen`, async () => (await listenersOf('flotilla_keys')) >= count);

describe('a key', () => {
  it('is shown by its prefix, and never again as itself', async () => {
    const { body } = await api.call('GET', `/workspaces/${workspaceId}/api-keys`);
    expect(body.items).toEqual([
      expect.objectContaining({
        id: owner.id,
        prefix: owner.key.slice(0, 10),
        role: 'owner',
        replacedBy: null,
      }),
    ]);
    expect(JSON.stringify(body)).not.toContain(owner.key);
  });

  it('is listed with the others in pages', async () => {
    const ids = [owner.id];
    for (let made = 0; made < 4; made += 1) ids.unshift((await newKey(workspaceId)).id);
    for (const [path, key] of [
      [`/workspaces/${workspaceId}/api-keys`],
      ['/workspace/api-keys', owner.key],
    ] as [string, string?][]) {
      const seen: string[] = [];
      for (let cursor = ''; ;) {
        const { body } = await api.call('GET', `${path}?limit=2${cursor}`, undefined, key);
        seen.push(...body.items.map(({ id }: { id: string }) => id));
        if (body.nextCursor === null) break;
        cursor = `&cursor=${body.nextCursor}`;
      }
      expect(seen).toEqual(ids);
    }
  });

  it.each(['2099', '2099-W10', '20991125T100000Z', '2099-11-25', 'soon'])(
    'does not expire at %s',
    async (expiresAt) => {
      const wanted = { name: 'k', role: 'owner', expiresAt };
      const { status, body } = await api.call('POST', `/workspaces/${workspaceId}/api-keys`, wanted);
      expect([status, body.code]).toEqual([400, 'validation.failed']);
    },
  );

  it('stops at once in every process when it is deleted', async () => {
    const { id, key } = await newKey(workspaceId);
    expect(await statusOf(key)).toBe(200);
    // Until both processes listen they may believe it for two seconds; another key is looked up again after that.
    await untilListening(1);
    expect(await statusOf(key, other)).toBe(200);
    await untilListening(2);
    expect([await statusOf(key), await statusOf(key, other)]).toEqual([200, 200]);
    expect((await api.call('DELETE', `/workspaces/${workspaceId}/api-keys/${id}`)).status).toBe(204);
    await untilStatus(401, key);
    await untilStatus(401, key, other);
  });

  it('is rotated: another of the same kind takes its place, and it works until the grace is over', async () => {
    const wanted = { name: 'backend', role: 'sender', allowedIps: ['127.0.0.1', '::1'] };
    const old = await newKey(workspaceId, wanted);
    const path = `/workspaces/${workspaceId}/api-keys/${old.id}/rotate`;
    const { status, body } = await api.call('POST', path, { graceSeconds: 3600 });
    expect(status).toBe(201);
    expect(body).toMatchObject({ ...wanted, expiresAt: null, replacedBy: null });
    expect([await statusOf(old.key), await statusOf(body.key)]).toEqual([200, 200]);
    const listed = (await api.call('GET', `/workspaces/${workspaceId}/api-keys`)).body.items;
    const before = listed.find(({ id }: { id: string }) => id === old.id);
    expect(before.replacedBy).toBe(body.id);
    const left = new Date(before.expiresAt).getTime() - Date.now();
    expect(left).toBeGreaterThan(3_500_000);
    expect(left).toBeLessThanOrEqual(3_600_000);
    expect(await api.call('POST', path, {})).toMatchObject({
      status: 409,
      body: { code: 'api_key.rotated' },
    });
  });

  it('without a grace it is over at once, also in another process', async () => {
    const old = await newKey(workspaceId);
    expect(await statusOf(old.key, other)).toBe(200);
    const { status, body } = await api.call('POST', `/workspaces/${workspaceId}/api-keys/${old.id}/rotate`);
    expect(status).toBe(201);
    await untilStatus(401, old.key, other);
    expect(await statusOf(body.key, other)).toBe(200);
  });

  it.each([-1, 604_801, 1.5, 'soon'])('takes no grace of %s', async (graceSeconds) => {
    const path = `/workspaces/${workspaceId}/api-keys/${owner.id}/rotate`;
    expect((await api.call('POST', path, { graceSeconds })).body.code).toBe('validation.failed');
    expect(await statusOf(owner.key)).toBe(200);
  });

  it('cannot be rotated once it has expired, and is refused', async () => {
    const late = await newKey(workspaceId);
    await expire(late.id);
    expect(await statusOf(late.key)).toBe(401);
    const path = `/workspaces/${workspaceId}/api-keys/${late.id}/rotate`;
    expect(await api.call('POST', path)).toMatchObject({ status: 409, body: { code: 'api_key.expired' } });
  });

  it('is refused from other addresses', async () => {
    expect(await statusOf((await newKey(workspaceId, { allowedIps: ['10.0.0.0/8'] })).key)).toBe(401);
  });

  it('of an owner manages those of its workspace, and no others', async () => {
    const call = (method: string, path: string, body?: object) =>
      api.call(method, `/workspace/api-keys${path}`, body, owner.key);
    const made = await call('POST', '', { name: 'reader', role: 'viewer' });
    expect(made.status).toBe(201);
    expect(await statusOf(made.body.key)).toBe(200);
    expect((await call('GET', '')).body.items.map(({ id }: { id: string }) => id)).toEqual([
      made.body.id,
      owner.id,
    ]);
    const rotated = await call('POST', `/${made.body.id}/rotate`);
    expect(rotated).toMatchObject({ status: 201, body: { role: 'viewer' } });
    expect((await call('DELETE', `/${rotated.body.id}`)).status).toBe(204);
    const stranger = await newWorkspace();
    for (const [method, path] of [
      ['DELETE', `/${stranger.owner.id}`],
      ['POST', `/${stranger.owner.id}/rotate`],
    ] as const) {
      expect(await call(method, path)).toMatchObject({ status: 404, body: { code: 'api_key.not_found' } });
    }
    expect(await statusOf(stranger.owner.key)).toBe(200);
  });

  it('cannot delete itself, but can take a new one for itself', async () => {
    const path = `/workspace/api-keys/${owner.id}`;
    expect(await api.call('DELETE', path, undefined, owner.key)).toMatchObject({
      status: 409,
      body: { code: 'api_key.in_use' },
    });
    const { body } = await api.call('POST', `${path}/rotate`, {}, owner.key);
    expect(await statusOf(body.key)).toBe(200);
    await untilStatus(401, owner.key);
  });

  const make = (body: object, key: string) =>
    api.call('POST', '/workspace/api-keys', { name: 'k', role: 'viewer', ...body }, key);
  const inHours = (hours: number) => new Date(Date.now() + hours * 3_600_000).toISOString();
  const tooWide = { status: 403, body: { code: 'api_key.too_wide' } };

  it('with an end and with addresses makes keys that end with it at the latest, for its addresses at most', async () => {
    const bounds = { expiresAt: inHours(1), allowedIps: ['127.0.0.0/8', '2001:db8::/32'] };
    const bounded = await newKey(workspaceId, bounds);
    const inherited = await make({}, bounded.key);
    expect(inherited).toMatchObject({ status: 201, body: bounds });
    const narrower = { expiresAt: inHours(0.5), allowedIps: ['127.0.0.1', '2001:db8:1::/48'] };
    expect(await make({ ...narrower, role: 'owner' }, bounded.key)).toMatchObject({
      status: 201,
      body: narrower,
    });
    for (const wider of [
      { expiresAt: inHours(2) },
      { allowedIps: ['127.0.0.0/7'] },
      { allowedIps: ['127.0.0.1', '10.0.0.1'] },
      { allowedIps: ['0.0.0.0/0'] },
      { allowedIps: ['::/0'] },
      { allowedIps: ['::ffff:10.0.0.1'] },
      { allowedIps: ['2001:db8::/31'] },
    ])
      expect(await make(wider, bounded.key), JSON.stringify(wider)).toMatchObject(tooWide);
    // A key that such a key made is bounded in the same way.
    const maker = (await make({ role: 'owner' }, bounded.key)).body;
    expect(await make({ expiresAt: inHours(2) }, maker.key)).toMatchObject(tooWide);
  });

  it('with an end and with addresses cannot rotate itself or another key into more', async () => {
    const bounded = await newKey(workspaceId, { expiresAt: inHours(1), allowedIps: ['127.0.0.1'] });
    const rotate = (id: string, body: object, key: string) =>
      api.call('POST', `/workspace/api-keys/${id}/rotate`, body, key);
    for (const expiresAt of [null, inHours(2)])
      expect(await rotate(bounded.id, { expiresAt }, bounded.key)).toMatchObject(tooWide);
    // The owner's key has no end; a key that ends in time may still be used from elsewhere.
    expect(await rotate(owner.id, {}, bounded.key)).toMatchObject(tooWide);
    const elsewhere = await newKey(workspaceId, { expiresAt: inHours(0.5), allowedIps: ['10.0.0.1'] });
    expect(await rotate(elsewhere.id, {}, bounded.key)).toMatchObject(tooWide);
    const within = await newKey(workspaceId, { expiresAt: inHours(0.5), allowedIps: ['127.0.0.1/32'] });
    expect((await rotate(within.id, {}, bounded.key)).status).toBe(201);
    const successor = await rotate(bounded.id, { expiresAt: inHours(0.5) }, bounded.key);
    expect(successor).toMatchObject({ status: 201, body: { allowedIps: ['127.0.0.1'] } });
    // The admin and an unbounded owner may.
    expect((await rotate(successor.body.id, { expiresAt: null }, owner.key)).status).toBe(201);
  });

  it('is one of a limited number, also when many are made at once', async () => {
    const create = (body: object = {}) =>
      api.call('POST', `/workspaces/${workspaceId}/api-keys`, { name: 'k', role: 'viewer', ...body });
    const answers = await Promise.all(Array.from({ length: maxApiKeys + 4 }, () => create()));
    const made = answers.filter(({ status }) => status === 201);
    expect(made).toHaveLength(maxApiKeys - 1);
    const full = { status: 409, body: { code: 'api_key.limit_reached' } };
    for (const answer of answers) if (!made.includes(answer)) expect(answer).toMatchObject(full);
    expect((await make({}, owner.key)).body.detail).toMatch(/Delete keys.*API_KEYS_PER_WORKSPACE/);
    const path = `/workspace/api-keys/${made[0]!.body.id}`;
    const rotate = (graceSeconds: number) => api.call('POST', `${path}/rotate`, { graceSeconds }, owner.key);
    expect(await rotate(60)).toMatchObject(full);
    const rotated = await rotate(0);
    expect(rotated.status).toBe(201);
    expect(await create()).toMatchObject(full);
    const deleted = `/workspace/api-keys/${rotated.body.id}`;
    expect((await api.call('DELETE', deleted, undefined, owner.key)).status).toBe(204);
    // Keys that have expired do not count, and the oldest of them are forgotten.
    for (let count = 0; count < maxApiKeys + 2; count += 1) {
      const { status, body } = await create({ expiresAt: inHours(1) });
      expect(status).toBe(201);
      await expire(body.id);
    }
    expect((await create()).status).toBe(201);
    const { items } = (await api.call('GET', '/workspace/api-keys?limit=200', undefined, owner.key)).body;
    expect(items).toHaveLength(2 * maxApiKeys);
  });

  it.each(['sender', 'viewer'])('of a %s manages none', async (role) => {
    const { key } = await newKey(workspaceId, { role });
    for (const method of ['GET', 'POST'])
      expect((await api.call(method, '/workspace/api-keys', undefined, key)).status).toBe(403);
  });

  it('ends its event streams when it is deleted', async () => {
    const { id, key } = await newKey(workspaceId, { role: 'viewer' });
    const response = await fetch(`${other.url}/events`, { headers: { authorization: `Bearer ${key}` } });
    expect(response.status).toBe(200);
    const ended = response.text();
    await untilListening(1);
    await api.call('DELETE', `/workspaces/${workspaceId}/api-keys/${id}`);
    await ended;
  });

  it('ends its event streams also when nobody could hear that it was deleted', async () => {
    await untilListening(2);
    const { id, key } = await newKey(workspaceId, { role: 'viewer' });
    const response = await fetch(`${other.url}/events`, { headers: { authorization: `Bearer ${key}` } });
    expect(response.status).toBe(200);
    const ended = response.text();
    await api.database.transaction(async (manager) => {
      await manager.query('alter table api_keys disable trigger key_deleted');
      await manager.query('delete from api_keys where id = $1', [id]);
      await manager.query('alter table api_keys enable trigger key_deleted');
    });
    await api.database.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()
         and application_name like '%flotilla_keys'`,
    );
    await ended;
    expect(await statusOf(key, other)).toBe(401);
  });
});

/** How many connections listen to a channel: what each is asked after that is a heartbeat. */
async function listenersOf(channel: string): Promise<number> {
  const [{ count }] = await api.database.query(
    `select count(*)::int as count from pg_stat_activity where datname = current_database()
       and application_name like '%' || $1 and query = 'select 1'`,
    [channel],
  );
  return count;
}

describe('the limits of a workspace', () => {
  const limit = (limits: object, workspace = workspaceId) =>
    api.call('PATCH', `/workspaces/${workspace}`, { limits });

  it('have defaults in a new workspace, unless the admin sets others', async () => {
    const defaults = { maxAccounts: 50, messagesPerMinute: 3_000, maxStorageBytes: 5 * 2 ** 30 };
    const create = async (body: object) =>
      (await api.call('POST', '/workspaces', { name: 'test', ...body })).body;
    expect((await create({})).limits).toEqual(defaults);
    const limits = { maxAccounts: null, messagesPerMinute: 7 };
    const { id } = await create({ limits });
    expect((await api.call('GET', `/workspaces/${id}`)).body.limits).toEqual({ ...defaults, ...limits });
  });

  it('are set by the admin, each by itself, and shown with what is used', async () => {
    await readyAccount(workspaceId);
    await limit({ maxAccounts: 3, maxStorageBytes: 5_000_000_000 });
    const { status, body } = await limit({ messagesPerMinute: 60 });
    expect(status).toBe(200);
    const limits = { maxAccounts: 3, messagesPerMinute: 60, maxStorageBytes: 5_000_000_000 };
    expect(body.limits).toEqual(limits);
    expect((await api.call('POST', '/messages', message, owner.key)).status).toBe(202);
    for (const [path, key] of [['/workspace', owner.key] as const, [`/workspaces/${workspaceId}`] as const]) {
      expect((await api.call('GET', path, undefined, key)).body).toMatchObject({
        limits,
        usage: { accounts: 1, messagesLastMinute: 1, messagesLast24Hours: 1, storageBytes: 0 },
      });
    }
    expect((await limit({ maxAccounts: null })).body.limits).toEqual({ ...limits, maxAccounts: null });
    expect((await limit({ maxAccounts: -1 })).body.code).toBe('validation.failed');
    expect((await api.call('PATCH', `/workspaces/${workspaceId}`, { limits: {} }, owner.key)).status).toBe(
      403,
    );
  });

  it('stand beside what becomes of messages of unknown outcome: held, unless the admin says otherwise', async () => {
    const set = (unknownPolicy: string) => api.call('PATCH', `/workspaces/${workspaceId}`, { unknownPolicy });
    expect((await api.call('PATCH', `/workspaces/${workspaceId}`, {})).body.unknownPolicy).toBe('hold');
    expect((await set('resend')).body.unknownPolicy).toBe('resend');
    expect((await set('guess')).body.code).toBe('validation.failed');
    expect((await set('hold')).body.unknownPolicy).toBe('hold');
  });

  it('are not undone by who changes something else at the same moment', async () => {
    for (let round = 1; round <= 10; round += 1) {
      await Promise.all([
        limit({ maxAccounts: round }),
        limit({ messagesPerMinute: round }),
        other.call('PATCH', `/workspaces/${workspaceId}`, { limits: { maxStorageBytes: round } }),
        other.call('PATCH', `/workspaces/${workspaceId}`, { name: `name ${round}` }),
      ]);
      expect((await api.call('PATCH', `/workspaces/${workspaceId}`, {})).body).toMatchObject({
        name: `name ${round}`,
        limits: { maxAccounts: round, messagesPerMinute: round, maxStorageBytes: round },
      });
    }
  });

  it('limit the accounts of a workspace, also when many requests come at once', async () => {
    await limit({ maxAccounts: 3 });
    const create = () => api.call('POST', '/accounts', { name: 'a', environment: 'sandbox' }, owner.key);
    const answers = await Promise.all(Array.from({ length: 8 }, create));
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(3);
    const refused = answers.filter(({ status }) => status !== 201);
    for (const answer of refused) {
      expect(answer).toMatchObject({ status: 409, body: { code: 'workspace.account_limit' } });
    }
    await limit({ maxAccounts: 4 });
    expect((await create()).status).toBe(201);
  });

  it('let it post so many messages a minute, exactly, through two processes at once', async () => {
    await readyAccount(workspaceId);
    await limit({ messagesPerMinute: 20 });
    await untilEarlyInTheMinute();
    const post = (index: number) =>
      (index % 2 ? api : other).call('POST', '/messages', { ...message, text: String(index) }, owner.key);
    const answers = await Promise.all(Array.from({ length: 60 }, (_none, index) => post(index)));
    expect(answers.filter(({ status }) => status === 202)).toHaveLength(20);
    const refused = answers.find(({ status }) => status !== 202)!;
    expect(refused).toMatchObject({ status: 429, body: { code: 'workspace.message_limit' } });
    const wait = Number(refused.headers.get('retry-after'));
    expect(wait).toBeGreaterThan(0);
    expect(wait).toBeLessThanOrEqual(60);
    const [{ count }] = await api.database.query(
      'select count(*)::int as count from messages where workspace_id = $1',
      [workspaceId],
    );
    expect(count).toBe(20);
  }, 90_000);

  it('are never exceeded by processes that take some messages in advance', async () => {
    await limit({ messagesPerMinute: 300 });
    const processes = [0, 1].map(() => new LimitsService(api.database, config, silent));
    /** Granted messages by their minute. */
    const granted = new Map<number, number>();
    const takeUntilRefused = async () => {
      for (;;) {
        const grants = await Promise.all(
          Array.from({ length: 20 }, (_none, index) =>
            processes[index % 2]!.takeMessages(workspaceId, index === 7 ? 5 : 1),
          ),
        );
        for (const { minute, count } of grants)
          granted.set(minute!.getTime(), (granted.get(minute!.getTime()) ?? 0) + count);
        const refused = grants.find(({ count }) => count === 0);
        if (refused) return refused;
      }
    };
    try {
      const refused = await takeUntilRefused();
      expect(Math.max(...granted.values())).toBeLessThanOrEqual(300);
      // Each process takes a hundredth in advance, which the other one does not have.
      expect(granted.get(refused.minute!.getTime())).toBeGreaterThanOrEqual(300 - 3);
      await processes[0]!.giveBack(refused, 10);
      granted.set(refused.minute!.getTime(), granted.get(refused.minute!.getTime())! - 10);
      await takeUntilRefused();
      expect(Math.max(...granted.values())).toBeLessThanOrEqual(300);
    } finally {
      for (const service of processes) await service.onModuleDestroy();
    }
  });

  it('count what was accepted: not what was refused, and a repeated request once', async () => {
    await readyAccount(workspaceId);
    await limit({ messagesPerMinute: 3 });
    await untilEarlyInTheMinute();
    const post = async (body: object, key?: string) => {
      const response = await fetch(`${api.url}/messages`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${owner.key}`,
          'content-type': 'application/json',
          ...(key ? { 'idempotency-key': key } : {}),
        },
        body: JSON.stringify(body),
      });
      return response.status;
    };
    expect(await post({ ...message, accountId: uuidv7() })).toBe(404);
    expect([await post(message, 'one'), await post(message, 'one')]).toEqual([202, 202]);
    const batch = await api.call(
      'POST',
      '/messages/batch',
      { messages: [{ to: 'nobody' }, message, { ...message, accountId: uuidv7() }, message, message] },
      owner.key,
    );
    expect(batch.body.items.map(({ status }: { status: number }) => status)).toEqual([
      400, 202, 404, 202, 429,
    ]);
    expect(batch.body.items[4].error.code).toBe('workspace.message_limit');
    expect([await post(message), await post(message, 'two'), await post(message, 'one')]).toEqual([
      429, 429, 202,
    ]);
    await limit({ messagesPerMinute: null });
    await eventually('there is no limit', async () => (await post(message)) === 202);
  }, 90_000);

  /** So that no minute ends within a test that counts one. */
  async function untilEarlyInTheMinute(): Promise<void> {
    await eventually(
      'the minute is young',
      async () => (await api.database.query('select extract(second from now())::int as s'))[0].s < 40,
    );
  }
});

describe('the default country of a workspace', () => {
  const to = '0812-3456-7890';
  const send = (key: string, on = api) =>
    on.call('POST', '/messages', { ...message, to, mentions: [to] }, key);

  it('is set by its owner or the admin, and then numbers need no country code, in every process', async () => {
    await readyAccount(workspaceId);
    const refused = await send(owner.key);
    expect([refused.status, refused.body.errors[0].path]).toEqual([400, 'to']);
    expect(refused.body.errors[0].message).toMatch(/no country code.*defaultCountry/);
    expect((await send(owner.key, other)).status).toBe(400);

    const set = (defaultCountry: unknown, key = owner.key) =>
      api.call('PATCH', '/workspace', { defaultCountry }, key);
    const { status, body } = await set('ID');
    expect([status, body.defaultCountry]).toEqual([200, 'ID']);
    for (const through of [api, other]) {
      const sent = await eventually('accepted', async () => {
        const answer = await send(owner.key, through);
        return answer.status === 202 && answer.body;
      });
      expect(sent).toMatchObject({ to: '6281234567890', mentions: ['6281234567890'] });
      const listed = await through.call('GET', `/messages?to=${to}&limit=1`, undefined, owner.key);
      expect(listed.body.items[0].id).toBe(sent.id);
    }
    const batch = await api.call('POST', '/messages/batch', { messages: [{ to, text: 'x' }] }, owner.key);
    expect(batch.body.items[0].message.to).toBe('6281234567890');
    // The admin acts in the workspace that the request names.
    const asAdmin = await api.call('POST', `/messages?workspaceId=${workspaceId}`, { to, text: 'x' });
    expect(asAdmin.body.to).toBe('6281234567890');

    const stranger = await newWorkspace();
    expect((await send(stranger.owner.key)).status).toBe(400);
    const changed = await api.call('PATCH', `/workspaces/${workspaceId}`, { defaultCountry: null });
    expect([changed.status, changed.body.defaultCountry]).toEqual([200, null]);
    await eventually('refused again', async () => (await send(owner.key)).status === 400);
  });

  it('is a country, and the only setting that an owner may change', async () => {
    for (const defaultCountry of ['id', 'XX', 'Indonesia', '__proto__', '', 62])
      expect((await api.call('PATCH', '/workspace', { defaultCountry }, owner.key)).status).toBe(400);
    for (const change of [{ name: 'mine' }, { limits: { maxAccounts: null } }, { unknownPolicy: 'resend' }])
      expect((await api.call('PATCH', '/workspace', change, owner.key)).status).toBe(400);
    const sender = await newKey(workspaceId, { role: 'sender' });
    expect((await api.call('PATCH', '/workspace', { defaultCountry: 'ID' }, sender.key)).status).toBe(403);
  });
});

describe('two workspaces', () => {
  it('never see each other under parallel load: no row, no event, no file', async () => {
    const tenants = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const tenant = await newWorkspace();
        return { ...tenant, accountId: await readyAccount(tenant.workspaceId) };
      }),
    );
    const streams = tenants.map(({ owner: { key } }, index) => follow(index % 2 ? api : other, key));
    await Promise.all(streams.map(({ opened }) => opened));
    const posted = new Map<string, Set<string>>();
    const files = new Map<string, Map<string, string>>(
      tenants.map((tenant) => [tenant.workspaceId, new Map()]),
    );
    await Promise.all(
      tenants.flatMap(({ workspaceId: id, owner: { key }, accountId }) =>
        Array.from({ length: 3 }, async () => {
          for (let turn = 0; turn < 6; turn += 1) {
            const on = turn % 2 ? api : other;
            const sent = await on.call('POST', '/messages', { ...message, accountId }, key);
            expect(sent).toMatchObject({ status: 202, body: { workspaceId: id, accountId } });
            posted.set(id, (posted.get(id) ?? new Set()).add(sent.body.id));
            const listed = await on.call('GET', '/messages?limit=200', undefined, key);
            for (const item of listed.body.items) expect(item.workspaceId).toBe(id);
            const foreign = tenants.find((tenant) => tenant.workspaceId !== id)!;
            expect((await on.call('GET', `/accounts/${foreign.accountId}`, undefined, key)).status).toBe(404);
            if (turn % 3 === 0) {
              // Every other file has the same content everywhere, and is kept once.
              const content = `a file ${turn % 2 ? id : 'of all'} ${turn}`;
              const mediaId = await upload(on, key, content);
              files.get(id)!.set(mediaId, content);
              expect(await download(other, key, mediaId)).toBe(content);
              const theirs = [...files.get(foreign.workspaceId)!.keys()].at(-1);
              if (theirs) expect((await on.call('GET', `/media/${theirs}`, undefined, key)).status).toBe(404);
            }
            // The admin acts in one of them at the same time.
            const seen = await on.call('GET', `/messages?workspaceId=${id}`);
            for (const item of seen.body.items) expect(item.workspaceId).toBe(id);
            expect((await on.call('GET', '/workspaces?limit=200')).body.items.length).toBeGreaterThan(4);
          }
        }),
      ),
    );
    for (const [index, { workspaceId: id }] of tenants.entries()) {
      const { events, close } = streams[index]!;
      await eventually('all its events', () => {
        expect(new Set(events.map(({ data }) => data.id))).toEqual(posted.get(id));
        return true;
      });
      for (const event of events) expect(event.workspaceId).toBe(id);
      close();
      const { key } = tenants[index]!.owner;
      const listed = await api.call('GET', '/media?limit=200', undefined, key);
      expect(new Set(listed.body.items.map((item: { mediaId: string }) => item.mediaId))).toEqual(
        new Set(files.get(id)!.keys()),
      );
    }
  }, 90_000);
});

/** @returns the id of the media */
async function upload(on: Api, key: string, content: string): Promise<string> {
  const form = new FormData();
  form.set('file', new Blob([content], { type: 'text/plain' }), 'notes.txt');
  const headers = { authorization: `Bearer ${key}` };
  const response = await fetch(`${on.url}/media`, { method: 'POST', headers, body: form });
  expect(response.status).toBe(201);
  return ((await response.json()) as { mediaId: string }).mediaId;
}

async function download(on: Api, key: string, mediaId: string): Promise<string> {
  const response = await fetch(`${on.url}/media/${mediaId}`, { headers: { authorization: `Bearer ${key}` } });
  expect(response.status).toBe(200);
  return response.text();
}

/** Reads a stream of events until it is closed. */
function follow(on: Api, key: string) {
  const events: { workspaceId: string; data: { id: string } }[] = [];
  const stop = new AbortController();
  const opened = fetch(`${on.url}/events?types=message.queued`, {
    headers: { authorization: `Bearer ${key}` },
    signal: stop.signal,
  }).then((response) => {
    expect(response.status).toBe(200);
    void read(response.body!.pipeThrough(new TextDecoderStream())).catch(() => undefined);
  });
  async function read(body: ReadableStream<string>): Promise<void> {
    let text = '';
    for await (const chunk of body) {
      const lines = (text + chunk).split('\n');
      text = lines.pop() ?? '';
      for (const line of lines) if (line.startsWith('data: ')) events.push(JSON.parse(line.slice(6)));
    }
  }
  return { events, opened, close: () => stop.abort() };
}

describe('the audit log', () => {
  /** What was written of this workspace, oldest first. */
  const written = async (): Promise<{ message: string; details: Record<string, unknown> }[]> => {
    const { body } = await api.call('GET', `/admin/logs?type=audit&workspaceId=${workspaceId}&limit=200`);
    return body.items.toReversed();
  };
  const untilWritten = (count: number) =>
    eventually(`${count} entries`, async () => {
      const entries = await written();
      return entries.length === count && entries;
    });

  it('tells who did what to which key, whose answer that was, and no secret', async () => {
    const made = await api.call(
      'POST',
      '/workspace/api-keys',
      { name: 'hidden-name', role: 'viewer' },
      owner.key,
    );
    const removed = await api.call('DELETE', `/workspace/api-keys/${made.body.id}`, undefined, owner.key);
    const entries = await untilWritten(4);
    expect(entries.map((entry) => [entry.details.actor, entry.message, entry.details.targetId])).toEqual([
      ['admin', 'POST /api/v1/workspaces', workspaceId],
      ['admin', 'POST /api/v1/workspaces/:id/api-keys', owner.id],
      ['key', 'POST /api/v1/workspace/api-keys', made.body.id],
      ['key', 'DELETE /api/v1/workspace/api-keys/:keyId', made.body.id],
    ]);
    expect(entries[3]!.details).toMatchObject({
      keyId: owner.id,
      keyPrefix: owner.key.slice(0, 10),
      ip: expect.stringContaining('127.0.0.1'),
      method: 'DELETE',
      status: 204,
      requestId: removed.headers.get('x-request-id'),
    });
    const text = JSON.stringify(entries);
    for (const secret of [owner.key, made.body.key, 'hidden-name']) expect(text).not.toContain(secret);
  });

  it('has who was refused although the key exists, once a minute each; and neither reading nor sending', async () => {
    await readyAccount(workspaceId);
    const viewer = await newKey(workspaceId, { role: 'viewer' });
    const late = await newKey(workspaceId);
    await expire(late.id);
    const elsewhere = await newKey(workspaceId, { allowedIps: ['10.0.0.1'] });
    for (let time = 0; time < 3; time += 1) {
      expect((await api.call('POST', '/messages', message, viewer.key)).status).toBe(403);
      expect(await statusOf(late.key)).toBe(401);
      expect(await statusOf(elsewhere.key)).toBe(401);
      expect(await statusOf('flk_nobody')).toBe(401);
      expect((await api.call('POST', '/messages', message, owner.key)).status).toBe(202);
      expect((await api.call('GET', '/messages', undefined, owner.key)).status).toBe(200);
    }
    const refused = async () =>
      (await written())
        .filter(({ details }) => Number(details.status) >= 400)
        .map(({ details }) => [details.keyId, details.status]);
    await eventually('three are written', async () => (await refused()).length >= 3);
    expect((await refused()).sort()).toEqual(
      [
        [viewer.id, 403],
        [late.id, 401],
        [elsewhere.id, 401],
      ].sort(),
    );
    expect((await written()).filter(({ message: what }) => what.includes('/messages'))).toHaveLength(1);
  });

  it('is asked for by a time that both JavaScript and PostgreSQL read, and no other', async () => {
    for (const path of ['/admin/logs?type=audit', '/admin/logs?', '/admin/stats?']) {
      const ask = async (since: string) =>
        (await api.call('GET', `${path}&since=${encodeURIComponent(since)}`)).status;
      for (const since of ['2026', '2026-W10', '20261125T100000Z', '2026-11-25', '2026-11-25T10:00:00'])
        expect(await ask(since), since).toBe(400);
      for (const since of ['2026-11-25T10:00:00Z', '2026-11-25T10:00:00+23:59', '0000-01-01T00:00:00Z'])
        expect(await ask(since), since).toBe(200);
    }
  });

  /** What was written lately that names no workspace. */
  const ofTheFleet = async (): Promise<string[]> => {
    const { body } = await api.call('GET', '/admin/logs?type=audit&limit=200');
    return body.items
      .filter((entry: { workspaceId: string | null }) => entry.workspaceId === null)
      .map(({ message: what, details }: Awaited<ReturnType<typeof written>>[number]) =>
        [details.actor, what, details.status].join(' '),
      )
      .toReversed();
  };

  it('names the key that was rotated, and each route that refused one', async () => {
    const viewer = await newKey(workspaceId, { role: 'viewer' });
    await api.call('POST', `/workspace/api-keys/${viewer.id}/rotate`, { graceSeconds: 60 }, owner.key);
    for (const path of ['/accounts', '/messages', '/accounts'])
      expect((await api.call('POST', path, {}, viewer.key)).status).toBe(403);
    const entries = async () =>
      (await written()).map(({ message: what, details }) => [what, details.targetId ?? details.status]);
    await untilWritten(6);
    expect((await entries()).slice(3).sort()).toEqual([
      ['POST /api/v1/accounts', 403],
      ['POST /api/v1/messages', 403],
      ['POST /api/v1/workspace/api-keys/:keyId/rotate', viewer.id],
    ]);
  });

  it('has logins, and what is done on the queue dashboard or is tried from a page of somebody else', async () => {
    const { origin } = new URL(api.url);
    const logIn = (key: string) =>
      fetch(`${origin}/admin/login`, {
        method: 'POST',
        redirect: 'manual',
        body: new URLSearchParams({ key }),
      });
    expect((await logIn('wrong')).status).toBe(401);
    const cookie = (await logIn(config.adminApiKey)).headers.get('set-cookie')!.split(';')[0]!;
    const pause = (site: string) =>
      fetch(`${origin}/admin/queues/api/queues/campaign-stats/pause`, {
        method: 'PUT',
        headers: { cookie, 'sec-fetch-site': site },
      });
    expect((await pause('cross-site')).status).toBe(403);
    expect((await pause('same-origin')).status).toBe(200);
    await fetch(`${origin}/admin/logout`, {
      method: 'POST',
      redirect: 'manual',
      headers: { cookie, 'sec-fetch-site': 'same-origin' },
    });
    await eventually('all five are written', async () => {
      expect(await ofTheFleet()).toEqual([
        'unknown POST /admin/login 401',
        'admin POST /admin/login 303',
        'admin PUT /admin/queues/* 403',
        'admin PUT /admin/queues/api/queues/:queueName/pause 200',
        'admin POST /admin/logout 303',
      ]);
      return true;
    });
  });

  it('has what commands do, which take what the API takes', async () => {
    const env = { ...process.env, DATABASE_URL: config.database.url, ENV_FILE: 'none' };
    const run = async (...args: string[]) => {
      const { code, stdout, stderr } = await runCommand(args, env);
      return { code, out: stdout.trim(), problem: stderr.trim() };
    };
    const tooLong = 'x'.repeat(201);
    const { out: made } = await run('workspace:create', 'of the command line');
    for (const args of [
      ['workspace:create', tooLong],
      ['api-key:create', workspaceId, tooLong],
    ]) {
      const { code, problem } = await run(...args);
      expect([code, problem]).toEqual([1, expect.stringContaining('name must be shorter than')]);
    }
    const { out: key } = await run(
      'api-key:create',
      made,
      'k',
      '--role=viewer',
      '--expires=2099-01-31T12:00:00Z',
    );
    expect(await statusOf(key)).toBe(200);
    const listed = await run('api-key:list', made, '--limit=1', '--json');
    const [{ id: keyId }] = JSON.parse(listed.out) as [{ id: string }];
    const rotated = await run('api-key:rotate', made, keyId, '--grace=60');
    expect([await statusOf(rotated.out), await statusOf(key)]).toEqual([200, 200]);
    expect((await run('api-key:delete', made, keyId)).code).toBe(0);
    await untilStatus(401, key);
    const { body } = await api.call('GET', `/admin/logs?type=audit&workspaceId=${made}`);
    expect(
      body.items.map(({ message: what, details }: Awaited<ReturnType<typeof written>>[number]) => [
        details.actor,
        details.ip,
        what,
        details.targetId,
      ]),
    ).toEqual([
      ['admin', 'cli', 'CLI api-key:delete', keyId],
      ['admin', 'cli', 'CLI api-key:rotate', keyId],
      ['admin', 'cli', 'CLI api-key:create', keyId],
      ['admin', 'cli', 'CLI workspace:create', made],
    ]);
  }, 120_000);

  it('has what was still being done when the process ended', async () => {
    const third = await startApi(config);
    const holder = api.database.createQueryRunner();
    try {
      const { id } = await newKey(workspaceId);
      await holder.startTransaction();
      await holder.query('select from api_keys where id = $1 for update', [id]);
      const cutOff = expect(
        third.call('DELETE', `/workspaces/${workspaceId}/api-keys/${id}`),
      ).rejects.toThrow();
      const [{ me }] = await holder.query('select pg_backend_pid() as me');
      await eventually('the deletion waits', async () => {
        const waiting = await api.database.query(
          `select from pg_stat_activity where datname = current_database() and $1 = any(pg_blocking_pids(pid))`,
          [me],
        );
        return waiting.length === 1;
      });
      const closed = third.close();
      await cutOff;
      await holder.rollbackTransaction();
      await closed;
      const entry = (await written()).find(
        ({ message: what }) => what === 'DELETE /api/v1/workspaces/:id/api-keys/:keyId',
      );
      expect(entry?.details).toMatchObject({ actor: 'admin', targetId: id, status: 0 });
    } finally {
      await holder.release();
      await third.close();
    }
  }, 60_000);

  it('has a key that is refused before its large body is read', async () => {
    const elsewhere = await newKey(workspaceId, { allowedIps: ['10.0.0.1'] });
    const large = { ...message, text: 'x'.repeat(70_000) };
    expect((await api.call('POST', '/messages', large, elsewhere.key)).status).toBe(401);
    await eventually('it is written', async () => {
      expect((await written()).at(-1)?.details).toMatchObject({
        keyId: elsewhere.id,
        status: 401,
        method: 'POST',
      });
      return true;
    });
  });

  it('has what an admin changes anywhere, with the workspace that is named', async () => {
    await api.call('POST', `/accounts?workspaceId=${workspaceId}`, { name: 'a', environment: 'sandbox' });
    await api.call('PATCH', `/workspaces/${workspaceId}`, { name: 'b' });
    const entries = await untilWritten(4);
    expect(entries.map(({ message: what }) => what)).toEqual([
      'POST /api/v1/workspaces',
      'POST /api/v1/workspaces/:id/api-keys',
      'POST /api/v1/accounts',
      'PATCH /api/v1/workspaces/:id',
    ]);
  });
});
