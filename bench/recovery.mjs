/**
 * How soon accounts are ready again: after a kill of their instance, after an instance that stays dead, and after a restart
 * of the machine. Also the time to the first QR code. The bare library does the same in the same run for comparison.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import whatsapp from 'whatsapp-web.js';
import { launchOptions } from '#dist/src/whatsapp/browser/launch.js';
import { isAlive } from '../setup/processes.mjs';
import { median } from './figures.mjs';
import {
  bareOptions,
  browsersIn,
  call,
  configOf,
  descendantsOf,
  eventually,
  sandboxStats,
  startBareClients,
  startFleet,
} from './fleet.mjs';

/** @typedef {import('./fleet.mjs').Account} Account */
/** @typedef {Awaited<ReturnType<typeof startBareClients>>} BareClients */

const accountCount = 8;
/** All accounts are on the first instance. The second has room for them. */
const instanceCount = 2;
const warmUps = 2;

/** @param {{ rounds: number, log: (text: string) => void }} options */
export async function run({ rounds, log }) {
  const fleet = await startFleet({
    accounts: accountCount,
    instances: instanceCount,
    env: { SERVER_ID: 'bench' },
    instanceId: 'bench.instance_00',
  });
  /** @type {RecoveryBench | undefined} */
  let bench;
  try {
    bench = await RecoveryBench.prepare(fleet, rounds, log);
    const qr = await bench.firstQr();
    const killed = await bench.killedInstance();
    const dead = await bench.deadInstance();
    const machine = await bench.machine();
    const { conflicts } = await sandboxStats(fleet.stack.urls.sandbox);
    const seconds = (/** @type {number} */ ms) => `${(ms / 1000).toFixed(2)} s`;
    return {
      accounts: accountCount,
      instances: instanceCount,
      qr,
      killed,
      dead,
      machine,
      conflicts,
      rows: [
        { what: "the library's own first QR code", value: seconds(qr.bare) },
        {
          what: 'QR code after connect, over REST',
          value: `${seconds(qr.ours)}, ratio ${(qr.ours / qr.bare).toFixed(2)}`,
          target: '<= 1.2 x the library',
        },
        {
          what: `a program of the bare library starts ${killed.accounts} linked sessions in parallel`,
          value: seconds(killed.bare),
        },
        { what: 'instance killed: RUNNING after', value: seconds(killed.running), target: '< 3 s' },
        {
          what: 'instance killed: its accounts ready, from RUNNING',
          value: `${seconds(killed.ready - killed.running)}, ratio ${((killed.ready - killed.running) / killed.bare).toFixed(2)}`,
          target: '<= 1.3 x bare',
        },
        {
          what: 'instance killed: its accounts ready, from the kill',
          value: `${seconds(killed.ready)}, ratio ${(killed.ready / killed.bare).toFixed(2)}`,
        },
        {
          what: 'instance stays dead: its accounts ready elsewhere',
          value: seconds(dead.ready),
          target: `<= lease + margin + 1.5 x bare = ${seconds(dead.limit)}`,
        },
        {
          what: `machine restarted: all RUNNING and ${accountCount} accounts ready`,
          value: seconds(machine.ready),
          target: '< 30 s',
        },
        { what: 'new QR codes, conflicts', value: `${await bench.newQrs()}, ${conflicts}`, target: '0, 0' },
      ],
    };
  } finally {
    bench?.stop();
    await fleet.stack.stop();
  }
}

class RecoveryBench {
  folder = mkdtempSync(join(tmpdir(), 'flotilla-bench-'));
  qrsBefore = 0;
  bareMs = 0;

  /**
   * @param {import('./fleet.mjs').Fleet} fleet
   * @param {number} rounds
   * @param {(text: string) => void} log
   */
  static async prepare(fleet, rounds, log) {
    const config = await configOf(fleet.stack);
    const launch = launchOptions(config.sessions.chromiumPath ?? '', '', { kind: 'live', proxyPort: null });
    // The clients are linked once and closed: later they start from a profile on the disk, as our sessions do.
    const bare = await startBareClients({
      sandboxUrl: fleet.stack.urls.sandbox,
      count: accountCount,
      puppeteer: launch,
    });
    await Promise.all(bare.clients.map((client) => client.destroy()));
    const bench = new RecoveryBench(fleet, rounds, log, { config, launch, bare });
    bench.qrsBefore = await bench.qrs();
    return bench;
  }

  /**
   * @param {import('./fleet.mjs').Fleet} fleet
   * @param {number} rounds
   * @param {(text: string) => void} log
   * @param {object} prepared
   * @param {import('#dist/src/platform/config/config.js').Config} prepared.config
   * @param {import('puppeteer').LaunchOptions} prepared.launch
   * @param {BareClients} prepared.bare
   */
  constructor(fleet, rounds, log, { config, launch, bare }) {
    this.fleet = fleet;
    this.rounds = rounds;
    this.log = log;
    this.config = config;
    this.launch = launch;
    this.bare = bare;
  }

  stop() {
    // The clients are closed. Only their folder is left.
    rmSync(this.bare.folder, { recursive: true, force: true, maxRetries: 5 });
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }

  /** The time from `connect` to a QR code over REST, against the library's. */
  async firstQr() {
    /** @type {number[]} */
    const ours = [];
    /** @type {number[]} */
    const bare = [];
    // The first rounds do not count: both sides are slower while code is being compiled.
    for (let round = 0; round < warmUps; round += 1) {
      await this.bareQr(`warm-up-${round}`);
      await this.ourQr();
    }
    for (let round = 0; round < this.rounds + 2; round += 1) {
      const bareQrMs = await this.bareQr(round);
      const ourQrMs = await this.ourQr();
      bare.push(bareQrMs);
      ours.push(ourQrMs);
      this.log(`first QR: bare ${bareQrMs.toFixed(0)} ms, ours ${ourQrMs.toFixed(0)} ms`);
    }
    this.qrsBefore = await this.qrs();
    return { ours: median(ours), bare: median(bare) };
  }

  /** @param {number | string} number */
  async bareQr(number) {
    const client = new whatsapp.Client(await this.bareOptions(join(this.folder, `qr-${number}`)));
    const started = performance.now();
    /** @type {Promise<number>} */
    const shown = new Promise((resolve) => client.once('qr', () => resolve(performance.now() - started)));
    await Promise.all([client.initialize(), shown]);
    await client.destroy();
    return shown;
  }

  async ourQr() {
    const { api, key } = this.fleet;
    /** @type {{ body: Account }} */
    const { body: account } = await call(
      'POST',
      `${api}/accounts`,
      { name: 'qr', environment: 'sandbox' },
      key,
    );
    const started = performance.now();
    await call('POST', `${api}/accounts/${account.id}/connect`, {}, key);
    await eventually('a QR code', async () => (await this.get(`/accounts/${account.id}/qr`)).status === 200);
    const took = performance.now() - started;
    await call('POST', `${api}/accounts/${account.id}/disconnect`, {}, key);
    await call('DELETE', `${api}/accounts/${account.id}`, undefined, key);
    return took;
  }

  /** How long a program of the bare library needs to start as many linked sessions as an instance, in parallel. */
  async bareStart() {
    const options = await Promise.all(
      this.bare.clients.map((_client, number) => this.bareOptions(join(this.bare.folder, String(number)))),
    );
    const started = performance.now();
    const program = spawn(
      process.execPath,
      [join(import.meta.dirname, 'bare-program.mjs'), JSON.stringify(options)],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    await Promise.race([
      once(program.stdout, 'data'),
      once(program, 'exit').then(() => Promise.reject(new Error('the bare program ended'))),
    ]);
    const took = performance.now() - started;
    // Killed like our instance, so that its next start finds the same leftovers.
    program.kill('SIGKILL');
    await eventually('the end of its browsers', () => browsersIn(this.bare.folder).length === 0);
    return took;
  }

  /** Kills an instance, which supervisord starts again. */
  async killedInstance() {
    /** @type {number[]} */
    const bare = [];
    /** @type {number[]} */
    const running = [];
    /** @type {number[]} */
    const ready = [];
    let accounts = 0;
    for (let round = 0; round < this.rounds; round += 1) {
      const bareMs = await this.bareStart();
      bare.push(bareMs);
      const ids = await this.accountsOn(0);
      accounts = ids.length;
      const program = 'flotilla:instance_00';
      const since = Date.now();
      const pid = await this.fleet.stack.kill(program);
      const [{ afterMs }, readyMs] = await Promise.all([
        this.fleet.stack.waitUntilRunning(program, { notPid: pid }),
        this.untilReadyAgain(ids, since),
      ]);
      running.push(afterMs);
      ready.push(readyMs);
      this.log(
        `killed: bare ${bareMs.toFixed(0)} ms, RUNNING ${afterMs.toFixed(0)} ms, ready ${readyMs.toFixed(0)} ms`,
      );
    }
    this.bareMs = median(bare);
    return { accounts, bare: this.bareMs, running: median(running), ready: median(ready) };
  }

  /** Kills an instance that is not started again, so that others take its accounts. */
  async deadInstance() {
    const { stack } = this.fleet;
    const ids = await this.accountsOn(0);
    const supervisord = this.supervisordPid;
    const instance = (await stack.status()).get('flotilla:instance_00')?.pid;
    if (!instance) throw new Error('the instance does not run');
    const since = Date.now();
    // A stopped supervisord does not start the instance again.
    process.kill(supervisord, 'SIGSTOP');
    try {
      process.kill(instance, 'SIGKILL');
      const ready = await this.untilReadyAgain(ids, since);
      this.log(`stays dead: ready elsewhere after ${ready.toFixed(0)} ms`);
      const { leaseMs, takeoverMarginMs } = this.config.instance;
      return { ready, limit: leaseMs + takeoverMarginMs + 1.5 * this.bareMs };
    } finally {
      process.kill(supervisord, 'SIGCONT');
    }
  }

  /** Kills supervisord and all processes below it, and starts the system again. */
  async machine() {
    const { stack } = this.fleet;
    await stack.waitUntilRunning('flotilla:instance_01');
    const ids = this.fleet.accounts.map(({ id }) => id);
    const pids = [this.supervisordPid, ...descendantsOf(this.supervisordPid)];
    for (const pid of pids.filter(isAlive)) process.kill(pid, 'SIGKILL');
    await eventually('the end of all processes', () => !pids.some(isAlive));
    const since = Date.now();
    await stack.start();
    const running = Date.now() - since;
    const ready = await this.untilReadyAgain(ids, since);
    this.log(`machine: everything answers after ${running} ms, all ready after ${ready.toFixed(0)} ms`);
    return { running, ready };
  }

  /** @param {string[]} ids @param {number} since @returns milliseconds until all of them were connected after `since` */
  async untilReadyAgain(ids, since) {
    const isBack = (/** @type {Account} */ { status, lastConnectedAt }) =>
      status === 'ready' && lastConnectedAt !== null && Date.parse(lastConnectedAt) > since;
    // Frequent questions would slow down what they measure.
    await eventually(
      'ready again',
      async () => {
        const accounts = await this.accounts().catch(() => null);
        return accounts?.filter(({ id }) => ids.includes(id)).every(isBack);
      },
      120_000,
      100,
    );
    return Date.now() - since;
  }

  /** The accounts of an instance, when all are ready. @param {number} number @returns {Promise<string[]>} their ids */
  async accountsOn(number) {
    await eventually(
      'all ready',
      async () => (await this.accounts()).filter(({ status }) => status === 'ready').length === accountCount,
    );
    return (await this.accounts())
      .filter(({ instanceId }) => instanceId?.endsWith(`instance_0${number}`))
      .map(({ id }) => id);
  }

  /** How many QR codes the linked accounts have shown since they were linked. */
  async newQrs() {
    return (await this.qrs()) - this.qrsBefore;
  }

  async qrs() {
    const logs = await Promise.all(
      this.fleet.accounts.map(async ({ id }) => {
        /** @type {{ body: { items: { type: string }[] } }} */
        const { body } = await this.get(`/accounts/${id}/events?limit=200`);
        return body.items;
      }),
    );
    return logs.flat().filter(({ type }) => type === 'account.qr').length;
  }

  async accounts() {
    /** @type {{ status: number, body: { items: Account[] } }} */
    const { status, body } = await this.get('/accounts?limit=200');
    if (status !== 200) throw new Error(`GET /accounts answered ${status}`);
    return body.items;
  }

  get supervisordPid() {
    const { supervisordPid } = this.fleet.stack;
    if (supervisordPid === undefined) throw new Error('supervisord does not run');
    return supervisordPid;
  }

  /**
   * @template [Body=unknown]
   * @param {string} path
   * @returns {Promise<{ status: number, body: Body }>}
   */
  get(path) {
    return call('GET', `${this.fleet.api}${path}`, undefined, this.fleet.key);
  }

  /** @param {string} profile */
  bareOptions(profile) {
    return bareOptions({ sandboxUrl: this.fleet.stack.urls.sandbox, profile, puppeteer: this.launch });
  }
}
