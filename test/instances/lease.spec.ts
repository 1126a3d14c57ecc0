import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import pino from 'pino';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { InstanceAlreadyRuns, InstanceLease } from '../../src/instances/instance-lease.js';
import { processIdentity } from '../../src/instances/process-identity.js';
import type { Config } from '../../src/platform/config/config.js';
import { scratchDatabase } from '../support/scratch-database.js';
import { tcpProxy } from '../../setup/tcp-proxy.mjs';

const times = { leaseMs: 1_500, renewMs: 200, stopMarginMs: 500, takeoverMarginMs: 400 };
let database: Awaited<ReturnType<typeof scratchDatabase>>;
let sql: Client;
let leases: InstanceLease[] = [];
let number = 0;

beforeAll(async () => {
  database = await scratchDatabase();
  sql = new Client({ connectionString: database.config.database.url });
  await sql.connect();
  await sql.query(`insert into servers (id, name, max_capacity) values ('the-server', 'The server', 100)`);
});

afterEach(async () => {
  await Promise.all(leases.map((lease) => lease.retire()));
  leases = [];
});

afterAll(async () => {
  await sql.end();
  await database.drop();
});

/** A lease on an instance of its own, unless it is named. */
function lease(id = `the-server.instance_${(number += 1)}`, url = database.config.database.url) {
  const { config } = database;
  const made = new InstanceLease(
    {
      ...config,
      database: { ...config.database, url },
      server: { ...config.server, id: 'the-server' },
      instance: { ...config.instance, id, ...times },
    } as Config,
    pino({ level: 'silent' }),
  );
  leases.push(made);
  return { lease: made, id };
}

async function rowOf(id: string) {
  const { rows } = await sql.query(
    `select status, stopped_at, process, incarnation, lease_expires_at > clock_timestamp() as "isLive",
       extract(epoch from lease_expires_at) * 1000 as "endsAt" from instances where id = $1`,
    [id],
  );
  return rows[0];
}

/** Registers the instance as that of another process. */
async function pretend(id: string, identity: string, leaseMs = times.leaseMs) {
  await sql.query(
    `insert into instances (id, server_id, url, status, lease_expires_at, max_accounts, process, incarnation)
     values ($1, 'the-server', 'http://127.0.0.1:1', 'active', clock_timestamp() + $3::int * interval '1 millisecond', 10, $2,
       gen_random_uuid())
     on conflict (id) do update set lease_expires_at = excluded.lease_expires_at, incarnation = excluded.incarnation`,
    [id, identity, leaseMs],
  );
}

const elsewhere = 'another-machine/4026531836/123/456';

it('is held while it is renewed, and given up at the end', async () => {
  const { lease: mine, id } = lease();
  expect(mine.held).toBe(false);
  await mine.acquire();
  expect((await rowOf(id)).status).toBe('starting');
  await mine.activate();
  // Longer than a lease lasts without renewal.
  const until = performance.now() + 2 * times.leaseMs;
  while (performance.now() < until) {
    expect(mine.held).toBe(true);
    await delay(50);
  }
  expect(await rowOf(id)).toMatchObject({ status: 'active', isLive: true });
  await mine.retire();
  expect(mine.held).toBe(false);
  expect(await rowOf(id)).toMatchObject({ status: 'down', isLive: false });
});

it('refuses a second live process under the same id', async () => {
  const { lease: mine, id } = lease();
  await mine.acquire();
  await expect(lease(id).lease.acquire()).rejects.toThrow(InstanceAlreadyRuns);
  await expect(lease(id).lease.acquire()).rejects.toThrow(/its own SERVER_ID/);
  expect(mine.held).toBe(true);
});

it("takes a dead predecessor's lease at once", async () => {
  const { lease: mine, id } = lease();
  const dead = spawn('sleep', ['60']);
  await once(dead, 'spawn');
  await pretend(id, processIdentity(dead.pid), 60_000);
  await expect(lease(id).lease.acquire()).rejects.toThrow(InstanceAlreadyRuns);
  dead.kill('SIGKILL');
  await once(dead, 'exit');
  const started = performance.now();
  await mine.acquire();
  expect(performance.now() - started).toBeLessThan(1_000);
});

it('waits for the end of the lease of a predecessor that it cannot see', async () => {
  const { lease: mine, id } = lease();
  await pretend(id, elsewhere);
  const { endsAt } = await rowOf(id);
  await mine.acquire();
  expect(Date.now()).toBeGreaterThanOrEqual(Number(endsAt) + times.takeoverMarginMs);
});

it('refuses when the predecessor that it cannot see goes on renewing', async () => {
  const { lease: mine, id } = lease();
  await pretend(id, elsewhere);
  const renewals = setInterval(() => void pretend(id, elsewhere), 100);
  try {
    await expect(mine.acquire()).rejects.toThrow(InstanceAlreadyRuns);
  } finally {
    clearInterval(renewals);
  }
});

it('is lost before it ends when PostgreSQL cannot be reached, and held again afterwards', async () => {
  const proxy = await tcpProxy(database.config.database.url);
  try {
    const { lease: mine, id } = lease(undefined, proxy.url);
    await mine.acquire();
    await mine.activate();
    proxy.cut();
    await once(mine, 'lost');
    const { endsAt } = await rowOf(id);
    // The whole margin is left, except the time until the process noticed it.
    expect(Number(endsAt) - Date.now()).toBeGreaterThan(times.stopMarginMs / 2);
    expect(mine.held).toBe(false);
    expect(mine.browsersGoneBy).toBeLessThan(performance.now() + times.stopMarginMs);
    proxy.restore();
    await once(mine, 'held');
    expect(mine.held).toBe(true);
    expect((await rowOf(id)).isLive).toBe(true);
  } finally {
    await proxy.close();
  }
});

it('is lost first if it has ended only by the clock of PostgreSQL, as after a pause of the machine', async () => {
  const { lease: mine, id } = lease();
  await mine.acquire();
  await mine.activate();
  const heard: string[] = [];
  mine.on('lost', () => heard.push('lost'));
  mine.on('held', () => heard.push('held'));
  const lost = once(mine, 'lost');
  await sql.query(
    `update instances set lease_expires_at = now() - interval '1 minute', status = 'down' where id = $1`,
    [id],
  );
  await lost;
  await once(mine, 'held');
  expect(heard.slice(heard.indexOf('lost'), heard.indexOf('lost') + 2)).toEqual(['lost', 'held']);
  expect(await rowOf(id)).toMatchObject({ status: 'active', isLive: true });
});

it('is lost for good when another process has taken the id over', async () => {
  const { lease: mine, id } = lease();
  await mine.acquire();
  const replaced = once(mine, 'replaced');
  const lost = once(mine, 'lost');
  await sql.query('update instances set incarnation = gen_random_uuid() where id = $1', [id]);
  await Promise.all([lost, replaced]);
  expect(mine.held).toBe(false);
});

it('reports at once that an account of the instance has changed', async () => {
  const { lease: mine, id } = lease();
  await mine.acquire();
  const changed = once(mine, 'changed', { signal: AbortSignal.timeout(2_000) });
  await sql.query('select notify_instance($1)', [id]);
  await changed;
});
