/**
 * Everything dies: kill -9 and SIGSTOP of every program and of single browsers, Redis killed and wiped, PostgreSQL shut down
 * at once, supervisord killed, and a WhatsApp that cuts, refuses and forgets to acknowledge, under messages of all four
 * priorities. When all is well again every message must have its end, and the ledger of the sandbox says whether it is true.
 */
import { randomInt } from 'node:crypto';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { query } from '../setup/connections.mjs';
import { PROJECT } from '../setup/settings.mjs';
import { ChaosFaults } from './chaos-faults.mjs';
import { judge } from './chaos-judge.mjs';
import { ChaosLoad } from './chaos-load.mjs';
import { faultsOf } from './chaos-plan.mjs';
import { call, eventually, startFleet } from './fleet.mjs';

const accountCount = 4;
/** Short, so that many faults fit into the time; their proportions are those of the defaults. */
const settings = {
  SERVER_ID: 'chaos',
  INSTANCE_LEASE_MS: '5000',
  INSTANCE_RENEW_MS: '800',
  INSTANCE_STOP_MARGIN_MS: '2000',
  INSTANCE_TAKEOVER_MARGIN_MS: '1500',
  INSTANCE_RESTART_GRACE_MS: '5000',
  ACK_TIMEOUT_MS: '3000',
};
const recoveryMs = 180_000;
/** How much longer a message that nobody can tell of is waited for: its ack may still come. */
const unknownMs = 20_000;
const progressMs = 10_000;
const wantedKillsPerMinute = 10;

/** @param {{ minutes: number, seed: number, log: (text: string) => void }} options */
export async function run({ minutes, seed, log }) {
  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort();
  process.once('SIGTERM', interrupt).once('SIGINT', interrupt);
  try {
    const result = await chaos({ minutes, seed: seed || undefined, log, signal: interrupted.signal });
    const rows = rowsOf(result);
    return { ...result, rows, missed: rows.filter(({ isMissed }) => isMissed).map(({ what }) => what) };
  } finally {
    process.off('SIGTERM', interrupt).off('SIGINT', interrupt);
  }
}

/**
 * Runs chaos on a system of its own, and says what became of the messages.
 * @param {object} options
 * @param {number} options.minutes how long faults are injected; the recovery comes on top
 * @param {number} [options.seed] of an earlier run, to see its faults again
 * @param {(text: string) => void} [options.log]
 * @param {AbortSignal} [options.signal] ends the run early, with an error
 */
export async function chaos({ minutes, seed = randomInt(1, 1_000_000), log = () => undefined, signal }) {
  log(`seed ${seed}, ${minutes} min`);
  const fleet = await startFleet({ accounts: accountCount, instances: 2, workers: 2, env: settings });
  const { phone } = (await call('POST', `${fleet.stack.urls.sandbox}/phones`, {})).body;
  const run = new ChaosRun(fleet, phone, log);
  try {
    const qrsBefore = await run.qrs();
    run.load.start();
    const started = performance.now();
    await run.breakThings(seed, minutes, signal);
    const injectedFor = (performance.now() - started) / 60_000;
    const recoveredMs = await run.recover(signal);
    const verdict = judge({
      accepted: run.load.accepted,
      rows: await run.rows(),
      ledger: await run.ledger(),
      phones: run.faults.phones,
    });
    const { offences, ...counted } = verdict;
    const result = {
      seed,
      minutes: injectedFor,
      kills: run.faults.kills,
      injected: run.faults.injected,
      skipped: run.faults.skipped,
      recoverySeconds: recoveredMs / 1000,
      ...counted,
      ...(await run.faults.readCounters()),
      qrs: (await run.qrs()) - qrsBefore,
    };
    const evidence = isClean(result)
      ? undefined
      : run.keepEvidence(seed, { result, offences, faults: run.faults.history });
    return { ...result, evidence };
  } catch (error) {
    if (!signal?.aborted) run.keepEvidence(seed, { error: String(error), faults: run.faults.history });
    throw error;
  } finally {
    run.load.stop();
    await run.faults.heal().catch((error) => log(`not healed: ${error}`));
    await fleet.stack.stop();
  }
}

class ChaosRun {
  /** @param {Awaited<ReturnType<typeof startFleet>>} fleet @param {string} phone @param {(text: string) => void} log */
  constructor(fleet, phone, log) {
    this.fleet = fleet;
    this.log = log;
    this.load = new ChaosLoad(fleet, phone);
    this.faults = new ChaosFaults(
      fleet.stack,
      fleet.accounts.map(({ phoneNumber }) => phoneNumber),
    );
  }

  /** One fault after the other; hangs and faults of the sandbox last while the next ones come. */
  async breakThings(seed, minutes, signal) {
    const until = performance.now() + minutes * 60_000;
    const progress = setInterval(() => void this.#tellProgress(until - performance.now()), progressMs);
    try {
      for (const fault of faultsOf(seed)) {
        signal?.throwIfAborted();
        if (this.load.failure) throw this.load.failure;
        if (performance.now() > until) return;
        await this.faults.inject(fault);
        await delay(fault.pauseMs, undefined, { signal });
      }
    } finally {
      clearInterval(progress);
    }
  }

  /** Heals everything, and waits until every message has its end. @returns how long that took */
  async recover(signal) {
    const started = performance.now();
    await this.faults.heal();
    await this.load.finish();
    const count = async (/** @type {string[]} */ statuses) => {
      signal?.throwIfAborted();
      const rows = await this.#query(
        `select count(*)::int as count from messages where direction = 'outgoing' and status in ('${statuses.join("', '")}')`,
      ).catch(() => null);
      return rows?.[0].count;
    };
    let left = -1;
    await eventually(
      'an end of every message',
      async () => (left = await count(['scheduled', 'queued', 'sending'])) === 0,
      recoveryMs,
      250,
    ).catch(() => this.log(`${left} messages have no end after ${recoveryMs} ms`));
    const took = performance.now() - started;
    await eventually('nothing unknown', async () => (await count(['unknown'])) === 0, unknownMs, 250).catch(
      () => this.log('some messages stay unknown'),
    );
    this.log(`everything has its end ${(took / 1000).toFixed(1)} s after the last fault`);
    return took;
  }

  /** Our table, in the end. @returns {Promise<import('./chaos-judge.mjs').Row[]>} */
  rows() {
    return /** @type {any} */ (
      this.#query(
        `select id, text, status, error_code as error, error_message as "errorMessage", attempts, claimed_by as "claimedBy",
           seq::int, account_id as "accountId", whatsapp_id as "whatsappId", created_at as "createdAt", sent_at as "sentAt",
           failed_at as "failedAt", next_attempt_at as "nextAttemptAt"
         from messages where direction = 'outgoing' order by seq`,
      )
    );
  }

  /** What the sandbox accepted. @returns {Promise<import('./chaos-judge.mjs').Line[]>} */
  async ledger() {
    const response = await fetch(`${this.fleet.stack.urls.sandbox}/ledger`);
    const lines = (await response.text()).split('\n').filter(Boolean);
    return lines.map((line) => JSON.parse(line));
  }

  /** How many QR codes have been shown so far. */
  async qrs() {
    const [row] = await this.#query(
      "select count(*)::int as count from connection_logs where event_type = 'qr_generated'",
    );
    return row.count;
  }

  /** Keeps the logs and what is wrong, since the system goes away. @returns where */
  keepEvidence(seed, facts) {
    const folder = join(
      PROJECT,
      'var/chaos',
      `${new Date().toISOString().replaceAll(/[:.]/g, '-')}-seed-${seed}`,
    );
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'offences.json'), `${JSON.stringify(facts, null, 2)}\n`);
    cpSync(join(this.fleet.stack.varDir, 'log'), join(folder, 'log'), { recursive: true });
    cpSync(join(this.fleet.stack.varDir, 'sandbox/ledger.ndjson'), join(folder, 'ledger.ndjson'));
    this.log(`what went wrong, the ledger and the logs are in ${folder}`);
    return folder;
  }

  async #tellProgress(leftMs) {
    const [row] = await this.#query(
      "select count(*)::int as backlog from messages where stage in ('queued', 'sending')",
    ).catch(() => [{ backlog: '?' }]);
    const others =
      Object.values(this.faults.injected).reduce((sum, count) => sum + count, 0) - this.faults.kills;
    this.log(
      `${(leftMs / 60_000).toFixed(1)} min left: ${this.faults.kills} kills, ${others} other faults, ${this.load.accepted.size} messages accepted, ${row.backlog} waiting`,
    );
  }

  /** @param {string} sql @returns {Promise<any[]>} */
  #query(sql) {
    return query(this.fleet.stack.env.DATABASE_URL, [sql]);
  }
}

/** @param {Awaited<ReturnType<typeof chaos>>} result */
function rowsOf(result) {
  const { accepted, ends, lost, doubled, maxInFlight, disorder, unknown, conflicts, qrs } = result;
  const ended = Object.values(ends).reduce((sum, count) => sum + count, 0);
  const perMinute = result.kills / result.minutes;
  return [
    { what: 'seed', value: String(result.seed) },
    {
      what: 'kills',
      value: `${result.kills} in ${result.minutes.toFixed(1)} min, ${perMinute.toFixed(1)} a minute`,
      target: `>= ${wantedKillsPerMinute} a minute`,
      isMissed: perMinute < wantedKillsPerMinute,
    },
    {
      what: 'faults',
      value: Object.entries(result.injected)
        .sort()
        .map(([name, count]) => `${count} ${name}`)
        .join('\n'),
    },
    {
      what: 'lost, doubled at the recipient, two in flight per account, out of order',
      value: [lost, doubled, Math.max(0, maxInFlight - 1), disorder].join(', '),
      target: '0, 0, 0, 0',
      isMissed: lost + doubled + disorder > 0 || maxInFlight > 1,
    },
    { what: 'unknown left', value: String(unknown), target: '0', isMissed: unknown > 0 },
    {
      what: 'accepted = sent + failed + cancelled + expired + unknown',
      value: `${accepted} = ${Object.values(ends).join(' + ')}`,
      target: 'exactly',
      isMissed: accepted !== ended || result.unasked > 0,
    },
    {
      what: "said not to be sent but received; failed without a refusal; sent from another's number",
      value: `${result.denied}, ${result.failed}, ${result.misdirected}`,
      target: '0, 0, 0',
      isMissed: result.denied + result.failed + result.misdirected > 0,
    },
    {
      what: 'conflicts, new QR codes',
      value: `${conflicts}, ${qrs}`,
      target: '0, 0',
      isMissed: conflicts + qrs > 0,
    },
    { what: 'sent again under their id, dropped by the recipient', value: String(result.sentAgain) },
    {
      what: 'every message has its end after the last fault',
      value: `${result.recoverySeconds.toFixed(1)} s`,
    },
  ];
}

/** @param {Parameters<typeof rowsOf>[0]} result */
function isClean(result) {
  return !rowsOf(result).some(({ what, isMissed }) => isMissed && what !== 'kills');
}
