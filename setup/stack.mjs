/**
 * A whole Flotilla for tests and benchmarks: the same code that `npm start` runs, in a temporary directory, on free ports,
 * with a database and a Redis of its own.
 */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { dropDatabase, query } from './connections.mjs';
import { removeData } from './embedded.mjs';
import { isolatedEnvironment, makeTemporaryDirectory, withoutOwnNames } from './isolated.mjs';
import { signal as sendSignal, tryRun, waitFor } from './processes.mjs';
import { dataUrls, readSettings, urls } from './settings.mjs';
import { supervisorctl } from './supervisord.mjs';
import { System } from './system.mjs';

/**
 * @typedef {object} StackOptions
 * @property {string} [dir] where all files are kept. Without it the stack makes a temporary directory and removes it.
 * @property {number} [instances] 2 by default
 * @property {number} [workers] 1 by default
 * @property {'shared' | 'own'} [postgres] `shared` (the default): a new database on the server of DATABASE_URL, when that is
 *   set. `own`: a PostgreSQL server for this stack alone.
 * @property {('sandbox' | 'instance' | 'worker' | 'scheduler' | 'api')[]} [programs] the programs to run: all by default. A
 *   server of a larger fleet may run instances only.
 * @property {Record<string, string>} [env] more environment variables for the programs; they win
 */

/**
 * @typedef {object} Program
 * @property {string} state supervisord's word: RUNNING, STARTING, BACKOFF, STOPPING, STOPPED, EXITED, FATAL
 * @property {number} pid 0 when it does not run
 */

/**
 * @typedef {object} Stack
 * @property {string} dir
 * @property {string} varDir
 * @property {number | undefined} supervisordPid the pid of its supervisord while it runs
 * @property {StackEnvironment} env its settings
 * @property {import('./programs-user.mjs').ProgramsUser | undefined} programsUser who runs the programs, once it has started
 * @property {{ api: string, sandbox: string, instances: string[] }} urls
 * @property {() => Promise<void>} start resolves when every program is RUNNING and ready. On failure it stops everything again.
 * @property {(options?: { keep?: boolean }) => Promise<void>} stop stops everything and removes the database and the files.
 *   With `keep` they stay, and `start` continues with them.
 * @property {(...args: string[]) => Promise<string>} ctl supervisorctl, for example `ctl('restart', 'flotilla:worker_00')`
 * @property {() => Promise<Map<string, Program>>} status by full name: `flotilla:api`, `flotilla:instance_00`, `flotilla-data:redis`
 * @property {(name: string, signal?: NodeJS.Signals) => Promise<number>} kill sends a signal (KILL by default) to a program and
 *   resolves with the pid that it had
 * @property {(name: string, options?: { notPid?: number, timeoutMs?: number }) => Promise<{ pid: number, afterMs: number }>} waitUntilRunning
 *   waits until a program is RUNNING with another pid than `notPid`
 * @property {(name: string) => Promise<string>} logs the log of a program, standard output and error together
 * @property {(...args: string[]) => Promise<{ code: number, output: string, stdout: string }>} cli runs `./flotilla …` on this stack
 */

/**
 * The settings that every stack has, and more by their names.
 *
 * @typedef {Record<string, string> & Record<'ADMIN_API_KEY' | 'DATABASE_URL' | 'REDIS_URL', string>} StackEnvironment
 */

/** @param {StackOptions} [options] @returns {Promise<Stack>} */
export async function createStack({
  dir,
  instances = 2,
  workers = 1,
  postgres,
  programs,
  env: extra = {},
} = {}) {
  const directory = dir ?? makeTemporaryDirectory(undefined, 'flotilla-stack-');
  const shared = postgres === 'own' ? undefined : process.env.DATABASE_URL;
  const database = `flotilla_${randomBytes(6).toString('hex')}`;
  /** @type {Record<string, string>} */
  const own = {
    ...(await isolatedEnvironment({ varDir: join(directory, 'var'), instances, workers })),
    ...(programs ? { PROGRAMS: programs.join(',') } : {}),
    ...extra,
  };
  if (shared && !extra.DATABASE_URL) own.DATABASE_URL = databaseUrl(shared, database);

  const environment = { ...withoutOwnNames(process.env), ...own };
  const settings = readSettings({ environment });
  const system = new System(settings);
  const { database: DATABASE_URL, redis: REDIS_URL } = dataUrls(settings);
  let databaseMade = false;

  /** @type {Stack} */
  const stack = {
    dir: directory,
    varDir: settings.varDir,
    get supervisordPid() {
      return system.supervisordPid;
    },
    get programsUser() {
      return system.programsUser;
    },
    env: /** @type {StackEnvironment} */ ({ ...own, DATABASE_URL, REDIS_URL }),
    urls: urls(settings),

    async start() {
      if (shared && !extra.DATABASE_URL && !databaseMade) {
        await query(shared, [`create database ${database}`]);
        databaseMade = true;
      }
      await system.start();
    },

    async stop({ keep = false } = {}) {
      await system.stop();
      if (keep) return;
      if (shared && databaseMade) {
        await dropDatabase(shared, database);
        databaseMade = false;
      }
      removeData(settings);
      if (!dir) rmSync(directory, { recursive: true, force: true });
    },

    ctl: (...args) => supervisorctl(settings.varDir, args),

    async status() {
      const processes = await system.processes();
      return new Map(
        processes.map(({ group, name, statename, pid }) => [`${group}:${name}`, { state: statename, pid }]),
      );
    },

    async kill(name, signal = 'SIGKILL') {
      const pid = (await stack.status()).get(name)?.pid;
      if (!pid) throw new Error(`${name} is not running`);
      sendSignal(pid, signal);
      return pid;
    },

    async waitUntilRunning(name, { notPid = 0, timeoutMs = 10_000 } = {}) {
      const started = performance.now();
      const running = await waitFor(
        async () => {
          const program = (await stack.status()).get(name);
          return program?.state === 'RUNNING' && program.pid !== notPid ? program : undefined;
        },
        { timeoutMs, everyMs: 50 },
      );
      if (!running)
        throw new Error(
          `${name} is not RUNNING after ${timeoutMs} ms:\n${(await stack.logs(name)).slice(-3000)}`,
        );
      return { pid: running.pid, afterMs: performance.now() - started };
    },

    logs: (name) =>
      readFile(join(system.paths.logDir, `${name.replace(/^.*:/, '')}.log`), 'utf8').catch(() => ''),

    cli: (...args) =>
      tryRun([process.execPath, join(settings.project, 'dist/programs/cli.mjs'), ...args], {
        cwd: settings.project,
        env: system.environment,
      }),
  };
  return stack;
}

/** @param {string} server @param {string} database */
function databaseUrl(server, database) {
  const url = new URL(server);
  url.pathname = `/${database}`;
  return url.href;
}
