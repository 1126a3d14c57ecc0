/**
 * A running Flotilla: the embedded PostgreSQL and Redis, the migrations, and the programs, under a private supervisord.
 * `npm start`, `npm test`, `npm run bench` and the end-to-end tests all use this code.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { SetupError, silently, tail } from './console.mjs';
import { checkPostgres, checkRedis, query } from './connections.mjs';
import { endOrphans, ensureDatabase, preparePostgres, prepareRedis } from './embedded.mjs';
import { checkPorts, portsOf } from './ports.mjs';
import {
  endProcesses,
  isAlive,
  parentOf,
  pidsWithEnvironment,
  run,
  tiedToThisProcess,
  waitFor,
} from './processes.mjs';
import { prepareProgramsUser } from './programs-user.mjs';
import { dataUrls, urls } from './settings.mjs';
import {
  SupervisorClient,
  makeSupervisordDirectories,
  renderSupervisord,
  runningSupervisord,
  supervisordPaths,
} from './supervisord.mjs';
import { findSupervisord } from './system-packages.mjs';

const ENOUGH_DISK = 500 * 1024 * 1024;

/** The programs that use instances stop before them. The sandbox is last, because it stands for WhatsApp. */
const STOP_ORDER = [/^(api|scheduler|worker_\d+)$/, /^instance_\d+$/, /./];

/** @typedef {import('./settings.mjs').Settings} Settings */
/** @typedef {import('./supervisord.mjs').ProcessInfo} ProcessInfo */

/**
 * Fails with one sentence when the disk is nearly full.
 *
 * @param {string} directory
 */
export function checkDisk(directory) {
  const { bavail, bsize } = statfsSync(directory);
  const free = bavail * bsize;
  if (free < ENOUGH_DISK) {
    throw new SetupError(
      `The disk that holds ${directory} has only ${Math.floor(free / 1024 / 1024)} MB left. Free some space (at least 500 MB) and try again.`,
    );
  }
}

/**
 * Fails when a system already runs from this var directory.
 *
 * @param {string} varDir
 */
export function checkNotRunning(varDir) {
  const pid = runningSupervisord(varDir);
  if (pid) {
    throw new SetupError(
      `Flotilla is already running here (supervisord has pid ${pid}). Stop it with Ctrl-C in its terminal or with: ./flotilla ctl shutdown`,
    );
  }
}

export class System {
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #supervisord;
  /** @type {string} */
  #complaint = '';
  #stopping = false;
  #cancelled = false;
  /** @type {() => void} */
  #killOnExit = () => void this.#supervisord?.kill('SIGTERM');

  /**
   * @param {Settings} settings
   * @param {object} [options]
   * @param {boolean} [options.programs] false: only PostgreSQL and Redis
   * @param {boolean} [options.durable] false: a new embedded PostgreSQL may lose its data when the machine crashes
   * @param {import('./supervisord.mjs').Inspected} [options.inspected] the process that a debugger is for
   * @param {typeof silently} [options.step] how progress is shown
   */
  constructor(settings, { programs = true, durable = true, inspected, step = silently } = {}) {
    this.settings = settings;
    this.programs = programs;
    this.durable = durable;
    this.inspected = inspected;
    /** The programs that `restart` has restarted, by full name: their new pid is no surprise. @type {Set<string>} */
    this.restarted = new Set();
    this.step = step;
    this.paths = supervisordPaths(settings.varDir);
    this.client = new SupervisorClient(this.paths.socket);
    /** Settles when supervisord has ended. @type {Promise<{ code: number | null, signal: NodeJS.Signals | null }> | undefined} */
    this.ended = undefined;
    /** Who runs the programs; undefined before the start. @type {import('./programs-user.mjs').ProgramsUser | undefined} */
    this.programsUser = undefined;
  }

  get supervisordPid() {
    return this.#supervisord?.pid;
  }

  /** The environment of the programs. */
  get environment() {
    const { settings, programsUser } = this;
    return {
      ...settings.environment,
      VAR_DIR: settings.varDir,
      ...(programsUser ? { BROWSER_SANDBOX: programsUser.browserSandbox } : {}),
    };
  }

  /** Starts everything. Stops everything again on failure. */
  async start() {
    this.#cancelled = false;
    try {
      await this.#start();
    } catch (error) {
      await this.stop({ step: silently }).catch(() => {});
      throw error;
    }
  }

  async #start() {
    const { settings, step } = this;
    await step('ports and disk', () => this.#check());
    /** @type {Record<string, string | number>} */
    const data = {};
    /** @type {string[]} */
    const dataPrograms = [];
    if (!settings.databaseUrl) {
      dataPrograms.push('postgres');
      Object.assign(
        data,
        await step('embedded PostgreSQL', (progress) =>
          preparePostgres(settings, progress, { durable: this.durable }),
        ),
      );
    }
    if (!settings.redisUrl) {
      dataPrograms.push('redis');
      Object.assign(data, prepareRedis(settings));
    }
    const programsUser = this.programs
      ? await step('user of the programs', async ({ note }) => {
          const chosen = await prepareProgramsUser(settings);
          note(chosen.user);
          return chosen;
        })
      : undefined;
    this.programsUser = programsUser;
    await step('supervisord', () =>
      this.#launch(
        renderSupervisord(settings, {
          data,
          dataPrograms,
          programsUser: programsUser && { user: programsUser.user, home: programsUser.home },
          inspected: this.inspected,
        }),
      ),
    );
    await step('PostgreSQL and Redis', ({ note }) => this.#connect(note));
    if (!this.programs) return;
    await step('migrations', () => this.migrate());
    await step('programs', ({ note }) => this.#startPrograms(note));
  }

  async #check() {
    const { varDir } = this.settings;
    mkdirSync(varDir, { recursive: true, mode: 0o755 });
    checkDisk(varDir);
    checkNotRunning(varDir);
    makeSupervisordDirectories(this.paths);
    for (const name of ['sessions', 'sandbox'])
      mkdirSync(join(varDir, name), { recursive: true, mode: 0o700 });
    // A supervisord that was killed leaves its programs behind.
    await this.#endLeftovers();
    await checkPorts(portsOf(this.settings, { programs: this.programs }));
  }

  /** @param {string} config */
  async #launch(config) {
    if (this.#cancelled) throw new SetupError('The start was interrupted.');
    writeFileSync(this.paths.config, config, { mode: 0o600 });
    rmSync(this.paths.pidFile, { force: true });
    rmSync(this.paths.socket, { force: true });
    const program = findSupervisord();
    if (!program)
      throw new SetupError('supervisord is not installed. Install the package supervisor and start again.');

    // When this process is killed, supervisord stops everything in order.
    const [command = '', ...args] = await tiedToThisProcess([program, '-n', '-c', this.paths.config]);
    // In a session of its own supervisord gets no Ctrl-C from the terminal: this process stops everything in order.
    const child = spawn(command, args, {
      cwd: this.settings.project,
      env: this.environment,
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#supervisord = child;
    this.#complaint = '';
    child.stderr
      ?.setEncoding('utf8')
      .on('data', (text) => (this.#complaint = (this.#complaint + text).slice(-4000)));
    this.ended = new Promise((resolve) => {
      child.once('error', () => resolve({ code: 127, signal: null }));
      child.once('exit', (code, signal) => resolve({ code, signal }));
    });
    process.once('exit', this.#killOnExit);
    const answers = async () =>
      this.#hasEnded() || this.client.call('getSupervisorVersion').catch(() => undefined);
    if (!(await waitFor(answers, { timeoutMs: 20_000, everyMs: 50 })) || this.#hasEnded()) {
      throw new SetupError(
        `supervisord did not start. See the lines above and ${join(this.paths.logDir, 'supervisord.log')}.`,
        {
          detail: this.#complaint,
        },
      );
    }
  }

  #hasEnded() {
    const child = this.#supervisord;
    return !child || child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
  }

  /** @param {(text: string) => void} note */
  async #connect(note) {
    const { settings } = this;
    const { database, redis } = dataUrls(settings);
    note('PostgreSQL');
    if (settings.databaseUrl) {
      await checkPostgres(database);
    } else {
      const superuser = new URL(database);
      superuser.username = 'postgres';
      superuser.pathname = '/postgres';
      await this.#untilAnswers('postgres', 90_000, () => query(superuser.href, ['select 1']));
      await ensureDatabase(settings);
    }
    note('Redis');
    if (settings.redisUrl) {
      await checkRedis(redis, settings.redisCaFile);
    } else {
      await this.#untilAnswers('redis', 30_000, () => checkRedis(redis));
    }
    note('');
  }

  /**
   * @param {string} name
   * @param {number} timeoutMs
   * @param {() => Promise<unknown>} ask
   */
  async #untilAnswers(name, timeoutMs, ask) {
    /** @type {unknown} */
    let last;
    const answered = await waitFor(
      async () => {
        if (this.#hasEnded())
          throw new SetupError('supervisord ended while it was starting.', { detail: this.#complaint });
        const [info] = (await this.client.processes()).filter((process) => process.name === name);
        if (info?.statename === 'FATAL') return 'failed';
        return ask().then(
          () => 'answered',
          (error) => void (last = error),
        );
      },
      { timeoutMs, everyMs: 100 },
    );
    if (answered !== 'answered') {
      const log = join(this.paths.logDir, `${name}.log`);
      const reason = last instanceof Error ? ` (${last.message.replace(/\.$/, '')})` : '';
      throw new SetupError(
        `The embedded ${name === 'redis' ? 'Redis' : 'PostgreSQL'} does not answer${reason}. See the lines above and ${log}.`,
        { detail: tail(log) },
      );
    }
  }

  /** @returns {Promise<string>} what the command prints */
  async migrate() {
    return run([process.execPath, join(this.settings.project, 'dist/programs/cli.mjs'), 'migrate'], {
      cwd: this.settings.project,
      env: this.environment,
      failure:
        'The database migrations failed with the error above. Correct it, or restore the database, and start again.',
    });
  }

  /** @returns {Promise<ProcessInfo[]>} */
  async processes() {
    return this.client.processes();
  }

  /** @param {(text: string) => void} note */
  async #startPrograms(note) {
    await this.client.call('startProcessGroup', 'flotilla', false);
    const programs = (await this.client.processes()).filter(({ group }) => group === 'flotilla');
    await this.#untilReady(
      programs.map(({ name }) => name),
      note,
    );
  }

  /**
   * Restarts these programs, senders first, and waits until they are ready.
   *
   * @param {readonly string[]} names
   * @param {() => boolean} [isOutdated] true when there is no use in waiting any longer
   */
  async restart(names, isOutdated) {
    for (const name of names) this.restarted.add(`flotilla:${name}`);
    await this.#stopPrograms(() => {}, names);
    if (this.#stopping) return;
    await Promise.all(names.map((name) => this.client.call('startProcess', `flotilla:${name}`, false)));
    await this.#untilReady(names, () => {}, isOutdated);
  }

  /** The page that answers 200 when this program is ready. @param {string} name @returns {string[]} */
  #readyPage(name) {
    const { api, instances, sandbox } = urls(this.settings);
    if (name === 'api') return [`${api}/health/ready`];
    if (name === 'sandbox') return [`${sandbox}/stats`];
    const [, number] = /^instance_(\d+)$/.exec(name) ?? [];
    return number === undefined ? [] : [`${instances[Number(number)]}/health/ready`];
  }

  /**
   * @param {readonly string[]} names
   * @param {(text: string) => void} note
   * @param {() => boolean} [isOutdated]
   */
  async #untilReady(names, note, isOutdated = () => false) {
    const started = performance.now();
    const pages = names.flatMap((name) => this.#readyPage(name));
    /** @type {Map<string, number>} starts seen of each program */
    const restarts = new Map();
    /** @type {Map<string, string>} */
    const before = new Map();
    /** @type {string[]} */
    let waiting = [];

    const ready = await waitFor(
      async () => {
        if (isOutdated()) return true;
        if (this.#hasEnded())
          throw new SetupError('supervisord ended while it was starting the programs.', {
            detail: this.#complaint,
          });
        const programs = (await this.client.processes()).filter(
          ({ group, name }) => group === 'flotilla' && names.includes(name),
        );
        for (const program of programs) {
          if (program.statename === 'BACKOFF' && before.get(program.name) !== 'BACKOFF') {
            restarts.set(program.name, (restarts.get(program.name) ?? 0) + 1);
          }
          before.set(program.name, program.statename);
          if (program.statename === 'FATAL' || (restarts.get(program.name) ?? 0) >= 3)
            throw this.#cannotStart(program);
        }
        const answers = await Promise.all(pages.map(statusOf));
        waiting = [
          ...programs
            .filter(({ statename }) => statename !== 'RUNNING')
            .map(({ name, statename }) => `${name} is ${statename}`),
          ...pages
            .map((page, n) => ({ page, status: 0, text: '', ...answers[n] }))
            .filter(({ status }) => status !== 200)
            .map(({ page, text }) => `${page}: ${text}`),
        ];
        note(
          `${programs.filter(({ statename }) => statename === 'RUNNING').length} of ${programs.length} running`,
        );
        return waiting.length === 0;
      },
      { timeoutMs: 120_000, everyMs: 250 },
    );
    if (!ready) {
      const seconds = Math.round((performance.now() - started) / 1000);
      throw new SetupError(
        `Not all programs were ready after ${seconds} s (see above). The logs are in ${this.paths.logDir}.`,
        { detail: waiting.join('\n') },
      );
    }
  }

  /** @param {ProcessInfo} program */
  #cannotStart({ name, stdout_logfile: log, spawnerr }) {
    return new SetupError(
      `${name} does not start${spawnerr ? ` (${spawnerr})` : ''}. Its last lines are above, the whole log is ${log}.`,
      { detail: tail(log) },
    );
  }

  /**
   * Stops the programs, then PostgreSQL and Redis, then supervisord. No process is left.
   *
   * @param {{ step?: typeof silently }} [options]
   */
  async stop({ step = this.step } = {}) {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#cancelled = true;
    try {
      if (!this.#hasEnded()) {
        if (this.programs)
          await step('stopping the programs', ({ note }) => this.#stopPrograms(note)).catch(() => {});
        const data = [
          this.settings.databaseUrl ? '' : 'PostgreSQL, ',
          this.settings.redisUrl ? '' : 'Redis, ',
        ].join('');
        await step(`stopping ${data}supervisord`, () => this.#shutDown());
      }
      await this.#endLeftovers();
    } finally {
      process.off('exit', this.#killOnExit);
      this.#stopping = false;
      if (this.paths.socketDir !== this.paths.runDir)
        rmSync(this.paths.socketDir, { recursive: true, force: true });
    }
  }

  /**
   * @param {(text: string) => void} note
   * @param {readonly string[]} [only] all unless given
   */
  async #stopPrograms(note, only) {
    const alive = async () =>
      (await this.client.processes()).filter(
        ({ group, name, statename }) =>
          group === 'flotilla' &&
          (only?.includes(name) ?? true) &&
          !/^(STOPPED|EXITED|FATAL)$/.test(statename),
      );
    for (const members of STOP_ORDER) {
      const names = (await alive()).map(({ name }) => name).filter((name) => members.test(name));
      await Promise.all(
        names.map((name) => this.client.call('stopProcess', `flotilla:${name}`, false).catch(() => {})),
      );
      // The longest stopwaitsecs plus the time that supervisord needs to kill.
      await waitFor(
        async () => {
          if (this.#hasEnded()) return true;
          const left = (await alive()).map(({ name }) => name).filter((name) => names.includes(name));
          note(left.length ? `waiting for ${left.join(', ')}` : '');
          return left.length === 0;
        },
        { timeoutMs: 90_000, everyMs: 100 },
      );
    }
  }

  async #shutDown() {
    const child = this.#supervisord;
    await this.client.call('shutdown').catch(() => child?.kill('SIGTERM'));
    if (await waitFor(() => this.#hasEnded(), { timeoutMs: 60_000, everyMs: 50 })) return;
    child?.kill('SIGKILL');
    await waitFor(() => this.#hasEnded(), { timeoutMs: 5000 });
  }

  /** Ends the processes of a killed supervisord of this var directory, programs before databases. */
  async #endLeftovers() {
    const pids = pidsWithEnvironment('SUPERVISOR_SERVER_URL', `unix://${this.paths.socket}`);
    // Programs only get TERM first: an instance ends its browsers. Browsers that are left are ended after that.
    await endProcesses(
      pids.filter((pid) => !pids.includes(parentOf(pid))),
      { graceMs: 80_000 },
    );
    await endProcesses(pids.filter(isAlive), { graceMs: 2000 });
    await endOrphans(this.settings);
  }

  get isRunning() {
    return !this.#hasEnded();
  }
}

/** @param {string} url @returns {Promise<{ status: number, text: string }>} */
function statusOf(url) {
  return new Promise((resolve) => {
    const outgoing = get(url, { timeout: 3000 }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk) => (body += chunk));
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text: `${response.statusCode} ${body.slice(0, 300)}` }),
      );
      response.on('error', (error) => resolve({ status: 0, text: error.message }));
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error('no answer within 3 s')));
    outgoing.on('error', (error) => resolve({ status: 0, text: error.message || 'nothing answers' }));
  });
}
