/**
 * A fleet without browsers: servers with instances (simulated-instances.mjs, one process for each server) on a new PostgreSQL
 * database, with the real balancing, lease, snapshot and failover code. Only the browser sessions are simulated: they write
 * to a ledger when they open and close. An account with two open sessions at once has two owners.
 */
import 'reflect-metadata';
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Module } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { AccountsModule } from '#dist/src/accounts/accounts.module.js';
import { AccountsService } from '#dist/src/accounts/accounts.service.js';
import { AssignmentsService } from '#dist/src/accounts/assignments.service.js';
import { FleetTask } from '#dist/src/accounts/fleet.task.js';
import { InstanceRouter } from '#dist/src/instances/instance-router.js';
import { InstancesService } from '#dist/src/instances/instances.service.js';
import { loadConfig } from '#dist/src/platform/config/config.js';
import { DatabaseModule } from '#dist/src/platform/database/database.module.js';
import { migrate } from '#dist/src/platform/database/migrate.js';
import { createLogger } from '#dist/src/platform/logging/logger.js';
import { createContext } from '#dist/src/platform/start-role.js';
import { dropDatabase, query } from '../setup/connections.mjs';
import { allPids, commandLine, cpuTimeOf, parentOf, waitFor } from '../setup/processes.mjs';
import { increase, median, secondsSince, sum } from './figures.mjs';

/** @typedef {import('#dist/src/platform/config/config.js').Config} Config */
/** @typedef {Record<string, number>} Costs processor milliseconds of the parts of the fleet */
/** @typedef {{ instanceId: string, epoch: number }} Owner */

const serversAtFirst = 10;
const accountsPerWorkspace = 20;
/** Database connections. PostgreSQL allows 200, and each instance needs one more for its lease. */
const poolSize = { scheduler: 20, server: 4 };
const connectsAtOnce = 16;
/** How long the idle fleet is measured. */
const restMs = 5_000;
/** How long any step may take. */
const patienceMs = 300_000;

/** @param {{ instances: number, accounts: number, log: (text: string) => void }} options */
export async function run({ instances, accounts, log }) {
  const result = await simulateFleet({
    instances,
    accounts,
    servers: Math.min(serversAtFirst, instances),
    log,
  });
  return { ...result, rows: rowsOf(result) };
}

/**
 * @typedef {object} Options
 * @property {number} instances
 * @property {number} accounts
 * @property {number} servers processes with the same number of instances each; at least two
 * @property {Record<string, string>} [env] settings that differ from the defaults
 * @property {(text: string) => void} [log]
 */

/**
 * Places the accounts, then an instance joins, an instance leaves, and a server dies. Measures each step.
 *
 * @param {Options} options
 */
export async function simulateFleet({ instances, accounts, servers, env = {}, log = () => undefined }) {
  const fleet = await SimulatedFleet.start({ instances, accounts, servers, env, log });
  try {
    const placing = await fleet.connectAll();
    const joining = await fleet.join();
    const leaving = await fleet.leave();
    const killing = await fleet.kill();
    return {
      instances,
      accounts,
      servers,
      leaseMs: fleet.config.instance.leaseMs,
      takeoverMarginMs: fleet.config.instance.takeoverMarginMs,
      routing: routingMoves(fleet.config.router.shardSize),
      placing,
      joining,
      leaving,
      killing,
      doubleOwners: { ...fleet.doubleSessions(), inTheLog: await fleet.doubleHolders() },
    };
  } finally {
    await fleet.stop();
  }
}

/** The part of the scheduler and the API, in this process. The servers are child processes. */
class SimulatedFleet {
  /** @type {Map<string, SimulatedServer>} */
  servers = new Map();
  /** The accounts. @type {{ id: string, workspaceId: string }[]} */
  linked = [];
  running = true;
  /** @type {Promise<void>} */
  scheduling = Promise.resolve();

  /** @param {Required<Options>} options */
  static async start({ instances, accounts, servers, env, log }) {
    const dir = mkdtempSync(join(tmpdir(), 'flotilla-fleet-'));
    const database = await makeDatabase();
    /** @type {SimulatedFleet | undefined} */
    let fleet;
    try {
      const config = loadConfig({
        ...process.env,
        ENV_FILE: 'none',
        VAR_DIR: dir,
        // Without a store an account stays on the server that linked it.
        SESSION_STORE: 'postgres',
        INSTANCE_MAX_ACCOUNTS: String(Math.ceil((1.5 * accounts) / instances)),
        DATABASE_POOL_SIZE: String(poolSize.scheduler),
        ...env,
        DATABASE_URL: database.url,
      });
      await migrate(config);
      class Scheduler {}
      Module({ imports: [DatabaseModule, AccountsModule], providers: [FleetTask] })(Scheduler);
      const context = await createContext(Scheduler, config, createLogger('simulated-scheduler', 'error'));
      fleet = new SimulatedFleet({ accounts, log, dir, config, context, dropDatabase: database.drop });
      await fleet.makeAccounts();
      await fleet.addServers(instances, servers);
      fleet.scheduling = fleet.schedule();
      return fleet;
    } catch (error) {
      await (fleet ? fleet.stop() : database.drop());
      rmSync(dir, { recursive: true, force: true });
      throw error;
    }
  }

  /**
   * @param {object} parts
   * @param {number} parts.accounts
   * @param {(text: string) => void} parts.log
   * @param {string} parts.dir
   * @param {Config} parts.config
   * @param {import('@nestjs/common').INestApplicationContext} parts.context
   * @param {() => Promise<void>} parts.dropDatabase
   */
  constructor({ accounts, log, dir, config, context, dropDatabase }) {
    this.accounts = accounts;
    this.log = log;
    this.dir = dir;
    this.config = config;
    this.context = context;
    this.dropDatabase = dropDatabase;
    this.database = context.get(DataSource);
    this.instances = context.get(InstancesService);
  }

  async makeAccounts() {
    const count = Math.ceil(this.accounts / accountsPerWorkspace);
    const workspaces = Array.from({ length: count }, () => uuidv7());
    await this.database.query(
      `insert into workspaces (id, name) select id, 'simulated' from unnest($1::uuid[]) id`,
      [workspaces],
    );
    this.linked = Array.from({ length: this.accounts }, (_account, number) => ({
      id: uuidv7(),
      workspaceId: workspaces[number % workspaces.length] ?? '',
    }));
    await this.database.query(
      `insert into accounts (id, workspace_id, name, environment)
       select id, workspace_id, 'simulated', 'live' from unnest($1::uuid[], $2::uuid[]) a(id, workspace_id)`,
      [this.linked.map(({ id }) => id), this.linked.map(({ workspaceId }) => workspaceId)],
    );
  }

  /** Starts servers. @param {number} instances in all of them @param {number} servers */
  async addServers(instances, servers) {
    const first = this.servers.size;
    const started = performance.now();
    await Promise.all(
      Array.from({ length: servers }, async (_server, index) => {
        const id = `server-${String(first + index).padStart(2, '0')}`;
        const count = Math.floor(instances / servers) + (index < instances % servers ? 1 : 0);
        const server = new SimulatedServer(id, count, this.config, this.dir);
        this.servers.set(id, server);
        await server.started();
      }),
    );
    this.log(`${instances} instances on ${servers} servers hold their leases after ${secondsSince(started)}`);
  }

  /** Runs the task of the scheduler, as SchedulerService does. */
  async schedule() {
    const task = this.context.get(FleetTask);
    while (this.running) {
      await task
        .run()
        .catch((/** @type {unknown} */ error) =>
          this.log(`the scheduler failed and tries again: ${String(error)}`),
        );
      await delay(task.everyMs);
    }
  }

  /** Connects every account through the service of the API, several at once, and waits until all are ready. */
  async connectAll() {
    const service = this.context.get(AccountsService);
    const waiting = this.linked.values();
    const before = await this.cpuTimes();
    const started = performance.now();
    let done = 0;
    const work = async () => {
      for (const { id, workspaceId } of waiting) {
        await service.connect(workspaceId, id, { method: 'qr' });
        done += 1;
        if (done % 1000 === 0)
          this.log(`${done} accounts have their instance after ${secondsSince(started)}`);
      }
    };
    await Promise.all(Array.from({ length: connectsAtOnce }, work));
    const assignedMs = performance.now() - started;
    const { spread } = await this.instances.distribution();
    await this.untilReady();
    const readyMs = performance.now() - started;
    this.log(`all ready after ${secondsSince(started)}`);
    const cpu = increase(before, await this.cpuTimes(), this.accounts);
    this.log(`processor ms per account: ${describe(cpu).replaceAll('\n', ', ')}`);
    const statusReport = await this.statusReportCost();
    await this.until(
      'a snapshot of every session',
      `(select count(*) from session_snapshots) = ${this.accounts}`,
    );
    this.log(`a snapshot of every session is stored after ${secondsSince(started)}`);
    const atRest = await this.cpuAtRest();
    return {
      connectsAtOnce,
      assignmentsPerSecond: (this.accounts * 1000) / assignedMs,
      readyPerSecond: (this.accounts * 1000) / readyMs,
      spread,
      inShard: await this.shareInShard(),
      cpuMsPerAccount: cpu,
      statusReport,
      cpuMsPerSecondAtRest: atRest,
    };
  }

  /** Adds a server with one instance, and rebalances. */
  async join() {
    await this.addServers(1, 1);
    const before = await this.assignments();
    const started = performance.now();
    const planned = await this.context.get(AssignmentsService).rebalance(false);
    await this.until(
      'the moves of the rebalancing',
      'not exists (select from accounts where move_to is not null or moving_since is not null)',
    );
    await this.untilReady();
    const { spread, instances } = await this.instances.distribution();
    const moved = changed(before, await this.assignments()).length;
    this.log(`an instance joined: ${moved} accounts moved after ${secondsSince(started)}`);
    return {
      planned: planned.length,
      moved,
      fewest: Math.floor(this.accounts / instances.length),
      spread,
      seconds: (performance.now() - started) / 1000,
    };
  }

  /** Stops an instance, which does not come back. */
  async leave() {
    const server = this.server(0);
    const [id = ''] = server.instanceIds;
    const before = await this.assignments();
    const started = performance.now();
    await server.retire(id);
    const stoppedMs = performance.now() - started;
    await this.until(
      `nothing assigned to ${id}`,
      `not exists (select from accounts where instance_id = '${id}')`,
    );
    await this.untilReady();
    const moved = changed(before, await this.assignments());
    this.log(`an instance left: ${moved.length} accounts moved after ${secondsSince(started)}`);
    return {
      owned: ownedBy(before, [id]),
      moved: moved.length,
      movedOfOthers: moved.filter(([, { instanceId }]) => instanceId !== id).length,
      spread: (await this.instances.distribution()).spread,
      stopSeconds: stoppedMs / 1000,
      seconds: (performance.now() - started) / 1000,
    };
  }

  /** Kills a server with all its instances at a random moment. */
  async kill() {
    const server = this.server(1);
    const before = await this.assignments();
    await delay(Math.random() * this.config.instance.renewMs);
    const killedAt = process.hrtime.bigint();
    await server.kill();
    const ids = server.instanceIds.map((id) => `'${id}'`).join(', ');
    await this.until(
      `nothing assigned to ${server.id}`,
      `not exists (select from accounts where instance_id in (${ids}))`,
    );
    /** @type {{ assignedMs: number }[]} */
    const [failover] = await this.database.query(
      `select extract(epoch from max(created_at) - $1::timestamptz)::float8 * 1000 as "assignedMs" from server_logs
       where message = 'Device assignment changed' and details ->> 'reason' = 'failover' and created_at > $1`,
      [new Date(Date.now() - Number(process.hrtime.bigint() - killedAt) / 1e6)],
    );
    await this.untilReady();
    const moved = changed(before, await this.assignments());
    const lost = new Set(server.instanceIds);
    const again = this.events().filter(
      ({ event, at, accountId }) =>
        event === 'ready' && at > killedAt && lost.has(before.get(accountId)?.instanceId ?? ''),
    );
    const readyMs = again.map(({ at }) => Number(at - killedAt) / 1e6).sort((a, b) => a - b);
    const firstReadySeconds = (readyMs[0] ?? NaN) / 1000;
    const lastReadySeconds = (readyMs.at(-1) ?? NaN) / 1000;
    this.log(
      `a server died: ${moved.length} accounts taken over, the last ready after ${lastReadySeconds.toFixed(1)} s`,
    );
    return {
      instances: lost.size,
      owned: ownedBy(before, server.instanceIds),
      moved: moved.length,
      movedOfOthers: moved.filter(([, { instanceId }]) => !lost.has(instanceId)).length,
      drivenAgain: new Set(again.map(({ accountId }) => accountId)).size,
      spread: (await this.instances.distribution()).spread,
      assignedSeconds: (failover?.assignedMs ?? NaN) / 1000,
      firstReadySeconds,
      lastReadySeconds,
    };
  }

  async stop() {
    this.running = false;
    await this.scheduling;
    await Promise.all([...this.servers.values()].map((server) => server.kill()));
    await this.context.close();
    // The guardians outlive their servers for a moment.
    await waitFor(() => guardians(this.dir).length === 0, { timeoutMs: 60_000 });
    await this.dropDatabase();
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 5 });
  }

  /** A server by its number. @param {number} number */
  server(number) {
    const server = [...this.servers.values()][number];
    if (!server) throw new Error(`there is no server ${number}`);
    return server;
  }

  /** Waits until a condition holds. @param {string} what @param {string} condition in SQL */
  async until(what, condition) {
    const holds = await waitFor(
      async () => {
        /** @type {{ holds: boolean }[]} */
        const [row] = await this.database.query(`select ${condition} as holds`);
        return row?.holds;
      },
      { timeoutMs: patienceMs, everyMs: 100 },
    );
    if (!holds) throw new Error(`${what}: not within ${patienceMs / 1000} s\n${this.serverLogs()}`);
  }

  untilReady() {
    return this.until('every account ready', `not exists (select from accounts where status <> 'ready')`);
  }

  /** The owner of each account. @returns {Promise<Map<string, Owner>>} */
  async assignments() {
    /** @type {(Owner & { id: string })[]} */
    const rows = await this.database.query('select id, instance_id as "instanceId", epoch from accounts');
    return new Map(rows.map(({ id, instanceId, epoch }) => [id, { instanceId, epoch }]));
  }

  /** The share of accounts on an instance of their workspace's shard. */
  async shareInShard() {
    const router = new InstanceRouter(this.config.router.shardSize);
    const ids = (await this.instances.distribution()).instances.map(({ id }) => id);
    const shards = new Map(
      [...new Set(this.linked.map(({ workspaceId }) => workspaceId))].map((workspaceId) => [
        workspaceId,
        router.shardOf(workspaceId, ids),
      ]),
    );
    const owners = await this.assignments();
    const inside = this.linked.filter(({ id, workspaceId }) =>
      shards.get(workspaceId)?.includes(owners.get(id)?.instanceId ?? ''),
    );
    return inside.length / this.linked.length;
  }

  /** The cost of one status report in PostgreSQL, and of its triggers, in milliseconds: the median of some accounts. */
  async statusReportCost() {
    const times = [];
    for (const { id } of this.linked.slice(0, 50)) {
      const runner = this.database.createQueryRunner();
      await runner.startTransaction();
      /** @type {unknown} */
      const rows = await runner.query(
        `explain (analyze, format json) update accounts set status = 'syncing' where id = '${id}'`,
      );
      await runner.rollbackTransaction();
      await runner.release();
      const plan = /** @type {{ 'QUERY PLAN': Plan[] }[]} */ (rows)[0]?.['QUERY PLAN'][0];
      if (!plan) throw new Error('PostgreSQL answered no plan.');
      times.push({ ms: plan['Execution Time'], triggersMs: sum(plan.Triggers.map(({ Time }) => Time)) });
    }
    return {
      ms: median(times.map(({ ms }) => ms)),
      triggersMs: median(times.map(({ triggersMs }) => triggersMs)),
    };
  }

  /** The processor time that the parts of the fleet have used so far, in milliseconds. @returns {Promise<Costs>} */
  async cpuTimes() {
    /** @type {{ pid: number }[]} */
    const [backend] = await this.database.query('select pg_backend_pid() as pid');
    const postmaster = parentOf(backend?.pid ?? 0);
    const timesOf = (/** @type {number[]} */ pids) => sum(pids.map(cpuTimeOf));
    return {
      // 0 when PostgreSQL runs on another machine.
      postgres: postmaster
        ? timesOf(allPids().filter((pid) => pid === postmaster || parentOf(pid) === postmaster))
        : 0,
      instances: timesOf([...this.servers.values()].map((server) => server.child.pid ?? 0)),
      guardians: timesOf(guardians(this.dir)),
      'api and scheduler': cpuTimeOf(process.pid),
    };
  }

  /** The processor milliseconds per second of the idle fleet, which renews leases and polls. */
  async cpuAtRest() {
    const before = await this.cpuTimes();
    await delay(restMs);
    return increase(before, await this.cpuTimes(), restMs / 1000);
  }

  /** The ledgers of all servers. */
  events() {
    return [...this.servers.values()].flatMap((server) => server.events());
  }

  /** Counts the sessions in the ledgers, and how often an account had two open sessions at once. */
  doubleSessions() {
    const spans = [...this.servers.values()].flatMap((server) => server.spans());
    /** @type {Map<string, bigint>} */
    const openUntil = new Map();
    let overlaps = 0;
    for (const { accountId, from, to } of spans.sort((a, b) => (a.from < b.from ? -1 : 1))) {
      const before = openUntil.get(accountId) ?? 0n;
      if (from < before) overlaps += 1;
      if (to > before) openUntil.set(accountId, to);
    }
    const linked = this.events().filter(({ event }) => event === 'linked').length;
    return { sessions: spans.length, overlaps, linkedAgain: linked - this.accounts };
  }

  /**
   * Counts the wrong claims in PostgreSQL's log: claims before the last owner released the account and before its lease and
   * the margin were over, and claims of two instances in one epoch. A lease only grows, so that its present end is its last.
   */
  async doubleHolders() {
    /** @type {{ count: number }[]} */
    const [row] = await this.database.query(
      `with claims as (
         select account_id, instance_id, epoch, event_type, created_at, lag(event_type) over w as last_event,
           lag(instance_id) over w as last_instance
         from connection_logs where event_type in ('claimed', 'released') window w as (partition by account_id order by id)
       )
       select (select count(*)::int from claims c where event_type = 'claimed' and last_event = 'claimed'
           and last_instance <> instance_id and not exists (select from instances i where i.id = last_instance
             and i.lease_expires_at + $1::int * interval '1 millisecond' < c.created_at))
         + (select count(*)::int from (select from claims where event_type = 'claimed'
             group by account_id, epoch having count(distinct instance_id) > 1) twice) as count`,
      [this.config.instance.takeoverMarginMs],
    );
    if (!row) throw new Error('PostgreSQL answered no row.');
    return row.count;
  }

  serverLogs() {
    return [...this.servers.values()]
      .map((server) => server.log())
      .join('')
      .slice(-5000);
  }
}

/** A child process with some instances. */
class SimulatedServer {
  /** @type {bigint | null} */
  diedAt = null;
  /** @type {string[]} */
  instanceIds = [];

  /** @param {string} id @param {number} instances @param {Config} config @param {string} dir */
  constructor(id, instances, config, dir) {
    this.id = id;
    this.dir = join(dir, id);
    mkdirSync(this.dir);
    this.ledger = join(this.dir, 'ledger');
    this.logFile = join(this.dir, 'log');
    const output = openSync(this.logFile, 'a');
    /** @type {import('./simulated-instances.mjs').ServerOptions} */
    const options = {
      config,
      serverId: id,
      instances,
      dir: this.dir,
      ledger: this.ledger,
      poolSize: poolSize.server,
    };
    this.child = fork(join(import.meta.dirname, 'simulated-instances.mjs'), [JSON.stringify(options)], {
      stdio: ['ignore', output, output, 'ipc'],
    });
    closeSync(output);
    /** @type {Promise<void>} */
    this.ended = new Promise((resolve) =>
      this.child.once('exit', () => {
        this.diedAt = process.hrtime.bigint();
        resolve();
      }),
    );
  }

  async started() {
    const { started } = await this.answer();
    this.instanceIds = started ?? [];
  }

  /** @param {string} instanceId */
  async retire(instanceId) {
    this.child.send({ retire: instanceId });
    await this.answer();
  }

  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  /** @returns {Promise<{ started?: string[] }>} */
  answer() {
    return Promise.race([
      new Promise((resolve) => this.child.once('message', resolve)),
      this.ended.then(() => {
        throw new Error(`${this.id} ended:\n${this.log().slice(-5000)}`);
      }),
    ]);
  }

  log() {
    return readFileSync(this.logFile, 'utf8');
  }

  events() {
    return readFileSync(this.ledger, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const [at = '', event = '', accountId = '', instanceId = ''] = line.split(' ');
        return { at: BigInt(at), event, accountId, instanceId };
      });
  }

  /** The time of each session, from its start to its end or to the end of the process. */
  spans() {
    /** @type {Map<string, Span>} */
    const open = new Map();
    /** @type {Span[]} */
    const spans = [];
    for (const { at, event, accountId, instanceId } of this.events()) {
      if (event === 'open') {
        const span = { accountId, from: at, to: this.diedAt ?? process.hrtime.bigint() };
        spans.push(span);
        open.set(`${accountId} ${instanceId}`, span);
      } else if (event === 'close') {
        const span = open.get(`${accountId} ${instanceId}`);
        if (!span) throw new Error(`${instanceId} closed ${accountId}, which was not open`);
        span.to = at;
      }
    }
    return spans;
  }
}

/** @typedef {{ accountId: string, from: bigint, to: bigint }} Span */

/** @typedef {{ 'Execution Time': number, Triggers: { Time: number }[] }} Plan */

/** A new database on the server of DATABASE_URL. */
async function makeDatabase() {
  const server = process.env.DATABASE_URL;
  if (!server) throw new Error('DATABASE_URL is not set.');
  const name = `fleet_${randomBytes(6).toString('hex')}`;
  const url = new URL(server);
  url.pathname = `/${name}`;
  await query(server, [`create database ${name}`]);
  return { url: url.href, drop: () => dropDatabase(server, name) };
}

/**
 * The accounts with a changed owner, with the owner before.
 *
 * @param {Map<string, Owner>} before
 * @param {Map<string, Owner>} after
 */
function changed(before, after) {
  return [...before].filter(([id, { epoch }]) => after.get(id)?.epoch !== epoch);
}

/** @param {Map<string, Owner>} assignments @param {string[]} instanceIds */
function ownedBy(assignments, instanceIds) {
  return [...assignments.values()].filter(({ instanceId }) => instanceIds.includes(instanceId)).length;
}

/** The share of workspaces with a changed preferred instance when an instance joins. @param {number} shardSize */
function routingMoves(shardSize) {
  const router = new InstanceRouter(shardSize);
  const workspaces = Array.from({ length: 2_000 }, () => uuidv7());
  const moved = (/** @type {number} */ count) => {
    const ids = Array.from({ length: count + 1 }, (_instance, number) => `server.instance_${number}`);
    const first = (/** @type {string} */ workspace, /** @type {string[]} */ among) =>
      router.shardOf(workspace, among)[0];
    return (
      workspaces.filter((one) => first(one, ids) !== first(one, ids.slice(0, -1))).length / workspaces.length
    );
  };
  return { fifthJoinsFour: moved(4), hundredAndFirstJoins: moved(100) };
}

/** The guardians of the servers below a directory. @param {string} dir */
function guardians(dir) {
  return allPids().filter((pid) => {
    const words = commandLine(pid);
    return (
      words.some((word) => word.endsWith('browser-guardian.sh')) && words.some((word) => word.startsWith(dir))
    );
  });
}

/** @param {Awaited<ReturnType<typeof simulateFleet>>} result */
function rowsOf({
  instances,
  accounts,
  leaseMs,
  takeoverMarginMs,
  routing,
  placing,
  joining,
  leaving,
  killing,
  doubleOwners,
}) {
  const percent = (/** @type {number} */ share) => `${(100 * share).toFixed(1)} %`;
  const seconds = (/** @type {number} */ value) => `${value.toFixed(1)} s`;
  const startSeconds = killing.owned / placing.readyPerSecond;
  const failoverTarget = (leaseMs + takeoverMarginMs) / 1000 + 1.5 * startSeconds;
  return [
    {
      what: `assignments/s, ${placing.connectsAtOnce} connects at once`,
      value: placing.assignmentsPerSecond.toFixed(0),
    },
    {
      what: 'ready accounts/s, from the first connect to the last ready',
      value: placing.readyPerSecond.toFixed(0),
    },
    { what: 'processor ms per account connected and ready', value: describe(placing.cpuMsPerAccount) },
    {
      what: 'processor ms a second of the idle fleet',
      value: describe(placing.cpuMsPerSecondAtRest),
    },
    {
      what: 'one status report in PostgreSQL, ms, and its triggers',
      value: `${placing.statusReport.ms.toFixed(2)}, ${placing.statusReport.triggersMs.toFixed(2)}`,
    },
    {
      what: `spread of ${accounts} accounts over ${instances} instances`,
      value: String(placing.spread),
      target: '<= 1',
    },
    { what: "accounts inside their workspace's shard", value: percent(placing.inShard) },
    {
      what: 'workspaces moved when the 5th instance joins 4',
      value: percent(routing.fifthJoinsFour),
      target: '<= 25 %',
    },
    { what: 'workspaces moved when the 101st joins 100', value: percent(routing.hundredAndFirstJoins) },
    {
      what: 'an instance joins: accounts moved, spread then',
      value: `${joining.moved}, ${joining.spread}`,
      target: `${joining.fewest}, <= 1`,
    },
    {
      what: 'an instance leaves: accounts moved, of others, spread then',
      value: `${leaving.moved}, ${leaving.movedOfOthers}, ${leaving.spread}`,
      target: `${leaving.owned}, 0, <= 1`,
    },
    {
      what: `${killing.instances} instances killed: accounts driven again, of others moved`,
      value: `${killing.drivenAgain}, ${killing.movedOfOthers}`,
      target: `${killing.owned}, 0`,
    },
    {
      what: 'time until all were assigned, and until all were ready',
      value: `${seconds(killing.assignedSeconds)}, ${seconds(killing.lastReadySeconds)}`,
      target: `<= ${seconds(failoverTarget)} (lease + margin + 1.5 x starting as many)`,
    },
    {
      what: `double owners among ${doubleOwners.sessions} sessions, and in the log`,
      value: `${doubleOwners.overlaps}, ${doubleOwners.inTheLog}`,
      target: '0, 0',
    },
    { what: 'accounts that had to be linked again', value: String(doubleOwners.linkedAgain), target: '0' },
  ];
}

/** @param {Record<string, number>} cost */
function describe(cost) {
  return [
    `${sum(Object.values(cost)).toFixed(1)} in all`,
    ...Object.entries(cost).map(([part, ms]) => `${ms.toFixed(1)} ${part}`),
  ].join('\n');
}
