/** Makes happen what a chaos plan says, on one stack, and heals it again. Only processes of that stack are signalled. */
import { Redis } from 'ioredis';
import { processStart, signal } from '../setup/processes.mjs';
import { sandboxFaults } from './chaos-plan.mjs';
import { browsersBelow, call, eventually } from './fleet.mjs';

/** How long something to break is looked for: everything may be down at the moment. */
const findMs = 5_000;
const answerMs = 5_000;
const startsOfTheStack = 3;

/** The names that supervisord gives the programs. @type {Record<string, RegExp>} */
const programs = {
  worker: /^flotilla:worker_\d+$/,
  instance: /^flotilla:instance_\d+$/,
  scheduler: /^flotilla:scheduler$/,
  api: /^flotilla:api$/,
  redis: /^flotilla-data:redis$/,
  postgres: /^flotilla-data:postgres$/,
};

export class ChaosFaults {
  /** How often each has happened, for example `kill worker`. @type {Record<string, number>} */
  injected = {};
  /** What was done, and when: beside the logs it explains what is found wrong. @type {object[]} */
  history = [];
  /** Things to break that were not there. */
  skipped = 0;
  conflicts = 0;
  maxInFlight = 0;
  /** What each hung process or faulty account waits for. @type {Map<string, { timer: NodeJS.Timeout, end: () => unknown }>} */
  #passing = new Map();

  /**
   * @param {import('../setup/stack.mjs').Stack} stack
   * @param {string[]} phones of the accounts
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

  /** Reads what the sandbox has counted: it forgets that when it is started again. */
  async readCounters() {
    const { body } = await eventually('the counters of the sandbox', async () => {
      const answer = await this.#sandbox('GET', '/stats');
      return answer?.status === 200 && answer;
    });
    return {
      conflicts: this.conflicts + body.conflicts,
      maxInFlight: Math.max(this.maxInFlight, body.maxInFlight),
    };
  }

  /** @param {import('./chaos-plan.mjs').Fault} fault @returns {Promise<number | string | undefined>} the process or the phone; undefined: there was none to break */
  async #inject({ kind, what, pick, forMs }) {
    if (kind === 'supervisord') return this.#killSupervisord();
    if (kind === 'flush') return this.#flush();
    if (kind === 'sandbox') return this.#breakSandbox(sandboxFaults[what], this.#pickPhone(pick), forMs);
    const pid = await this.#find(what, pick);
    if (pid === undefined) return undefined;
    if (kind === 'hang') {
      this.#hang(pid, forMs);
    } else {
      // PostgreSQL is told to stop at once (immediate shutdown): to kill it would leave its backends to themselves.
      signal(pid, what === 'postgres' ? 'SIGQUIT' : 'SIGKILL');
    }
    return pid;
  }

  /** @param {string} what @param {number} pick */
  async #find(what, pick) {
    const deadline = performance.now() + findMs;
    return eventually(
      what,
      async () => {
        const pids = await this.#pidsOf(what);
        return pids[Math.floor(pick * pids.length)] ?? (performance.now() > deadline - 500 && 'none');
      },
      findMs,
      100,
    ).then((found) => (found === 'none' ? undefined : found));
  }

  /** @param {string} what */
  async #pidsOf(what) {
    const running = [...(await this.stack.status())].filter(([, { pid }]) => pid > 0);
    const pidsOf = (/** @type {RegExp} */ name) =>
      running.filter(([program]) => name.test(program)).map(([, { pid }]) => pid);
    return what === 'browser' ? browsersBelow(pidsOf(programs.instance)) : pidsOf(programs[what]);
  }

  /** @param {number} pid @param {number} forMs */
  #hang(pid, forMs) {
    const started = processStart(pid);
    signal(pid, 'SIGSTOP');
    this.#pass(`pid ${pid}`, forMs, () => {
      // It may have been killed meanwhile, and another may have its number.
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
    return this.phones[Math.floor(pick * this.phones.length)];
  }

  async #flush() {
    const redis = new Redis(this.stack.env.REDIS_URL, {
      lazyConnect: true,
      retryStrategy: null,
      connectTimeout: answerMs,
      commandTimeout: answerMs,
    });
    // Refused or cut: Redis is down or hangs at this moment.
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

  /** kill -9 of supervisord, then what an operator does: start it again. Its programs are ended and started on the way. */
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

  /** Ends something after a time, or when everything is healed. @param {string} name @param {number} ms @param {() => unknown} end */
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
