/**
 * A private PostgreSQL and Redis in a temporary directory, for `npm test` and `npm run bench`. They do not touch a system
 * that runs on the same machine, and leave nothing behind.
 */
import { spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SetupError, printFailure, say, step } from './console.mjs';
import { removeData } from './embedded.mjs';
import { generateSecrets } from './env-file.mjs';
import { findFreePorts } from './ports.mjs';
import {
  endProcesses,
  endRunningCommands,
  isAlive,
  pidsWithEnvironment,
  tiedToThisProcess,
} from './processes.mjs';
import { provision } from './provision.mjs';
import { PROJECT, dataUrls, readSettings } from './settings.mjs';
import { onStopSignal } from './signals.mjs';
import { System } from './system.mjs';

const PREFIX = 'flotilla-run-';

/**
 * Settings for one isolated system: generated secrets, free ports, everything in `varDir`.
 *
 * @param {object} options
 * @param {string} options.varDir
 * @param {number} [options.instances]
 * @param {number} [options.workers]
 * @returns {Promise<Record<string, string>>} as environment variables
 */
export async function isolatedEnvironment({ varDir, instances = 2, workers = 1 }) {
  const port = async (count = 1) => String(await findFreePorts(count));
  return {
    ENV_FILE: 'none',
    VAR_DIR: varDir,
    HOST: '127.0.0.1',
    ...generateSecrets(),
    // Tests send many requests with wrong keys from one address.
    RATE_LIMIT_PER_IP: '0',
    PORT: await port(),
    INSTANCES: String(instances),
    INSTANCE_BASE_PORT: await port(Math.max(1, instances)),
    WORKERS: String(workers),
    SANDBOX: 'true',
    SANDBOX_PORT: await port(),
    SANDBOX_CONTROL_PORT: await port(),
    EMBEDDED_POSTGRES_PORT: await port(),
    EMBEDDED_REDIS_PORT: await port(),
  };
}

/** The variables of the caller that an isolated system must not get. */
const OWN_NAMES =
  /^(DATABASE_URL|REDIS_URL|REDIS_CA_FILE|SERVER_.*|INSTANCE_NUMBER|WORKER_NAME|SUPERVISOR_.*)$/;

/** @param {NodeJS.ProcessEnv} environment */
export const withoutOwnNames = (environment) =>
  Object.fromEntries(Object.entries(environment).filter(([name]) => !OWN_NAMES.test(name)));

/** A new temporary directory that the `postgres` user may enter. */
export function makeTemporaryDirectory(parent = tmpdir(), prefix = PREFIX) {
  const directory = mkdtempSync(join(parent, prefix));
  chmodSync(directory, 0o711);
  return directory;
}

/** Ends the processes and removes the files of runs that were killed. */
async function removeForgottenRuns() {
  for (const name of readdirSync(tmpdir()).filter((entry) => entry.startsWith(PREFIX))) {
    const directory = join(tmpdir(), name);
    try {
      const owner = Number(readFileSync(join(directory, 'pid'), 'utf8'));
      if (isAlive(owner)) continue;
      await endProcesses(pidsWithEnvironment('FLOTILLA_RUN', directory), { graceMs: 30_000 });
      rmSync(directory, { recursive: true, force: true });
    } catch {
      // The directory belongs to another user, or is still being made.
    }
  }
}

/**
 * Provisions, starts PostgreSQL and Redis, runs a command with their URLs and free ports in its environment, cleans up, and
 * exits with the exit code of the command.
 *
 * @param {string[]} command run in the project with node
 * @param {object} [needs]
 * @param {boolean} [needs.fullBrowser] the command needs a whole Chromium
 * @param {boolean} [needs.pooler] the command needs PgBouncer
 * @param {boolean} [needs.durable] false: PostgreSQL does not wait for the disk
 */
export async function runIsolated(command, { fullBrowser = false, pooler = false, durable = true } = {}) {
  /** @type {System | undefined} */
  let system;
  /** @type {import('node:child_process').ChildProcess | undefined} */
  let child;
  /** @type {string | undefined} */
  let root;
  let interrupted = false;
  /** @type {Promise<void> | undefined} */
  let tidying;

  const tidyUp = () => (tidying ??= doTidyUp());
  const doTidyUp = async () => {
    await endRunningCommands();
    if (child?.pid) {
      // The group of the command includes the workers of hanging tests.
      const pid = child.pid;
      if (!(await ended(child, 0))) {
        process.kill(-pid, 'SIGTERM');
        if (!(await ended(child, 20_000))) process.kill(-pid, 'SIGKILL');
      }
    }
    if (root) await endProcesses(pidsWithEnvironment('FLOTILLA_RUN', root), { graceMs: 30_000 });
    await system?.stop();
    if (system) removeData(system.settings);
    if (root) rmSync(root, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  };

  onStopSignal(async () => {
    interrupted = true;
    say('\nInterrupted: cleaning up.');
    await tidyUp().catch(printFailure);
    process.exit(130);
  });

  let code = 1;
  try {
    // Tests need PostgreSQL and Redis on this machine, even when the .env names others.
    await provision({ ...readSettings(), databaseUrl: '', redisUrl: '', fullBrowser, pooler });
    await removeForgottenRuns();
    root = makeTemporaryDirectory();
    writeFileSync(join(root, 'pid'), String(process.pid));
    mkdirSync(join(root, 'tmp'), { mode: 0o1777 });
    chmodSync(join(root, 'tmp'), 0o1777);
    const environment = {
      ...withoutOwnNames(process.env),
      ...(await isolatedEnvironment({ varDir: join(root, 'var') })),
    };
    system = new System(readSettings({ environment }), { programs: false, durable });
    await step('private PostgreSQL and Redis', () => system?.start());
    const { database, redis } = dataUrls(system.settings);
    say('');
    const [program = '', ...args] = await tiedToThisProcess([process.execPath, ...command]);
    child = spawn(program, args, {
      cwd: PROJECT,
      stdio: ['ignore', 'inherit', 'inherit'],
      detached: true,
      env: {
        ...environment,
        DATABASE_URL: database,
        REDIS_URL: redis,
        TMPDIR: join(root, 'tmp'),
        FLOTILLA_RUN: root,
      },
    });
    code = await new Promise((resolve, reject) => {
      child?.once('error', reject).once('exit', (status, signal) => resolve(status ?? (signal ? 1 : 0)));
    });
  } catch (error) {
    if (interrupted) await new Promise(() => {});
    printFailure(error);
  }
  if (interrupted) await new Promise(() => {});
  await tidyUp().catch((error) => {
    printFailure(error);
    code ||= 1;
  });
  if (root && existsSync(root)) {
    printFailure(new SetupError(`${root} could not be removed. Remove it with: rm -rf ${root}`));
    code ||= 1;
  }
  process.exit(code);
}

/**
 * @param {import('node:child_process').ChildProcess} child
 * @param {number} withinMs
 */
function ended(child, withinMs) {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(true);
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), withinMs);
    child.once('exit', () => {
      clearTimeout(timer);
      resolve(true);
    });
  });
}
