/** Injects the faults of a chaos plan into one stack and heals them. Signals only processes of that stack. */
import { Redis } from 'ioredis';
import { processStart, signal, waitFor } from '../setup/processes.mjs';
import { sandboxFaults } from './chaos-plan.mjs';
import { browsersBelow, call, eventually, sandboxStats } from './fleet.mjs';

/** How long to look for a victim: everything may be down at the moment. */
const findMs = 5_000;
const answerMs = 5_000;
const startsOfTheStack = 3;

/** supervisord's names of the programs. @type {Map<string, RegExp>} */
const programs = new Map(
  Object.entries({
    worker: /^flotilla:worker_\d+$/,
    instance: /^flotilla:instance_\d+$/,
    scheduler: /^flotilla:scheduler$/,
    api: /^flotilla:api$/,
    redis: /^flotilla-data:redis$/,
    postgres: /^flotilla-data:postgres$/,
  }),
);

export class ChaosFaults {
  /** How often each fault has happened, for example `kill worker`. @type {Record<string, number>} */
  injected = {};
  /** What happened and when: together with the logs it explains the offences. @type {object[]} */
  history = [];
  /** Faults without a victim. */
  skipped = 0;
  conflicts = 0;
  maxInFlight = 0;
  /** The end of each hang and of each faulty account. @type {Map<string, { timer: NodeJS.Timeout, end: () => unknown }>} */
  #passing = new Map();

  /**
   * @param {import('./fleet.mjs').Stack} stack
   * @param {string[]} phones the numbers of the accounts
   */
  constructor(stack, phones) {
    this.stack = stack;
    this.phones = phones;
  }

  get kills() {
    return Object.entries(this.injected).reduce(
      (sum, [name, count]) => sum + (/^(kill|supervisord)/.test(name) ? count : 0),
      0,
    );
  }

  /** @param {import('./chaos-plan.mjs').Fault} fault */
  async inject(fault) {
    const at = new Date().toISOString();
    const victim = await this.#inject(fault);
    this.history.push({ at, ...fault, victim });
    if (victim === undefined) {
      this.skipped += 1;
      return;
    }
    const name = fault.kind === 'supervisord' ? 'supervisord' : `${fault.kind} ${fault.what}`;
    this.injected[name] = (this.injected[name] ?? 0) + 1;
  }

  /** Ends every hang and every fault of the sandbox. */
  async heal() {
    for (const name of [...this.#passing.keys()]) this.#end(name);
    await eventually(
      'a sandbox without faults',
      async () => (await this.#sandbox('DELETE', '/faults'))?.status === 200,
    );
  }

  /** Reads the counters of the sandbox: a restart sets them to zero. */
  async readCounters() {
    const { conflicts, maxInFlight } = await eventually('the counters of the sandbox', () =>
      sandboxStats(this.stack.urls.sandbox).catch(() => null),
    );
    return {
      conflicts: this.conflicts + conflicts,
      maxInFlight: Math.max(this.maxInFlight, maxInFlight),
    };
  }

  /**
   * @param {import('./chaos-plan.mjs').Fault} fault
   * @returns {Promise<number | string | undefined>} the process or the phone; undefined without a victim
   */
  async #inject({ kind, what, pick, forMs }) {
    if (kind === 'supervisord') return this.#killSupervisord();
    if (kind === 'flush') return this.#flush();
    if (kind === 'sandbox')
      return this.#breakSandbox(sandboxFaults[what] ?? {}, this.#pickPhone(pick), forMs);
    const pid = await this.#find(what, pick);
    if (pid === undefined) return undefined;
    if (kind === 'hang') {
      this.#hang(pid, forMs);
    } else {
      // SIGQUIT is PostgreSQL's immediate shutdown: after a SIGKILL its backends would stay.
      signal(pid, what === 'postgres' ? 'SIGQUIT' : 'SIGKILL');
    }
    return pid;
  }

  /** @param {string} what @param {number} pick */
  async #find(what, pick) {
    return waitFor(
      async () => {
        const pids = await this.#pidsOf(what);
        return pids[Math.floor(pick * pids.length)];
      },
      { timeoutMs: findMs },
    );
  }

  /** @param {string} what */
  async #pidsOf(what) {
    const running = [...(await this.stack.status())].filter(([, { pid }]) => pid > 0);
    const pidsOf = (/** @type {string} */ name) =>
      running.filter(([program]) => programs.get(name)?.test(program)).map(([, { pid }]) => pid);
    return what === 'browser' ? browsersBelow(pidsOf('instance')) : pidsOf(what);
  }

  /** @param {number} pid @param {number} forMs */
  #hang(pid, forMs) {
    const started = processStart(pid);
    signal(pid, 'SIGSTOP');
    this.#pass(`pid ${pid}`, forMs, () => {
      // The process may have been killed in the meantime, and another process may have its pid.
      if (processStart(pid) === started) signal(pid, 'SIGCONT');
    });
  }

  /** @param {object} faults @param {string} phone @param {number} forMs */
  async #breakSandbox(faults, phone, forMs) {
    const put = (/** @type {object} */ wanted) => this.#sandbox('PUT', '/faults', { ...wanted, phone });
    if ((await put(faults))?.status !== 200) return undefined;
    this.#pass(`phone ${phone}`, forMs, () => put({}));
    return phone;
  }

  /** @param {number} pick */
  #pickPhone(pick) {
    return this.phones[Math.floor(pick * this.phones.length)] ?? '';
  }

  async #flush() {
    const redis = new Redis(this.stack.env.REDIS_URL, {
      lazyConnect: true,
      retryStrategy: null,
      connectTimeout: answerMs,
      commandTimeout: answerMs,
    });
    // Redis may be down or hang at this moment.
    redis.on('error', () => undefined);
    try {
      await redis.connect();
      await redis.flushall();
      return 'redis';
    } catch {
      return undefined;
    } finally {
      redis.disconnect();
    }
  }

  /** Kills supervisord and starts it again, as an operator does. This also restarts its programs. */
  async #killSupervisord() {
    Object.assign(this, await this.readCounters());
    const pid = this.stack.supervisordPid;
    if (pid === undefined) return undefined;
    signal(pid, 'SIGKILL');
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.stack.start();
        return pid;
      } catch (error) {
        if (attempt === startsOfTheStack) throw error;
      }
    }
  }

  /** Ends a fault after a time, or when everything is healed. @param {string} name @param {number} ms @param {() => unknown} end */
  #pass(name, ms, end) {
    clearTimeout(this.#passing.get(name)?.timer);
    this.#passing.set(name, { timer: setTimeout(() => this.#end(name), ms), end });
  }

  /** @param {string} name */
  #end(name) {
    const passing = this.#passing.get(name);
    this.#passing.delete(name);
    clearTimeout(passing?.timer);
    void passing?.end();
  }

  /** @param {string} method @param {string} path @param {object} [body] @returns null when the sandbox does not answer */
  #sandbox(method, path, body) {
    return call(method, `${this.stack.urls.sandbox}${path}`, body, undefined, {}, answerMs).catch(() => null);
  }
}
