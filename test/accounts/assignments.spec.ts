import { type INestApplicationContext, Module } from '@nestjs/common';
import { getDataSourceToken } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AccountsModule } from '../../src/accounts/accounts.module.js';
import { AccountsService } from '../../src/accounts/accounts.service.js';
import { AssignmentsService } from '../../src/accounts/assignments.service.js';
import { ConnectionLogsService } from '../../src/accounts/connection-logs.service.js';
import { InstancesService } from '../../src/instances/instances.service.js';
import { DatabaseModule } from '../../src/platform/database/database.module.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import { createContext } from '../../src/platform/start-role.js';
import { insertAccount, insertInstance, insertServer, insertWorkspace } from '../support/factories.js';
import { scratchDatabase } from '../support/scratch-database.js';

@Module({ imports: [DatabaseModule, AccountsModule] })
class FleetModule {}

const movesAtOnce = 2;
let context: INestApplicationContext;
let drop: () => Promise<void>;
let database: DataSource;
let accounts: AccountsService;
let assignments: AssignmentsService;
let instances: InstancesService;
let workspaceId: string;

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  const { config } = scratch;
  const fleet = { ...config, movesAtOnce, sessions: { ...config.sessions, store: 'postgres' as const } };
  context = await createContext(FleetModule, fleet, createLogger('test', 'silent'));
  database = context.get<DataSource>(getDataSourceToken());
  accounts = context.get(AccountsService);
  assignments = context.get(AssignmentsService);
  instances = context.get(InstancesService);
});
afterAll(async () => {
  await context?.close();
  await drop?.();
});

/** Each test has its own fleet. */
beforeEach(async () => {
  await database.query(
    'delete from accounts; delete from instances; delete from servers; delete from server_logs',
  );
  workspaceId = await insertWorkspace(database);
});

async function addServer(id: string, maxCapacity = 1000): Promise<void> {
  await insertServer(database, id, { max_capacity: maxCapacity });
}

/** Adds instances with a lease of a minute, which is longer than any test. */
async function addInstances(serverId: string, count: number, maxAccounts = 50, first = 0): Promise<string[]> {
  const ids = Array.from({ length: count }, (_instance, number) => `${serverId}.instance_0${first + number}`);
  await database.query('update servers set is_healthy = true where id = $1', [serverId]);
  for (const id of ids) await insertInstance(database, id, { maxAccounts, leaseMs: 60_000 });
  return ids;
}

async function endLease(id: string, secondsAgo = 60): Promise<void> {
  await database.query(
    `update instances set lease_expires_at = now() - $2::int * interval '1 second' where id = $1`,
    [id, secondsAgo],
  );
}

async function newAccount(name = 'a'): Promise<string> {
  return (await accounts.create(workspaceId, { name, environment: 'sandbox' })).id;
}

async function connectMany(count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let number = 0; number < count; number += 1) ids.push(await newAccount(`account ${number}`));
  await Promise.all(ids.map((id) => accounts.connect(workspaceId, id, { method: 'qr' })));
  return ids;
}

/** Links accounts: with the session on their server only, or also with a snapshot that any server can start from. */
async function link(ids: string[], { withSnapshot }: { withSnapshot: boolean }): Promise<void> {
  await database.query(
    `update accounts set status = 'ready', linked_at = now(), held_by = instance_id where id = any($1)`,
    [ids],
  );
  if (!withSnapshot) return;
  await database.query(
    `insert into session_snapshots (account_id, workspace_id, epoch, digest, size_bytes, data)
     select id, workspace_id, epoch, 'x', 1, 'x' from accounts where id = any($1)`,
    [ids],
  );
}

async function setReady(): Promise<void> {
  await database.query(
    `update accounts set status = 'ready', held_by = instance_id where status in ('starting', 'reconnecting')`,
  );
}

async function loads(): Promise<number[]> {
  return (await instances.distribution()).instances.map(({ reserved }) => reserved);
}

describe('placing', () => {
  it('spreads accounts that connect at the same moment over four instances', async () => {
    await addServer('one');
    await addInstances('one', 4);
    await connectMany(10);
    expect((await loads()).sort()).toEqual([2, 2, 3, 3]);
    expect(await instances.distribution()).toMatchObject({ spread: 1, balanced: true });
  });

  it('stops at the capacity of instances and servers; the other accounts wait until there is room', async () => {
    await addServer('one', 3);
    await addInstances('one', 2, 2);
    const ids = await connectMany(5);
    expect((await loads()).reduce((sum, load) => sum + load)).toBe(3);
    const waiting = await Promise.all(ids.map((id) => accounts.get(workspaceId, id)));
    expect(waiting.filter(({ status }) => status === 'waiting')).toHaveLength(2);
    expect(waiting.find(({ status }) => status === 'waiting')).toMatchObject({
      instanceId: null,
      statusReason: 'no instance has room',
    });
    expect(await assignments.placeWaiting()).toBe(0);
    await addServer('two');
    await addInstances('two', 1);
    expect(await assignments.placeWaiting()).toBe(2);
    expect((await loads()).reduce((sum, load) => sum + load)).toBe(5);
  });

  it('places an account that connects again on its previous instance, without a new epoch', async () => {
    await addServer('one');
    await addInstances('one', 4);
    const [id] = await connectMany(3);
    const before = await accounts.get(workspaceId, id!);
    await accounts.disconnect(workspaceId, id!);
    const after = await accounts.connect(workspaceId, id!, { method: 'qr' });
    expect(after).toMatchObject({ instanceId: before.instanceId, epoch: before.epoch, status: 'starting' });
  });

  it('logs each assignment with its old and its new owner', async () => {
    await addServer('one');
    const [first, second] = await addInstances('one', 2);
    const [id] = await connectMany(1);
    const from = (await accounts.get(workspaceId, id!)).instanceId;
    const to = from === first ? second : first;
    await accounts.migrate(workspaceId, id!, to);
    const log = await database.query(
      `select instance_id, details from server_logs where account_id = $1 and message = 'Device assignment changed' order by id`,
      [id],
    );
    expect(log).toMatchObject([
      { instance_id: from, details: { old_instance: null, new_instance: from, epoch: 1, reason: 'connect' } },
      {
        instance_id: to,
        details: { old_instance: from, new_instance: to, old_epoch: 1, epoch: 2, reason: 'migrate' },
      },
    ]);
  });
});

describe('failover', () => {
  it('moves the accounts of a dead instance to the others, within their capacity, with a new epoch', async () => {
    await addServer('one');
    const [dead] = await addInstances('one', 3, 4);
    const ids = await connectMany(12);
    await setReady();
    await endLease(dead!);
    expect(await assignments.failOver(dead!)).toBe(0);
    const waiting = await Promise.all(ids.map((id) => accounts.get(workspaceId, id)));
    expect(waiting.filter(({ status }) => status === 'waiting')).toHaveLength(4);
    await addInstances('one', 1, 3, 7);
    expect(await assignments.placeWaiting()).toBe(3);
    expect(await loads()).toEqual([4, 4, 3]);
  });

  it('waits for the takeover margin after a lease, and for the grace period after an orderly stop', async () => {
    await addServer('one');
    const ids = await addInstances('one', 2);
    await connectMany(2);
    await endLease(ids[0]!, 1);
    expect(await assignments.failOver(ids[0]!)).toBe(0);
    await endLease(ids[0]!, 5);
    await database.query('update instances set stopped_at = now() where id = $1', [ids[0]]);
    expect(await assignments.failOver(ids[0]!)).toBe(0);
    await database.query(`update instances set stopped_at = now() - interval '16 seconds' where id = $1`, [
      ids[0],
    ]);
    expect(await assignments.failOver(ids[0]!)).toBe(1);
    expect(await loads()).toEqual([2]);
  });

  it('leaves an account on its server if its session is only there, and moves it if there is a snapshot', async () => {
    await addServer('one');
    const [dead] = await addInstances('one', 1);
    const [bare, copied] = await connectMany(2);
    await link([bare!], { withSnapshot: false });
    await link([copied!], { withSnapshot: true });
    await addServer('two');
    const [other] = await addInstances('two', 1);
    await endLease(dead!);
    expect(await assignments.failOver(dead!)).toBe(1);
    expect(await accounts.get(workspaceId, copied!)).toMatchObject({ instanceId: other, status: 'starting' });
    const stayed = await accounts.get(workspaceId, bare!);
    expect(stayed).toMatchObject({ instanceId: dead, status: 'reconnecting', epoch: 1 });
    expect(stayed.statusReason).toContain('its session is on that server only');
    // Another instance of that server can read the session too.
    const [sibling] = await addInstances('one', 1, 50, 1);
    expect(await assignments.failOver(dead!)).toBe(1);
    expect((await accounts.get(workspaceId, bare!)).instanceId).toBe(sibling);
  });
});

describe('the decision of a person', () => {
  it('is not replaced by a failover: a conflict stays a conflict', async () => {
    await addServer('one');
    const [dead] = await addInstances('one', 1);
    const [id] = await connectMany(1);
    await database.query(`update accounts set status = 'conflict' where id = $1`, [id]);
    await addInstances('one', 1, 50, 1);
    await endLease(dead!);
    expect(await assignments.failOver(dead!)).toBe(0);
    expect(await accounts.get(workspaceId, id!)).toMatchObject({ status: 'conflict', epoch: 1 });
    expect((await accounts.connect(workspaceId, id!, { method: 'qr' })).status).toBe('starting');
  });

  it('is not undone by a rebalancing: a migration overrides it, and a requested instance is kept', async () => {
    await addServer('one');
    const [first, second, third] = await addInstances('one', 3);
    const pinned = (
      await accounts.create(workspaceId, { name: 'p', environment: 'sandbox', instanceId: first })
    ).id;
    await accounts.connect(workspaceId, pinned, { method: 'qr' });
    const [id] = await connectMany(1);
    await setReady();
    await database.query('update accounts set instance_id = $1, move_to = $2 where id = $3', [
      first,
      second,
      id,
    ]);
    await accounts.migrate(workspaceId, id!, third);
    await setReady();
    await assignments.advanceMoves();
    expect((await accounts.get(workspaceId, id!)).instanceId).toBe(third);
    await database.query('update accounts set instance_id = $1', [first]);
    expect((await assignments.rebalance(true)).map(({ accountId }) => accountId)).toEqual([id]);
  });
});

describe('concurrent changes', () => {
  it('do not deadlock: connect, migrate, rebalance, drain and SQL', async () => {
    await addServer('one');
    await addServer('two');
    const ids = await addInstances('one', 3);
    const accountIds = await connectMany(12);
    await setReady();
    const work = Array.from({ length: 12 }, (_round, number) => [
      accounts.migrate(workspaceId, accountIds[number]!, ids[number % 3]),
      accounts.connect(workspaceId, accountIds[(number + 5) % 12]!, { method: 'qr' }),
      assignments.rebalance(false),
      assignments.advanceMoves(),
      database.query(
        `update devices set assigned_server_id = case when assigned_server_id = 'one' then 'two' else 'one' end`,
      ),
      database.query(`update backend_servers set is_healthy = not is_healthy where id = 'two'`),
    ]).flat();
    const failures = (await Promise.allSettled(work)).filter(({ status }) => status === 'rejected');
    // A target may be full or down at that time. A deadlock is never an acceptable answer.
    expect(
      failures
        .map((failure) => String((failure as PromiseRejectedResult).reason))
        .filter((text) => /deadlock/.test(text)),
    ).toEqual([]);
  });
});

describe('moving', () => {
  it('is not blocked by accounts that cannot move', async () => {
    await addServer('one');
    await addInstances('one', 1, 100);
    const stuck = await connectMany(60);
    await link(stuck, { withSnapshot: false });
    await addServer('two');
    const [draining] = await addInstances('two', 1);
    const [free] = await connectMany(1);
    await addServer('three');
    const [target] = await addInstances('three', 1);
    await setReady();
    await database.query(`update servers set is_healthy = false where id = 'one'`);
    await instances.setDraining(draining!, true);
    for (
      let round = 0;
      round < 10 && (await accounts.get(workspaceId, free!)).instanceId !== target;
      round += 1
    ) {
      await assignments.advanceMoves();
    }
    expect((await accounts.get(workspaceId, free!)).instanceId).toBe(target);
  });

  it('refuses a target that is full, draining, unknown, or without the session, and says what to do', async () => {
    await addServer('one');
    const [here] = await addInstances('one', 1);
    const [id] = await connectMany(1);
    await link([id!], { withSnapshot: false });
    await expect(accounts.migrate(workspaceId, id!)).rejects.toMatchObject({
      code: 'instance.none_available',
    });
    await expect(accounts.migrate(workspaceId, id!, 'nowhere')).rejects.toMatchObject({
      code: 'instance.not_found',
    });
    await addServer('two');
    const [other] = await addInstances('two', 1, 50);
    await expect(accounts.migrate(workspaceId, id!, other)).rejects.toMatchObject({
      code: 'account.session_not_portable',
      message: expect.stringContaining('SESSION_STORE=postgres'),
    });
    await database.query('update instances set max_accounts = 0 where id = $1', [other]);
    await link([id!], { withSnapshot: true });
    await expect(accounts.migrate(workspaceId, id!, other)).rejects.toMatchObject({
      code: 'instance.not_available',
    });
    expect(await accounts.get(workspaceId, id!)).toMatchObject({
      instanceId: here,
      epoch: 1,
      status: 'ready',
    });
  });

  it('drains an instance a few accounts at a time, and places no account on it', async () => {
    await addServer('one');
    const [draining] = await addInstances('one', 3);
    await connectMany(9);
    await setReady();
    expect((await instances.setDraining(draining!, true)).state).toBe('draining');
    const onIt = async () => (await instances.getWithLoad(draining!)).reserved;
    expect(await assignments.advanceMoves()).toBe(movesAtOnce);
    expect(await assignments.advanceMoves()).toBe(0);
    expect(await onIt()).toBe(1);
    await setReady();
    expect(await assignments.advanceMoves()).toBe(1);
    expect(await onIt()).toBe(0);
    await connectMany(4);
    expect(await onIt()).toBe(0);
    expect((await instances.setDraining(draining!, false)).state).toBe('active');
    await connectMany(6);
    expect(await onIt()).toBe(6);
  });

  it('moves accounts away from a server that an operator marks as unhealthy, if their session can move', async () => {
    await addServer('one');
    await addInstances('one', 1);
    const [bare, copied] = await connectMany(2);
    await link([bare!], { withSnapshot: false });
    await link([copied!], { withSnapshot: true });
    await addServer('two');
    const [other] = await addInstances('two', 1);
    await database.query(`update servers set is_healthy = false where id = 'one'`);
    expect(await assignments.advanceMoves()).toBe(1);
    expect((await accounts.get(workspaceId, copied!)).instanceId).toBe(other);
    expect(await accounts.get(workspaceId, bare!)).toMatchObject({
      instanceId: 'one.instance_00',
      status: 'ready',
    });
  });

  it('evens out the load with the fewest moves, and only returns them in a dry run', async () => {
    await addServer('one');
    await addInstances('one', 2);
    await connectMany(9);
    await setReady();
    await addInstances('one', 1, 50, 2);
    const before = await loads();
    const planned = await assignments.rebalance(true);
    expect(planned).toHaveLength(3);
    expect(await loads()).toEqual(before);
    expect(await assignments.advanceMoves()).toBe(0);
    expect(await assignments.rebalance(false)).toEqual(planned);
    let moved = 0;
    for (let round = 0; round < 5; round += 1) {
      moved += await assignments.advanceMoves();
      await setReady();
    }
    expect(moved).toBe(3);
    expect(await loads()).toEqual([3, 3, 3]);
    expect(await assignments.rebalance(false)).toEqual([]);
  });
});

it('the connection log deletes entries after thirty days', async () => {
  const accountId = uuidv7();
  for (const age of ['31 days', '29 days']) {
    await database.query(
      `insert into connection_logs (workspace_id, account_id, epoch, event_type, created_at)
       values ($1, $2, 0, 'x', now() - $3::interval)`,
      [workspaceId, accountId, age],
    );
  }
  await context.get(ConnectionLogsService).prune();
  const kept = await database.query(
    `select created_at > now() - interval '30 days' as "isYoung" from connection_logs where account_id = $1`,
    [accountId],
  );
  expect(kept).toEqual([{ isYoung: true }]);
});

it('the connection log is in the order of the events, also where ids get one digit more', async () => {
  const accountId = await insertAccount(database, workspaceId);
  await database.query(
    `insert into connection_logs (id, workspace_id, account_id, epoch, event_type)
     overriding system value select id, $1, $2, 0, id::text from generate_series(999999998, 1000000001) id`,
    [workspaceId, accountId],
  );
  const entries = await context.get(ConnectionLogsService).list(workspaceId, accountId, 10);
  expect(entries.slice(0, 4).map(({ event }) => event)).toEqual([
    '1000000001',
    '1000000000',
    '999999999',
    '999999998',
  ]);
});
