/**
 * Chaos under traffic of all four priorities: kill -9 and SIGSTOP of every program and of single browsers, Redis killed and
 * wiped, PostgreSQL shut down at once, supervisord killed, and a WhatsApp that cuts connections, refuses messages and loses
 * acks. After the recovery every message must have its end, and the ledger of the sandbox must agree.
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
import { sum } from './figures.mjs';
import { eventually, newPhone, readLedger, startFleet } from './fleet.mjs';

const accountCount = 4;
/** Shorter than the defaults, with the same proportions, so that many faults fit into the time. */
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
/** How much longer to wait for unknown messages: their acks may still come. */
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
 * @typedef {object} ChaosResult
 * @property {number} seed
 * @property {number} minutes
 * @property {number} kills
 * @property {Record<string, number>} injected how often each fault happened, for example `kill worker`
 * @property {number} skipped faults without a victim
 * @property {number} conflicts
 * @property {number} maxInFlight the most messages of one account that were being sent at once
 * @property {number} qrs new QR codes
 * @property {number} recoverySeconds
 * @property {string} [evidence] the folder with the offences, when there are any
 */

/**
 * Runs chaos on a new system and judges its messages.
 *
 * @param {object} options
 * @param {number} options.minutes how long faults are injected; the recovery comes after that
 * @param {number} [options.seed] the seed of an earlier run repeats its faults; a random seed by default
 * @param {(text: string) => void} [options.log]
 * @param {AbortSignal} [options.signal] ends the run early, with an error
 * @returns {Promise<ChaosResult & import('./chaos-judge.mjs').Verdict>}
 */
export async function chaos({ minutes, seed = randomInt(1, 1_000_000), log = () => undefined, signal }) {
  log(`seed ${seed}, ${minutes} min`);
  const fleet = await startFleet({ accounts: accountCount, instances: 2, workers: 2, env: settings });
  const run = new ChaosRun(fleet, await newPhone(fleet.stack.urls.sandbox), log);
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
    await run.faults.heal().catch((/** @type {unknown} */ error) => log(`not healed: ${String(error)}`));
    await fleet.stack.stop();
  }
}

class ChaosRun {
  /** @param {import('./fleet.mjs').Fleet} fleet @param {string} phone @param {(text: string) => void} log */
  constructor(fleet, phone, log) {
    this.fleet = fleet;
    this.log = log;
    this.load = new ChaosLoad(fleet, phone);
    this.faults = new ChaosFaults(
      fleet.stack,
      fleet.accounts.map(({ phoneNumber }) => phoneNumber ?? ''),
    );
  }

  /**
   * Injects the faults one after the other. Hangs and faults of the sandbox go on while the next faults come.
   *
   * @param {number} seed
   * @param {number} minutes
   * @param {AbortSignal | undefined} signal
   */
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

  /**
   * Heals everything, and waits until every message has its end.
   *
   * @param {AbortSignal | undefined} signal
   * @returns the duration in milliseconds
   */
  async recover(signal) {
    const started = performance.now();
    await this.faults.heal();
    await this.load.finish();
    const count = async (/** @type {string[]} */ statuses) => {
      signal?.throwIfAborted();
      return this.#count(
        `select count(*)::int as count from messages where direction = 'outgoing' and status in ('${statuses.join("', '")}')`,
      ).catch(() => NaN);
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

  /** Our table at the end. @returns {Promise<import('./chaos-judge.mjs').Row[]>} */
  rows() {
    return query(this.#databaseUrl, [
      `select id, text, status, error_code as error, error_message as "errorMessage", attempts, claimed_by as "claimedBy",
         seq::int, account_id as "accountId", whatsapp_id as "whatsappId", created_at as "createdAt", sent_at as "sentAt",
         failed_at as "failedAt", next_attempt_at as "nextAttemptAt"
       from messages where direction = 'outgoing' order by seq`,
    ]);
  }

  ledger() {
    return readLedger(this.fleet.stack.urls.sandbox);
  }

  /** How many QR codes have been shown so far. */
  qrs() {
    return this.#count(
      "select count(*)::int as count from connection_logs where event_type = 'qr_generated'",
    );
  }

  /**
   * Keeps the logs and the offences, because the system is removed.
   *
   * @param {number} seed
   * @param {object} facts
   * @returns the folder
   */
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
    this.log(`the offences, the ledger and the logs are in ${folder}`);
    return folder;
  }

  /** @param {number} leftMs */
  async #tellProgress(leftMs) {
    const backlog = await this.#count(
      "select count(*)::int as count from messages where stage in ('queued', 'sending')",
    ).catch(() => '?');
    const others = sum(Object.values(this.faults.injected)) - this.faults.kills;
    this.log(
      `${(leftMs / 60_000).toFixed(1)} min left: ${this.faults.kills} kills, ${others} other faults, ${this.load.accepted.size} messages accepted, ${backlog} waiting`,
    );
  }

  /** @param {string} sql */
  async #count(sql) {
    /** @type {{ count: number }[]} */
    const [row] = await query(this.#databaseUrl, [sql]);
    return row?.count ?? NaN;
  }

  get #databaseUrl() {
    return this.fleet.stack.env.DATABASE_URL;
  }
}

/** @param {Awaited<ReturnType<typeof chaos>>} result */
function rowsOf(result) {
  const { accepted, ends, lost, doubled, maxInFlight, disorder, unknown, conflicts, qrs } = result;
  const ended = sum(Object.values(ends));
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
      what: 'reported as not sent but received, failed without a refusal, sent from the number of another account',
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
