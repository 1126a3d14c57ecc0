/**
 * A fleet without browsers: servers with instances (simulated-instances.mjs, one process for each server) on a PostgreSQL
 * database of its own, with the real balancing, lease, snapshot and failover code. Only the browser session is a stand-in,
 * which writes down when it opens and closes. Every account ever open twice at once is a double owner.
 */
import 'reflect-metadata';
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, openSync, closeSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Module } from '@nestjs/common';
import { getDataSourceToken } from '@nestjs/typeorm';
import { v7 as uuidv7 } from 'uuid';
import { AccountsModule } from '../dist/src/accounts/accounts.module.js';
import { AccountsService } from '../dist/src/accounts/accounts.service.js';
import { AssignmentsService } from '../dist/src/accounts/assignments.service.js';
import { FleetTask } from '../dist/src/accounts/fleet.task.js';
import { InstanceRouter } from '../dist/src/instances/instance-router.js';
import { InstancesService } from '../dist/src/instances/instances.service.js';
import { loadConfig } from '../dist/src/platform/config/config.js';
import { DatabaseModule } from '../dist/src/platform/database/database.module.js';
import { migrate } from '../dist/src/platform/database/migrate.js';
import { createLogger } from '../dist/src/platform/logging/logger.js';
import { createContext } from '../dist/src/platform/start-role.js';
import { dropDatabase, query } from '../setup/connections.mjs';
import { waitFor } from '../setup/processes.mjs';

const serversAtFirst = 10;
const accountsPerWorkspace = 20;
/** Connections: PostgreSQL allows 200, and each instance needs one for its lease. */
const poolSize = { scheduler: 20, server: 4 };
const connectsAtOnce = 16;
/** How long the fleet is watched while nothing happens. */
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
 * Places, joins, leaves and kills, and measures what becomes of it.
 * @param {object} options
 * @param {number} options.instances
 * @param {number} options.accounts
 * @param {number} options.servers processes over which the instances are spread evenly
 * @param {NodeJS.ProcessEnv} [options.env] settings other than the defaults
 * @param {(text: string) => void} [options.log]
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

/** The scheduler's and the API's part, in this process; the servers are its children. */
class SimulatedFleet {
  /** @type {Map<string, SimulatedServer>} */
  servers = new Map();
  running = true;

  /** @param {Parameters<typeof simulateFleet>[0]} options */
  static async start({ instances, accounts, servers, env, log }) {
    const fleet = new SimulatedFleet();
    fleet.log = log;
    fleet.accounts = accounts;
    fleet.dir = mkdtempSync(join(tmpdir(), 'flotilla-fleet-'));
    try {
      await fleet.makeDatabase(env, Math.ceil((1.5 * accounts) / instances));
      await fleet.makeAccounts();
      await fleet.addServers(instances, servers);
      fleet.scheduling = fleet.schedule();
      return fleet;
    } catch (error) {
      await fleet.stop();
      throw error;
    }
  }

  async makeDatabase(env, maxAccounts) {
    this.serverUrl = process.env.DATABASE_URL;
    this.databaseName = `fleet_${randomBytes(6).toString('hex')}`;
    const url = new URL(this.serverUrl);
    url.pathname = `/${this.databaseName}`;
    await query(this.serverUrl, [`create database ${this.databaseName}`]);
    this.config = loadConfig({
      ...process.env,
      ENV_FILE: 'none',
      VAR_DIR: this.dir,
      // Without it an account stays on the server that it was linked on.
      SESSION_STORE: 'postgres',
      INSTANCE_MAX_ACCOUNTS: String(maxAccounts),
      DATABASE_POOL_SIZE: String(poolSize.scheduler),
      ...env,
      DATABASE_URL: url.href,
    });
    await migrate(this.config);
    class Scheduler {}
    Module({ imports: [DatabaseModule, AccountsModule], providers: [FleetTask] })(Scheduler);
    this.context = await createContext(Scheduler, this.config, createLogger('simulated-scheduler', 'error'));
    this.database = this.context.get(getDataSourceToken());
    this.instances = this.context.get(InstancesService);
  }

  async makeAccounts() {
    const workspaces = Array.from({ length: Math.ceil(this.accounts / accountsPerWorkspace) }, () =>
      uuidv7(),
    );
    await this.database.query(
      `insert into workspaces (id, name) select id, 'simulated' from unnest($1::uuid[]) id`,
      [workspaces],
    );
    this.linked = Array.from({ length: this.accounts }, (_account, number) => ({
      id: uuidv7(),
      workspaceId: workspaces[number % workspaces.length],
    }));
    await this.database.query(
      `insert into accounts (id, workspace_id, name, environment)
       select id, workspace_id, 'simulated', 'live' from unnest($1::uuid[], $2::uuid[]) a(id, workspace_id)`,
      [this.linked.map(({ id }) => id), this.linked.map(({ workspaceId }) => workspaceId)],
    );
  }

  /** Starts servers with so many instances in all. */
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
    this.log(`${instances} instances on ${servers} servers hold their leases ${secondsSince(started)}`);
  }

  /** What the leading scheduler does, as SchedulerService does it. */
  async schedule() {
    const task = this.context.get(FleetTask);
    while (this.running) {
      await task.run().catch((error) => this.log(`the scheduler failed, and tries again: ${error}`));
      await delay(task.everyMs);
    }
  }

  /** Connects every account through the service of the API, so many at once, and waits until all are ready. */
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
        if (done % 1000 === 0) this.log(`${done} accounts have their instance ${secondsSince(started)}`);
      }
    };
    await Promise.all(Array.from({ length: connectsAtOnce }, work));
    const assignedMs = performance.now() - started;
    const { spread } = await this.instances.distribution();
    await this.untilReady();
    const readyMs = performance.now() - started;
    this.log(`all ready ${secondsSince(started)}`);
    const cpu = this.perAccount(before, await this.cpuTimes());
    this.log(`processor ms per account: ${describe(cpu).replaceAll('\n', ', ')}`);
    const statusReport = await this.statusReportCost();
    await this.until(
      'a snapshot of every session',
      `(select count(*) from session_snapshots) = ${this.accounts}`,
    );
    this.log(`a snapshot of every session is stored ${secondsSince(started)}`);
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

  /** One more server with one instance; then the load is made even. */
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
    this.log(`an instance joined: ${moved} accounts moved ${secondsSince(started)}`);
    return {
      planned: planned.length,
      moved,
      fewest: Math.floor(this.accounts / instances.length),
      spread,
      seconds: (performance.now() - started) / 1000,
    };
  }

  /** An instance is stopped in good order, and stays away. */
  async leave() {
    const [server] = this.servers.values();
    const [id] = server.instanceIds;
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
    this.log(`an instance left: ${moved.length} accounts moved ${secondsSince(started)}`);
    return {
      owned: ownedBy(before, [id]),
      moved: moved.length,
      movedOfOthers: moved.filter(([, { instanceId }]) => instanceId !== id).length,
      spread: (await this.instances.distribution()).spread,
      stopSeconds: stoppedMs / 1000,
      seconds: (performance.now() - started) / 1000,
    };
  }

  /** A server dies at a random moment, with all of its instances. */
  async kill() {
    const server = [...this.servers.values()][1];
    const before = await this.assignments();
    await delay(Math.random() * this.config.instance.renewMs);
    const killedAt = process.hrtime.bigint();
    await server.kill();
    const ids = server.instanceIds.map((id) => `'${id}'`).join(', ');
    await this.until(
      `nothing assigned to ${server.id}`,
      `not exists (select from accounts where instance_id in (${ids}))`,
    );
    const [{ assignedMs }] = await this.database.query(
      `select extract(epoch from max(created_at) - $1::timestamptz)::float8 * 1000 as "assignedMs" from server_logs
       where message = 'Device assignment changed' and details ->> 'reason' = 'failover' and created_at > $1`,
      [new Date(Date.now() - Number(process.hrtime.bigint() - killedAt) / 1e6)],
    );
    await this.untilReady();
    const moved = changed(before, await this.assignments());
    const lost = new Set(server.instanceIds);
    const again = this.events().filter(
      ({ event, at, accountId }) =>
        event === 'ready' && at > killedAt && lost.has(before.get(accountId).instanceId),
    );
    const readyMs = again.map(({ at }) => Number(at - killedAt) / 1e6).sort((a, b) => a - b);
    this.log(
      `a server died: ${moved.length} accounts taken over, the last ready after ${(readyMs.at(-1) / 1000).toFixed(1)} s`,
    );
    return {
      instances: lost.size,
      owned: ownedBy(before, server.instanceIds),
      moved: moved.length,
      movedOfOthers: moved.filter(([, { instanceId }]) => !lost.has(instanceId)).length,
      drivenAgain: new Set(again.map(({ accountId }) => accountId)).size,
      spread: (await this.instances.distribution()).spread,
      assignedSeconds: assignedMs / 1000,
      firstReadySeconds: readyMs[0] / 1000,
      lastReadySeconds: readyMs.at(-1) / 1000,
    };
  }

  async stop() {
    this.running = false;
    await this.scheduling;
    await Promise.all([...this.servers.values()].map((server) => server.kill()));
    await this.context?.close();
    // The guardians of the servers outlive them for a moment.
    await waitFor(async () => guardians(this.dir).length === 0, { timeoutMs: 60_000 });
    if (this.config) {
      await dropDatabase(this.serverUrl, this.databaseName);
    }
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 5 });
  }

  /** Waits until something holds. @param {string} what @param {string} condition in SQL */
  async until(what, condition) {
    const holds = await waitFor(
      async () => (await this.database.query(`select ${condition} as holds`))[0].holds,
      { timeoutMs: patienceMs, everyMs: 100 },
    );
    if (!holds) throw new Error(`${what}: not within ${patienceMs / 1000} s\n${this.serverLogs()}`);
  }

  untilReady() {
    return this.until('every account ready', `not exists (select from accounts where status <> 'ready')`);
  }

  /** Who owns what. @returns {Promise<Map<string, { instanceId: string, epoch: number }>>} */
  async assignments() {
    const rows = await this.database.query('select id, instance_id as "instanceId", epoch from accounts');
    return new Map(rows.map(({ id, instanceId, epoch }) => [id, { instanceId, epoch }]));
  }

  /** How many of all accounts are on an instance of their workspace's shard. */
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
      shards.get(workspaceId).includes(owners.get(id).instanceId),
    );
    return inside.length / this.linked.length;
  }

  /** What one status report costs in PostgreSQL, and its triggers of that, in milliseconds: the median over some accounts. */
  async statusReportCost() {
    const times = [];
    for (const { id } of this.linked.slice(0, 50)) {
      const runner = this.database.createQueryRunner();
      await runner.startTransaction();
      const [row] = await runner.query(
        `explain (analyze, format json) update accounts set status = 'syncing' where id = '${id}'`,
      );
      await runner.rollbackTransaction();
      await runner.release();
      const [plan] = row['QUERY PLAN'];
      times.push({
        ms: plan['Execution Time'],
        triggersMs: plan.Triggers.reduce((sum, trigger) => sum + trigger.Time, 0),
      });
    }
    const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
    return {
      ms: median(times.map(({ ms }) => ms)),
      triggersMs: median(times.map(({ triggersMs }) => triggersMs)),
    };
  }

  /** The processor time that the parts of the fleet have used so far, in milliseconds. */
  async cpuTimes() {
    const [{ pid }] = await this.database.query('select pg_backend_pid() as pid');
    const postmaster = parentOf(pid);
    const sum = (pids) => pids.reduce((total, one) => total + cpuTime(one), 0);
    return {
      // Where it is on this machine.
      postgres: postmaster
        ? sum(pids().filter((one) => one === postmaster || parentOf(one) === postmaster))
        : 0,
      instances: sum([...this.servers.values()].map((server) => server.child.pid)),
      guardians: sum(guardians(this.dir)),
      'api and scheduler': cpuTime(process.pid),
    };
  }

  /** What the fleet uses while nothing happens: renewals, and looking whether something has. In milliseconds a second. */
  async cpuAtRest() {
    const before = await this.cpuTimes();
    await delay(restMs);
    const after = await this.cpuTimes();
    const used = Object.entries(after).map(([part, ms]) => [
      part,
      Math.round(((ms - before[part]) * 1000) / restMs),
    ]);
    return Object.fromEntries(used);
  }

  perAccount(before, after) {
    return Object.fromEntries(
      Object.entries(after).map(([part, ms]) => [
        part,
        Math.round(((ms - before[part]) / this.accounts) * 100) / 100,
      ]),
    );
  }

  /** What the sessions of all servers wrote down. */
  events() {
    return [...this.servers.values()].flatMap((server) => server.events());
  }

  /** By the ledger: how often a session of an account was open while another one was, and how many sessions there were. */
  doubleSessions() {
    const spans = [...this.servers.values()].flatMap((server) => server.spans());
    const byAccount = new Map(this.linked.map(({ id }) => [id, []]));
    for (const span of spans) byAccount.get(span.accountId).push(span);
    let overlaps = 0;
    for (const ofAccount of byAccount.values()) {
      let openUntil = 0n;
      for (const { from, to } of ofAccount.sort((a, b) => (a.from < b.from ? -1 : 1))) {
        if (from < openUntil) overlaps += 1;
        if (to > openUntil) openUntil = to;
      }
    }
    const linked = this.events().filter(({ event }) => event === 'linked').length;
    return { sessions: spans.length, overlaps, linkedAgain: linked - this.accounts };
  }

  /**
   * By PostgreSQL's log: how often an account was claimed although the holder before had not released it and its lease and the
   * margin were not over, or by two instances at one epoch. A lease only grows: one that is over now was over then.
   */
  async doubleHolders() {
    const [{ count }] = await this.database.query(
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
    return count;
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
  diedAt = null;
  /** @type {string[]} */
  instanceIds = [];

  constructor(id, instances, config, dir) {
    this.id = id;
    this.dir = join(dir, id);
    mkdirSync(this.dir);
    this.ledger = join(this.dir, 'ledger');
    this.logFile = join(this.dir, 'log');
    const output = openSync(this.logFile, 'a');
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
    this.ended = new Promise((resolve) =>
      this.child.once('exit', () => {
        this.diedAt = process.hrtime.bigint();
        resolve();
      }),
    );
  }

  async started() {
    const { started } = await this.answer();
    this.instanceIds = started;
  }

  async retire(instanceId) {
    this.child.send({ retire: instanceId });
    await this.answer();
  }

  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
  }

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
        const [at, event, accountId, instanceId] = line.split(' ');
        return { at: BigInt(at), event, accountId, instanceId };
      });
  }

  /** The sessions from their opening to their closing, or to the end of the process. */
  spans() {
    const open = new Map();
    const spans = [];
    for (const { at, event, accountId, instanceId } of this.events()) {
      if (event === 'open') {
        const span = { accountId, from: at, to: this.diedAt ?? process.hrtime.bigint() };
        spans.push(span);
        open.set(`${accountId} ${instanceId}`, span);
      } else if (event === 'close') open.get(`${accountId} ${instanceId}`).to = at;
    }
    return spans;
  }
}

/** @returns {[string, { instanceId: string, epoch: number }][]} the accounts whose owner changed, with their owner before */
function changed(before, after) {
  return [...before].filter(([id, { epoch }]) => after.get(id).epoch !== epoch);
}

function ownedBy(assignments, instanceIds) {
  return [...assignments.values()].filter(({ instanceId }) => instanceIds.includes(instanceId)).length;
}

/** For what share of workspaces the preferred instance changes when one more joins. @param {number} shardSize */
function routingMoves(shardSize) {
  const router = new InstanceRouter(shardSize);
  const workspaces = Array.from({ length: 2_000 }, () => uuidv7());
  const moved = (count) => {
    const ids = Array.from({ length: count + 1 }, (_instance, number) => `server.instance_${number}`);
    const first = (workspace, among) => router.shardOf(workspace, among)[0];
    return (
      workspaces.filter((one) => first(one, ids) !== first(one, ids.slice(0, -1))).length / workspaces.length
    );
  };
  return { fifthJoinsFour: moved(4), hundredAndFirstJoins: moved(100) };
}

function pids() {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** The guardians of the servers below a directory. @param {string} dir */
function guardians(dir) {
  return pids().filter((pid) => {
    const words = readProcess(pid, 'cmdline').split('\0');
    return (
      words.some((word) => word.endsWith('browser-guardian.sh')) && words.some((word) => word.startsWith(dir))
    );
  });
}

/** The fields of proc(5) after the name of the process: state first. @param {number} pid */
const statusOf = (pid) => readProcess(pid, 'stat').split(') ').at(-1).split(' ');

/** @param {number} pid */
const parentOf = (pid) => Number(statusOf(pid)[1]);

/** In milliseconds, with that of children that have ended. @param {number} pid */
function cpuTime(pid) {
  // utime, stime, cutime, cstime, in clock ticks of 10 ms.
  return statusOf(pid)
    .slice(11, 15)
    .reduce((sum, ticks) => sum + Number(ticks) * 10, 0);
}

/** @returns {string} empty when the process has ended */
function readProcess(pid, file) {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}

/** @param {number} started of performance.now() */
const secondsSince = (started) => `after ${((performance.now() - started) / 1000).toFixed(1)} s`;

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
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const seconds = (value) => `${value.toFixed(1)} s`;
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
      what: 'processor ms a second while nothing happens',
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
      what: 'until all were assigned, and until all were ready',
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
  const sum = Object.values(cost).reduce((total, ms) => total + ms, 0);
  return [
    `${sum.toFixed(1)} in all`,
    ...Object.entries(cost).map(([part, ms]) => `${ms.toFixed(1)} ${part}`),
  ].join('\n');
}
