/**
 * The private PostgreSQL and Redis of the embedded default: made ready here, run by supervisord (supervisor/data.conf).
 */
import { createHash } from 'node:crypto';
import {
  accessSync,
  chmodSync,
  chownSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { SetupError } from './console.mjs';
import { query } from './connections.mjs';
import { parseJson } from './json.mjs';
import { endProcesses, parentOf, pidsWorkingIn, processName, run, tryRun } from './processes.mjs';
import { dataUrls } from './settings.mjs';
import { findRedis, postgresDirectories } from './system-packages.mjs';

/** @typedef {import('./settings.mjs').Settings} Settings */

/** What is remembered between starts. @typedef {{ postgresData?: string, passwordHash?: string }} State */

const stateFile = (/** @type {Settings} */ { varDir }) => join(varDir, 'embedded.json');

const redisDirectory = (/** @type {Settings} */ { varDir }) => join(varDir, 'redis');

/** @param {Settings} settings @returns {State} */
function readState(settings) {
  try {
    return /** @type {State} */ (parseJson(readFileSync(stateFile(settings), 'utf8')));
  } catch {
    return {};
  }
}

/** @param {Settings} settings @param {State} change */
function writeState(settings, change) {
  writeFileSync(stateFile(settings), `${JSON.stringify({ ...readState(settings), ...change }, null, 2)}\n`, {
    mode: 0o600,
  });
}

/**
 * Who PostgreSQL runs as: `postgres` when we are root (it refuses root), ourselves otherwise.
 *
 * @returns {{ user: string, uid?: number, gid?: number }}
 */
function postgresOwner() {
  if (process.getuid?.() !== 0) return { user: userInfo().username };
  const entry = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((line) => line.startsWith('postgres:'))
    ?.split(':');
  if (!entry) {
    throw new SetupError(
      'PostgreSQL does not run as root and this system has no user "postgres". Create it (useradd --system postgres), or start as another user.',
    );
  }
  return { user: 'postgres', uid: Number(entry[2]), gid: Number(entry[3]) };
}

/**
 * Where the database files are: under the var directory, or under /var/lib when we are root and `postgres` cannot get there.
 *
 * @param {Settings} settings
 * @param {ReturnType<typeof postgresOwner>} owner
 */
async function placeForPostgres(settings, owner) {
  const known = readState(settings).postgresData;
  if (known && existsSync(join(known, 'PG_VERSION'))) return known;

  let place = join(settings.varDir, 'postgres');
  if (owner.uid !== undefined && !(await canReach(settings.varDir, owner))) {
    const hash = createHash('sha256').update(settings.varDir).digest('hex').slice(0, 12);
    place = `/var/lib/flotilla/${hash}/postgres`;
    mkdirSync(dirname(place), { recursive: true, mode: 0o755 });
  }
  writeState(settings, { postgresData: place });
  return place;
}

/**
 * @param {string} directory
 * @param {ReturnType<typeof postgresOwner>} owner
 */
async function canReach(directory, { uid, gid }) {
  const { code } = await tryRun(['/bin/sh', '-c', 'cd "$0"', directory], { uid, gid, cwd: '/' });
  return code === 0;
}

/**
 * Makes the database files when there are none yet.
 *
 * @param {Settings} settings
 * @param {import('./console.mjs').Step} step
 * @returns {Promise<{ POSTGRES: string, POSTGRES_DATA: string, POSTGRES_PORT: number, POSTGRES_USER: string }>} for data.conf
 */
export async function preparePostgres(settings, step) {
  const owner = postgresOwner();
  const data = await placeForPostgres(settings, owner);
  const programs = postgresPrograms(data);
  const passwordHash = createHash('sha256').update(settings.embeddedPassword).digest('hex');

  if (!existsSync(join(data, 'PG_VERSION'))) {
    step.note('new database');
    await initialise(data, programs, owner, settings.embeddedPassword);
    writeState(settings, { passwordHash });
  } else {
    checkOwner(data);
    if (readState(settings).passwordHash !== passwordHash) {
      step.note('new password');
      await changePassword(data, programs, owner, settings.embeddedPassword);
      writeState(settings, { passwordHash });
    }
  }
  return {
    POSTGRES: `${programs}/postgres`,
    POSTGRES_DATA: data,
    POSTGRES_PORT: settings.embeddedPostgresPort,
    POSTGRES_USER: owner.user,
  };
}

/** The directory of server programs that can run these files. @param {string} data */
function postgresPrograms(data) {
  const [newest, ...older] = postgresDirectories();
  if (!newest) {
    throw new SetupError(
      'PostgreSQL is not installed. Install the package postgresql, or set DATABASE_URL in .env to a server that you have.',
    );
  }
  const versionFile = join(data, 'PG_VERSION');
  if (!existsSync(versionFile)) return newest;
  const version = readFileSync(versionFile, 'utf8').trim();
  // A directory that does not name its version is taken at its word.
  const match = [newest, ...older].find(
    (directory) => directory.includes(`/${version}/`) || !/\/\d+\//.test(directory),
  );
  if (!match) {
    throw new SetupError(
      `The database in ${data} was made by PostgreSQL ${version}, which is no longer installed. Install postgresql-${version}, or move it to the new version with pg_upgrade.`,
    );
  }
  return match;
}

/** @param {string} data */
function checkOwner(data) {
  if (process.getuid?.() === 0) return;
  try {
    accessSync(data, constants.R_OK | constants.W_OK);
  } catch {
    throw new SetupError(
      `The database in ${data} belongs to another user, because Flotilla was started as root before. Start it with sudo again, or set another VAR_DIR in .env.`,
    );
  }
}

/**
 * @param {string} data
 * @param {string} programs
 * @param {ReturnType<typeof postgresOwner>} owner
 * @param {string} password
 */
async function initialise(data, programs, owner, password) {
  rmSync(data, { recursive: true, force: true }); // without PG_VERSION it is at most half a database
  mkdirSync(data, { recursive: true, mode: 0o700 });
  const passwordFile = join(dirname(data), `.initdb-${process.pid}`);
  try {
    writeFileSync(passwordFile, password, { mode: 0o600 });
    if (owner.uid !== undefined && owner.gid !== undefined) {
      chownSync(data, owner.uid, owner.gid);
      chownSync(passwordFile, owner.uid, owner.gid);
    }
    await run(
      [
        `${programs}/initdb`,
        '-D',
        data,
        '-U',
        'postgres',
        '-E',
        'UTF8',
        '--locale=C.UTF-8',
        '--auth=scram-sha-256',
        `--pwfile=${passwordFile}`,
      ],
      {
        cwd: data,
        uid: owner.uid,
        gid: owner.gid,
        env: { ...process.env, LC_ALL: 'C.UTF-8', HOME: data },
        failure: `PostgreSQL could not make a database in ${data}. See the lines above; set VAR_DIR in .env to another place, or DATABASE_URL to another server.`,
      },
    );
  } catch (error) {
    if (readdirSync(data).length > 0) rmSync(data, { recursive: true, force: true });
    throw error;
  } finally {
    rmSync(passwordFile, { force: true });
  }
}

/**
 * Ends a PostgreSQL and a Redis whose supervisord was killed, so that new ones can start. They are found by their
 * directory: what they show of their environment is overwritten with their process title.
 *
 * @param {Settings} settings
 */
export async function endOrphans(settings) {
  const { postgresData } = readState(settings);
  const servers = pidsWorkingIn(redisDirectory(settings)).filter((pid) =>
    /^(redis|valkey)-server/.test(processName(pid)),
  );
  await endProcesses(servers, { graceMs: 15_000 });
  if (!postgresData) return;
  const backends = pidsWorkingIn(postgresData).filter((pid) => processName(pid).startsWith('postgres'));
  const postmasters = backends.filter((pid) => !backends.includes(parentOf(pid)));
  await endProcesses(postmasters, { first: 'SIGINT', graceMs: 30_000 });
  // With the number of a process that is gone, which another one may have by now, it would stop the next server.
  rmSync(join(postgresData, 'postmaster.pid'), { force: true });
}

/**
 * The `.env` was made anew, so that the database has another password: set in PostgreSQL's single-user mode.
 *
 * @param {string} data
 * @param {string} programs
 * @param {ReturnType<typeof postgresOwner>} owner
 * @param {string} password
 */
async function changePassword(data, programs, owner, password) {
  const literal = `'${password.replaceAll("'", "''")}'`;
  await run([`${programs}/postgres`, '--single', '-D', data, 'postgres'], {
    cwd: data,
    uid: owner.uid,
    gid: owner.gid,
    input: `alter role postgres password ${literal}\ndo $$ begin if exists (select from pg_roles where rolname = 'flotilla') then alter role flotilla password ${literal}; end if; end $$\n`,
    failure: `PostgreSQL could not take the new EMBEDDED_PASSWORD for ${data}. Put the old one back into .env.`,
  });
}

/**
 * The role and the database of a running embedded PostgreSQL.
 *
 * @param {Settings} settings
 */
export async function ensureDatabase(settings) {
  const url = new URL(dataUrls(settings).database);
  url.username = 'postgres';
  url.pathname = '/postgres';
  const literal = `'${settings.embeddedPassword.replaceAll("'", "''")}'`;
  const rows = await query(url.href, [
    `do $$ begin if not exists (select from pg_roles where rolname = 'flotilla') then create role flotilla login createdb password ${literal}; end if; end $$`,
    // The role by which PostgreSQL keeps workspaces apart: making roles is not for the programs themselves.
    "do $$ begin if not exists (select from pg_roles where rolname = 'flotilla_tenant') then create role flotilla_tenant nologin; end if; end $$",
    'grant flotilla_tenant to flotilla',
    "select 1 from pg_database where datname = 'flotilla'",
  ]);
  if (rows.length === 0) await query(url.href, ['create database flotilla owner flotilla']);
}

/**
 * Redis holds only what can be made again from PostgreSQL, so nothing of it is kept on disk.
 *
 * @param {Settings} settings
 * @returns {{ REDIS: string, REDIS_DIR: string }} for data.conf
 */
export function prepareRedis(settings) {
  const program = findRedis();
  if (!program) {
    throw new SetupError(
      'Redis is not installed. Install the package redis-server or valkey-server, or set REDIS_URL in .env to a server that you have.',
    );
  }
  const directory = redisDirectory(settings);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const config = join(directory, 'redis.conf');
  writeFileSync(
    config,
    [
      '# Written by npm start at every start; change nothing here.',
      'bind 127.0.0.1',
      `port ${settings.embeddedRedisPort}`,
      `requirepass ${settings.embeddedPassword}`,
      'daemonize no',
      'save ""',
      'appendonly no',
      'maxmemory-policy noeviction',
      `dir "${directory}"`,
      '',
    ].join('\n'),
    { mode: 0o600 },
  );
  chmodSync(config, 0o600);
  return { REDIS: program, REDIS_DIR: directory };
}

/**
 * Removes the database files that lie outside the var directory, with the var directory itself: for temporary systems.
 *
 * @param {Settings} settings
 */
export function removeData(settings) {
  const { postgresData } = readState(settings);
  if (postgresData?.startsWith('/var/lib/flotilla/'))
    rmSync(dirname(postgresData), { recursive: true, force: true });
  rmSync(settings.varDir, { recursive: true, force: true });
}
