/**
 * Finds the programs that Flotilla needs from the operating system, and installs missing ones with apt.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { SetupError, confirm, say } from './console.mjs';
import { isExecutable, run, tryRun, which } from './processes.mjs';
import { findChromium } from './settings.mjs';

/**
 * @typedef {object} Need
 * @property {string} name
 * @property {readonly string[]} packages Debian packages; the first available package is installed
 * @property {string} otherwise what to do on a system without these packages
 */

/** @type {Record<'postgres' | 'redis' | 'supervisor' | 'chromium' | 'ffmpeg' | 'fullBrowser' | 'pooler', Need>} */
const needs = {
  postgres: {
    name: 'PostgreSQL 13 or newer',
    packages: ['postgresql'],
    otherwise: 'install the PostgreSQL server (13 or newer), or set DATABASE_URL in .env to your own server',
  },
  redis: {
    name: 'Redis or Valkey',
    packages: ['redis-server', 'valkey-server', 'redis'],
    otherwise: 'install redis-server or valkey-server, or set REDIS_URL in .env to your own server',
  },
  supervisor: {
    name: 'supervisord',
    packages: ['supervisor'],
    otherwise: 'install supervisor (the programs supervisord and supervisorctl)',
  },
  chromium: {
    name: 'a Chromium browser',
    packages: ['chromium-headless-shell', 'chromium'],
    otherwise:
      'install chromium-headless-shell, Chromium or Google Chrome (not the snap, which cannot use profiles outside your home) and set CHROMIUM_PATH in .env when it is not on the PATH',
  },
  ffmpeg: {
    name: 'ffmpeg',
    packages: ['ffmpeg'],
    otherwise: 'install ffmpeg, and set FFMPEG_PATH in .env when it is not on the PATH',
  },
  pooler: {
    name: 'PgBouncer, which the tests connect through',
    packages: ['pgbouncer'],
    otherwise: 'install pgbouncer',
  },
  fullBrowser: {
    name: 'the full Chromium, which the benchmark measures against',
    packages: ['chromium'],
    otherwise: 'install chromium or Google Chrome',
  },
};

/** Directories of PostgreSQL's server programs, newest version first. */
export function postgresDirectories() {
  /** @type {string[]} */
  let packaged = [];
  try {
    packaged = readdirSync('/usr/lib/postgresql')
      .sort((a, b) => Number(b) - Number(a))
      .map((version) => `/usr/lib/postgresql/${version}/bin`);
  } catch {
    // PostgreSQL is not installed, or not from a Debian package.
  }
  const onPath = which(['postgres'])?.replace(/\/postgres$/, '');
  return [...packaged, ...(onPath ? [onPath] : [])].filter(
    (directory) => isExecutable(`${directory}/postgres`) && isExecutable(`${directory}/initdb`),
  );
}

export const findRedis = () => which(['redis-server', 'valkey-server']);
export const findFfmpeg = () => which(['ffmpeg']);
export const findPooler = () => which(['pgbouncer']);
export const findFullBrowser = () => which(['chromium', 'google-chrome']);
export const findSupervisord = () => which(['supervisord']);
export const findSupervisorctl = () => which(['supervisorctl']);

/**
 * @param {{ databaseUrl: string, redisUrl: string, chromiumPath: string, ffmpegPath?: string, fullBrowser?: boolean, pooler?: boolean }} settings
 *   `fullBrowser` also asks for the default browser of whatsapp-web.js, for the memory benchmark; `pooler` for PgBouncer, for the tests
 * @returns {Need[]}
 */
export function missingPrograms(settings) {
  const missing = [];
  if (!settings.databaseUrl && postgresDirectories().length === 0) missing.push(needs.postgres);
  if (!settings.redisUrl && !findRedis()) missing.push(needs.redis);
  if (!findSupervisord() || !findSupervisorctl()) missing.push(needs.supervisor);
  if (!findChromium(settings)) missing.push(needs.chromium);
  if (!settings.ffmpegPath && !findFfmpeg()) missing.push(needs.ffmpeg);
  if (settings.fullBrowser && !findFullBrowser()) missing.push(needs.fullBrowser);
  if (settings.pooler && !findPooler()) missing.push(needs.pooler);
  return missing;
}

/**
 * Installs missing programs. Asks before on a terminal.
 *
 * @param {Parameters<typeof missingPrograms>[0]} settings
 * @param {{ yes: boolean, log: string, step: typeof import('./console.mjs').step }} options
 */
export async function ensureSystemPackages(settings, { yes, log, step }) {
  const missing = missingPrograms(settings);
  if (missing.length === 0) return step('system packages', ({ note }) => note('all there'));

  if (!which(['apt-get'])) {
    throw new SetupError(
      `This system (${systemName()}) has no apt-get, so please ${list(missing.map((need) => need.otherwise))}. Then start again.`,
    );
  }
  const names = missing.map((need) => need.name).join(', ');
  const command = `apt-get install --no-install-recommends ${missing.map((need) => need.packages[0]).join(' ')}`;
  const interactive = Boolean(process.stdin.isTTY && process.stdout.isTTY);
  if (interactive && !yes) {
    say(
      `Missing on this system: ${names}. To install them (their own services are not started):\n  ${command}`,
    );
    if (!(await confirm('Do it now?')))
      throw new SetupError(`Nothing was installed. Start again and say yes, or run: ${command}`);
  }
  const prefix = await asRoot(interactive, `Missing on this system: ${names}.`, command);

  await step('system packages', async ({ note }) => {
    let packages = await candidates(missing);
    if (packages.some((name) => !name)) {
      note('apt-get update');
      await tryRun([...prefix, 'apt-get', 'update'], { log });
      packages = await candidates(missing);
    }
    const impossible = missing.filter((_, n) => !packages[n]);
    if (impossible.length > 0) {
      throw new SetupError(
        `apt has no package here (${systemName()}) for ${impossible.map((need) => need.name).join(' and ')}: please ${list(impossible.map((need) => need.otherwise))}. Then start again.`,
      );
    }
    note(packages.join(' '));
    const script = fileURLToPath(new URL('install-packages.sh', import.meta.url));
    await run([...prefix, 'sh', script, ...packages.map(String)], {
      log,
      failure: `apt-get could not install ${packages.join(' ')}. See the lines above and ${log}, fix it, and start again.`,
      onLine: (line) => {
        const [, what] = /^(?:Get:\d+|Unpacking|Setting up) (\S+)/.exec(line) ?? [];
        if (what) note(line);
      },
    });
    note(`installed ${packages.join(' ')}`);
  });

  const still = missingPrograms(settings);
  if (still.length > 0) {
    throw new SetupError(
      `The packages are installed, but ${still.map((need) => need.name).join(' and ')} is not found: please ${list(still.map((need) => need.otherwise))}.`,
    );
  }
}

/**
 * The command prefix to become root: empty for root, sudo when it works.
 *
 * @param {boolean} interactive
 * @param {string} missing
 * @param {string} command
 * @returns {Promise<string[]>}
 */
async function asRoot(interactive, missing, command) {
  if (process.getuid?.() === 0) return [];
  const refused = (/** @type {string} */ why) =>
    new SetupError(`${missing} ${why}; ask an administrator to run: ${command}`);
  if (!which(['sudo'])) throw refused('Installing needs root and there is no sudo here');
  if ((await tryRun(['sudo', '-n', 'true'])).code === 0) return ['sudo', '-n'];
  if (!interactive)
    throw refused('sudo does not let this user in without a password; start in a terminal to type it');
  const { spawnSync } = await import('node:child_process');
  say('sudo asks for your password.');
  if (spawnSync('sudo', ['-v'], { stdio: 'inherit' }).status !== 0)
    throw refused('sudo did not let this user in');
  return ['sudo', '-n'];
}

/**
 * For each need, the first of its packages that apt can install.
 *
 * @param {readonly Need[]} missing
 */
async function candidates(missing) {
  const { stdout } = await tryRun(['apt-cache', 'policy', ...missing.flatMap((need) => need.packages)], {
    env: { ...process.env, LC_ALL: 'C' },
  });
  return missing.map((need) => need.packages.find((name) => hasCandidate(stdout, name)));
}

/**
 * @param {string} policy output of apt-cache policy
 * @param {string} name
 */
export function hasCandidate(policy, name) {
  const [, candidate = '(none)'] =
    new RegExp(`^${name}:\\n.*\\n\\s+Candidate: (.*)$`, 'm').exec(policy) ?? [];
  // Ubuntu's browser packages install the snap.
  return candidate !== '(none)' && !/snap/.test(candidate);
}

function systemName() {
  try {
    return /^PRETTY_NAME="?([^"\n]+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? process.platform;
  } catch {
    return process.platform;
  }
}

/** @param {readonly string[]} items */
const list = (items) => items.join('; ');
