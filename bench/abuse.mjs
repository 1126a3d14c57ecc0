/**
 * One workspace attacks in every way that the threat model names (docs/security.md), and another one works normally. Both use
 * two API processes. The table says what the victim saw before and during each attack, and what it cost the API.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { memoryOf } from '../setup/processes.mjs';
import { createStack } from '../setup/stack.mjs';
import { attacks } from './abuse-attacks.mjs';
import {
  allowedBy,
  breachesOf,
  maxGapMs,
  maxGrowthBytes,
  maxKeptBytes,
  maxRatio,
  harmOf,
  megabytes,
  viewOf,
} from './abuse-judge.mjs';
import { startPart } from './abuse-part.mjs';
import { call, eventually } from './fleet.mjs';

/** @typedef {import('./abuse-attacks.mjs').Scale} Scale */
/** @typedef {import('./abuse-attacks.mjs').Outcome} Outcome */
/** @typedef {import('./abuse-judge.mjs').View} View */
/** @typedef {import('./abuse-judge.mjs').Cost} Cost */
/** @typedef {import('../setup/stack.mjs').Stack} Stack */

/**
 * @typedef {object} AttackResult
 * @property {string} name
 * @property {string} what
 * @property {boolean} countsOnly only the outcome has a target
 * @property {View} before
 * @property {View} during
 * @property {Cost} cost
 * @property {Outcome} outcome
 * @property {string[]} misses
 */

/**
 * @typedef {object} Options
 * @property {number} seconds how long each attack goes on
 * @property {number} beforeSeconds how long the victim is measured before each attack
 * @property {number} calmSeconds how long to wait for a quiet second before that
 * @property {number} recoverySeconds how long the API's memory may take to be back
 * @property {number} everyMs the time between two requests of the victim
 * @property {number} requestsPerMinute the limit of a workspace
 * @property {Scale} scale
 */

/** What `npm run abuse` plays. @type {Options} */
export const full = {
  seconds: 20,
  beforeSeconds: 10,
  calmSeconds: 60,
  recoverySeconds: 60,
  everyMs: 10,
  requestsPerMinute: 9_000,
  scale: {
    texts: 400,
    // The largest picture that is allowed.
    pictureSide: 8_000,
    streams: 1_000,
    lists: 200,
    downloads: 200,
    waits: 2_000,
    halves: 1_000,
    keys: 50,
    connects: 20,
    slow: 64,
  },
};

/** The only addresses of this machine that tenants may call: the endpoints of the victim, and of the hostile workspace. */
const allowedAddresses = '127.77.0.0/16';
const victimHost = '127.77.0.1';
const slowHost = '127.77.0.2';
const sampleMs = 200;
const unlimited = { maxAccounts: null, messagesPerMinute: null, maxStorageBytes: null };

/**
 * @param {object} options
 * @param {number} options.seconds how long each attack goes on; 0: as long as by default
 * @param {string} options.only the names of attacks, separated by commas; empty: all
 * @param {(text: string) => void} options.log
 */
export async function run({ seconds, only, log }) {
  const names = only ? only.split(',') : Object.keys(attacks);
  const unknown = names.filter((name) => !(name in attacks));
  if (unknown.length > 0)
    throw new Error(
      `There is no attack ${unknown.join(', ')}. There are: ${Object.keys(attacks).join(', ')}.`,
    );
  const system = await AbuseSystem.start({ ...full, ...(seconds > 0 ? { seconds } : {}) });
  /** @type {AttackResult[]} */
  const results = [];
  try {
    for (const name of names) {
      const result = await system.play(name);
      log(`${name}: ${result.misses.join('; ') || 'it hurts nobody'}`);
      results.push(result);
    }
  } finally {
    await system.stop();
  }
  return {
    attacks: results,
    rows: results.map(rowOf),
    missed: results.flatMap(({ name, misses }) => misses.map((miss) => `${name}: ${miss}`)),
  };
}

/** @typedef {{ id: string, key: string, accountId: string }} Tenant */

/** Two API processes with the rest of a system, and a victim that works on it. */
export class AbuseSystem {
  /** @type {Stack[]} */
  stacks = [];
  /** @type {import('./abuse-part.mjs').Part[]} */
  parts = [];
  /** The victim's linked account. @type {{ id: string, phone: string } | undefined} */
  linked;

  /** @param {Options} options */
  constructor(options) {
    this.options = options;
  }

  /** @param {Options} options */
  static async start(options) {
    const system = new AbuseSystem(options);
    try {
      await system.#start();
      return system;
    } catch (error) {
      await system.stop();
      throw error;
    }
  }

  async #start() {
    const { requestsPerMinute, everyMs } = this.options;
    const env = {
      ALLOW_PRIVATE_ADDRESSES: allowedAddresses,
      RATE_LIMIT_PER_IP: '60',
      // Each start with a dead proxy takes this long, whatever is wrong with the proxy.
      PROXY_TIMEOUT_MS: '3000',
      RATE_LIMIT_PER_KEY: String(requestsPerMinute),
      RATE_LIMIT_PER_WORKSPACE: String(requestsPerMinute),
    };
    const first = await createStack({ instances: 1, workers: 1, env: { ...env, SERVER_ID: 'abuse-1' } });
    this.stacks.push(first);
    await first.start();
    const shared = [
      'DATABASE_URL',
      'REDIS_URL',
      'ADMIN_API_KEY',
      'INTERNAL_API_KEY',
      'APP_KEY',
      'SANDBOX_PORT',
      'SANDBOX_CONTROL_PORT',
    ];
    const second = await createStack({
      programs: ['api'],
      env: {
        ...env,
        SERVER_ID: 'abuse-2',
        MEDIA_PATH: `${first.varDir}/media`,
        ...Object.fromEntries(shared.map((name) => [name, first.env[name] ?? ''])),
      },
    });
    this.stacks.push(second);
    await second.start();
    this.victim = await this.newTenant('victim');
    this.victimPart = this.#part('abuse-victim.mjs');
    await this.victimPart.ask('start', {
      origins: this.origins,
      key: this.victim.key,
      accountId: this.victim.accountId,
      host: victimHost,
      everyMs,
    });
  }

  /** The URLs of the API processes. */
  get origins() {
    return this.stacks.map(({ urls }) => urls.api);
  }

  /** Plays an attack of a new workspace. @param {string} name @returns {Promise<AttackResult>} */
  async play(name) {
    const { seconds, beforeSeconds, scale } = this.options;
    const { victimPart, victim } = this;
    if (!victimPart || !victim) throw new Error('the system does not run');
    const tenant = await this.newTenant(`hostile ${name}`);
    const context = {
      origins: this.origins,
      seconds,
      scale,
      slowHost,
      hostile: { accountId: tenant.accountId, keys: await this.keysOf(tenant) },
      victim: {
        phone: name === 'foreign-things' ? await this.linkedPhone(victim) : null,
        things: await this.thingsOf(victim),
      },
    };
    const attacker = this.#part('abuse-attacker.mjs');
    try {
      await attacker.ask('prepare', { name, context });
      await this.#calm(victimPart);
      await this.#loopDelay();
      const pids = await this.#pids();
      const memoryBefore = pids.map(memoryOf);
      const grown = () => Math.max(...pids.map((pid, index) => memoryOf(pid) - (memoryBefore[index] ?? 0)));
      /** @type {number} */
      let from = await victimPart.ask('begin');
      await delay(beforeSeconds * 1_000);
      const before = viewOf(await victimPart.ask('end', from));

      let grownBytes = 0;
      const watch = setInterval(() => (grownBytes = Math.max(grownBytes, grown())), sampleMs);
      from = await victimPart.ask('begin');
      /** @type {Outcome} */
      const outcome = await attacker.ask('run', { name, context });
      await attacker.stop();
      const during = viewOf(await victimPart.ask('end', from));
      clearInterval(watch);
      grownBytes = Math.max(grownBytes, grown());

      const backAfterMs = await this.#back(grown);
      const loopMs = await this.#loopDelay();
      const pidsAfter = await this.#pids();
      const restarts = pids.filter((pid) => !pidsAfter.includes(pid)).length;
      const cost = { grownBytes, keptBytes: Math.max(0, grown()), backAfterMs, loopMs, restarts };
      const { what = '', countsOnly = false } = attacks[name] ?? {};
      const misses = [...(countsOnly ? [] : harmOf(before, during, cost)), ...breachesOf(outcome)];
      return { name, what, countsOnly, before, during, cost, outcome, misses };
    } finally {
      await attacker.stop();
      // What is left of the attack must not touch the next one.
      await this.#admin('DELETE', `/workspaces/${tenant.id}`);
    }
  }

  /** A workspace with an account that is not connected. @param {string} name @returns {Promise<Tenant>} */
  async newTenant(name) {
    /** @type {{ id: string }} */
    const { id } = await this.#admin('POST', '/workspaces', { name });
    await this.#admin('PATCH', `/workspaces/${id}`, { limits: unlimited });
    const key = await this.#newKey(id, 'owner');
    const wanted = { name, environment: 'sandbox' };
    /** @type {{ id: string }} */
    const account = await this.#admin('POST', `/accounts?workspaceId=${id}`, wanted);
    return { id, key, accountId: account.id };
  }

  /** A key of each role. @param {Tenant} tenant */
  async keysOf({ id, key }) {
    return { owner: key, sender: await this.#newKey(id, 'sender'), viewer: await this.#newKey(id, 'viewer') };
  }

  /** @param {string} workspaceId @param {string} role */
  async #newKey(workspaceId, role) {
    const path = `/workspaces/${workspaceId}/api-keys`;
    /** @type {{ key: string }} */
    const { key } = await this.#admin('POST', path, { name: role, role });
    return key;
  }

  /** An id of a tenant for each collection of the API. @param {Tenant} tenant @returns {Promise<[path: string, id: string][]>} */
  async thingsOf({ id, accountId }) {
    const collections = ['/messages', '/webhooks', '/workspace/api-keys'];
    const found = await Promise.all(
      collections.map(async (path) => {
        /** @type {{ items: { id: string }[] }} */
        const { items } = await this.#admin('GET', `${path}?limit=1&workspaceId=${id}`);
        if (!items[0]) throw new Error(`the victim has nothing below ${path}`);
        return /** @type {[string, string]} */ ([`/api/v1${path}`, items[0].id]);
      }),
    );
    return [...found, ['/api/v1/workspaces', id], ['/api/v1/accounts', accountId]];
  }

  /** The phone of the victim: links an account at the first call. @param {Tenant} victim */
  async linkedPhone({ id: workspaceId }) {
    if (this.linked) return this.linked.phone;
    const inside = `workspaceId=${workspaceId}`;
    /** @type {{ id: string }} */
    const { id } = await this.#admin('POST', `/accounts?${inside}`, {
      name: 'linked',
      environment: 'sandbox',
    });
    await this.#admin('POST', `/accounts/${id}/connect?${inside}`, {});
    const scan = `${this.origins[0]}/api/v1/accounts/${id}/sandbox-scan?${inside}`;
    const phone = await eventually('scanned', async () => {
      /** @type {{ status: number, body: { phone: string } }} */
      const { status, body } = await call('POST', scan, {}, this.#adminKey);
      return status === 200 && body.phone;
    });
    await eventually('ready', async () => {
      /** @type {{ status: string }} */
      const account = await this.#admin('GET', `/accounts/${id}?${inside}`);
      return account.status === 'ready';
    });
    this.linked = { id, phone };
    return phone;
  }

  async stop() {
    await Promise.all(this.parts.map((part) => part.stop()));
    for (const stack of this.stacks.toReversed()) await stack.stop();
  }

  /** @param {string} file */
  #part(file) {
    const part = startPart(file);
    this.parts.push(part);
    return part;
  }

  /**
   * Waits until nothing of the last attack is left: the victim sees one quiet second. On a busy machine there may be none, and the
   * figures of before the attack say so.
   *
   * @param {import('./abuse-part.mjs').Part} victimPart
   */
  async #calm(victimPart) {
    const giveUpAt = performance.now() + this.options.calmSeconds * 1_000;
    while (performance.now() < giveUpAt) {
      /** @type {number} */
      const from = await victimPart.ask('begin');
      await delay(1_000);
      const { errors, gaps, p95 } = viewOf(await victimPart.ask('end', from));
      if (errors === 0 && gaps.length === 0 && p95 < maxGapMs) return;
    }
  }

  /** Waits until the memory is back, at most for the time that it may take. @param {() => number} grown @returns milliseconds */
  async #back(grown) {
    const started = performance.now();
    const ms = this.options.recoverySeconds * 1_000;
    while (grown() > maxKeptBytes && performance.now() - started < ms) await delay(sampleMs);
    return performance.now() - started;
  }

  async #pids() {
    const pids = this.stacks.map(async (stack) => (await stack.status()).get('flotilla:api')?.pid ?? 0);
    return Promise.all(pids);
  }

  /** The longest time that an event loop has stood still since the last call, by the metrics; null when they do not tell. */
  async #loopDelay() {
    const delays = this.origins.map(async (origin) => {
      const headers = { authorization: `Bearer ${this.#adminKey}` };
      const response = await fetch(`${origin}/metrics`, { headers, signal: AbortSignal.timeout(120_000) });
      const found = /^nodejs_eventloop_lag_max_seconds (\S+)$/m.exec(await response.text());
      return found ? Number(found[1]) * 1_000 : NaN;
    });
    const found = await Promise.all(delays.map((one) => one.catch(() => NaN)));
    const longest = Math.max(...found);
    return Number.isNaN(longest) ? null : longest;
  }

  get #adminKey() {
    return this.stacks[0]?.env.ADMIN_API_KEY ?? '';
  }

  /**
   * @template [Body=unknown]
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   * @returns {Promise<Body>}
   */
  async #admin(method, path, body) {
    const url = `${this.origins[0]}/api/v1${path}`;
    // Minutes pass between two calls: a connection that is kept may be closed by the API at that very moment.
    /** @type {Promise<{ status: number, body: Body }>} */
    const answered = call(method, url, body, this.#adminKey, { connection: 'close' }, 60_000);
    const answer = await answered.catch((/** @type {unknown} */ error) => {
      throw new Error(`${method} ${path} has no answer`, { cause: error });
    });
    if (answer.status >= 400) throw new Error(`${method} ${path}: ${JSON.stringify(answer.body)}`);
    return answer.body;
  }
}

/** @param {AttackResult} result @returns {import('./fleet.mjs').Row} */
function rowOf({ name, what, countsOnly, before, during, cost, outcome, misses }) {
  const { counts = {}, seen = {}, answers } = outcome;
  const ms = (/** @type {number} */ value) => value.toFixed(value < 100 ? 1 : 0);
  const { accepted } = counts;
  return {
    what: wrapped(`${name}: ${what}`),
    value: [
      `p50 ${ms(before.p50)} → ${ms(during.p50)} ms, p95 ${ms(before.p95)} → ${ms(during.p95)} ms, max ${ms(before.max)} → ${ms(during.max)} ms`,
      `gaps ${during.gaps.length} (${before.gaps.length} before), errors ${during.errors} of ${during.requests} requests`,
      `events p95 ${ms(before.eventP95)} → ${ms(during.eventP95)} ms, webhook p95 ${ms(before.webhookP95)} → ${ms(during.webhookP95)} ms`,
      `memory +${megabytes(cost.grownBytes)}, +${megabytes(cost.keptBytes)} ${(cost.backAfterMs / 1000).toFixed(0)} s later`,
      `event loop stood still for ${cost.loopMs === null ? '?' : ms(cost.loopMs)} ms at most; the victim's own ${ms(during.ownDelay)} ms`,
      `answers ${listed(answers)}`,
      ...(accepted === undefined
        ? []
        : [`accepted ${accepted}, limit ${counts.limit}, allowed ${Math.round(allowedBy(counts))}`]),
      ...(Object.keys(counts).length > 0 ? [listed(counts)] : []),
      ...Object.entries(seen).map(([kind, all]) => wrapped(`${kind}: ${all.join(', ')}`)),
      ...misses.map((miss) => wrapped(`MISSED ${miss}`)),
    ].join('\n'),
    target: targetOf(countsOnly, counts),
  };
}

/** @param {boolean} countsOnly @param {Record<string, number>} counts */
function targetOf(countsOnly, counts) {
  return [
    ...(countsOnly
      ? []
      : [
          `p95 ≤ ${maxRatio} × before`,
          `no gap > ${maxGapMs} ms, 0 errors`,
          `≤ +${megabytes(maxGrowthBytes)}, back in 60 s`,
        ]),
    ...('accepted' in counts ? ["the workspace's limit"] : []),
    ...('arrived' in counts ? ['0 connections, one error'] : []),
    ...('foreign' in counts ? ['nothing allowed'] : []),
  ].join('\n');
}

/** @param {Record<string, number>} counted */
const listed = (counted) =>
  Object.entries(counted)
    .map(([name, value]) => `${name} × ${Math.round(value)}`)
    .join(', ') || 'none';

/** Breaks a long line for the table. @param {string} line */
const wrapped = (line) => line.replace(/(.{1,70})(\s+|$)/g, '$1\n').trimEnd();
