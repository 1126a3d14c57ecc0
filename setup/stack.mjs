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

/** @param {import('./stack.mjs').StackOptions} [options] @returns {Promise<import('./stack.mjs').Stack>} */
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

  return {
    dir: directory,
    varDir: settings.varDir,
    get supervisordPid() {
      return system.supervisordPid;
    },
    env: { ...own, DATABASE_URL, REDIS_URL },
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
      const pid = (await this.status()).get(name)?.pid;
      if (!pid) throw new Error(`${name} is not running`);
      sendSignal(pid, signal);
      return pid;
    },

    async waitUntilRunning(name, { notPid = 0, timeoutMs = 10_000 } = {}) {
      const started = performance.now();
      const running = await waitFor(
        async () => {
          const program = (await this.status()).get(name);
          return program?.state === 'RUNNING' && program.pid !== notPid ? program : undefined;
        },
        { timeoutMs, everyMs: 25 },
      );
      if (!running)
        throw new Error(
          `${name} is not RUNNING after ${timeoutMs} ms:\n${(await this.logs(name)).slice(-3000)}`,
        );
      return { pid: running.pid, afterMs: performance.now() - started };
    },

    logs: (name) =>
      readFile(join(system.paths.logDir, `${name.replace(/^.*:/, '')}.log`), 'utf8').catch(() => ''),

    cli: (...args) =>
      tryRun([process.execPath, join(settings.project, 'dist/src/roles/cli.main.js'), ...args], {
        cwd: settings.project,
        env: system.environment,
      }),
  };
}

/** @param {string} server @param {string} database */
function databaseUrl(server, database) {
  const url = new URL(server);
  url.pathname = `/${database}`;
  return url.href;
}
