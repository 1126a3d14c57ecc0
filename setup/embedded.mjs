/**
 * Prepares the private PostgreSQL and Redis of the embedded default. supervisord runs them (supervisor/data.conf).
 */
import { createHash } from 'node:crypto';
import {
  accessSync,
  appendFileSync,
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
import { userNamed } from './programs-user.mjs';
import { dataUrls } from './settings.mjs';
import { findRedis, postgresDirectories } from './system-packages.mjs';

/** @typedef {import('./settings.mjs').Settings} Settings */

/** Kept between starts. @typedef {{ postgresData?: string, passwordHash?: string }} State */

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
 * The user that runs PostgreSQL: `postgres` when this user is root, which PostgreSQL refuses; otherwise this user.
 *
 * @returns {{ user: string, uid?: number, gid?: number }}
 */
function postgresOwner() {
  if (process.getuid?.() !== 0) return { user: userInfo().username };
  const owner = userNamed('postgres');
  if (!owner) {
    throw new SetupError(
      'PostgreSQL does not run as root and this system has no user "postgres". Create it (useradd --system postgres), or start as another user.',
    );
  }
  return owner;
}

/**
 * The directory of the database files: in the var directory, or in /var/lib when this user is root and `postgres` cannot
 * reach the var directory.
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
 * Makes the database files when they do not exist.
 *
 * @param {Settings} settings
 * @param {import('./console.mjs').Step} step
 * @param {{ durable?: boolean }} [options] not durable: new database files may be lost when the machine crashes, and PostgreSQL
 *   spends no time on the disk
 * @returns {Promise<{ POSTGRES: string, POSTGRES_DATA: string, POSTGRES_PORT: number, POSTGRES_USER: string }>} for data.conf
 */
export async function preparePostgres(settings, step, { durable = true } = {}) {
  const owner = postgresOwner();
  const data = await placeForPostgres(settings, owner);
  const programs = postgresPrograms(data);
  const passwordHash = createHash('sha256').update(settings.embeddedPassword).digest('hex');

  if (!existsSync(join(data, 'PG_VERSION'))) {
    step.note('new database');
    await initialise(data, programs, owner, settings.embeddedPassword);
    if (!durable) appendFileSync(join(data, 'postgresql.conf'), 'fsync = off\nfull_page_writes = off\n');
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

/** The directory of the server programs that fit these database files. @param {string} data */
function postgresPrograms(data) {
  const [newest, ...older] = postgresDirectories();
  if (!newest) {
    throw new SetupError(
      'PostgreSQL is not installed. Install the package postgresql, or set DATABASE_URL in .env to your own server.',
    );
  }
  const versionFile = join(data, 'PG_VERSION');
  if (!existsSync(versionFile)) return newest;
  const version = readFileSync(versionFile, 'utf8').trim();
  // A directory without a version in its path may have any version.
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
  rmSync(data, { recursive: true, force: true }); // without PG_VERSION the database is incomplete
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
 * Ends a PostgreSQL and a Redis with a killed supervisord, so that new ones can start. They are found by their directory,
 * because their process title overwrites their environment in /proc.
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
  // PostgreSQL does not start when another process has the pid in this file by now.
  rmSync(join(postgresData, 'postmaster.pid'), { force: true });
}

/**
 * Sets the password of a new `.env` in an old database, in PostgreSQL's single-user mode.
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
 * Makes the roles and the database in a running embedded PostgreSQL, when they do not exist.
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
    // PostgreSQL separates workspaces by this role. The programs may not make roles.
    "do $$ begin if not exists (select from pg_roles where rolname = 'flotilla_tenant') then create role flotilla_tenant nologin; end if; end $$",
    'grant flotilla_tenant to flotilla',
    "select 1 from pg_database where datname = 'flotilla'",
  ]);
  if (rows.length === 0) await query(url.href, ['create database flotilla owner flotilla']);
}

/**
 * Writes the configuration of Redis. Redis keeps nothing on disk, because everything in it can be made from PostgreSQL.
 *
 * @param {Settings} settings
 * @returns {{ REDIS: string, REDIS_DIR: string }} for data.conf
 */
export function prepareRedis(settings) {
  const program = findRedis();
  if (!program) {
    throw new SetupError(
      'Redis is not installed. Install the package redis-server or valkey-server, or set REDIS_URL in .env to your own server.',
    );
  }
  const directory = redisDirectory(settings);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const config = join(directory, 'redis.conf');
  writeFileSync(
    config,
    [
      '# npm start writes this file at every start: changes are lost.',
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
 * Removes the var directory of a temporary system, with database files outside it.
 *
 * @param {Settings} settings
 */
export function removeData(settings) {
  const { postgresData } = readState(settings);
  if (postgresData?.startsWith('/var/lib/flotilla/'))
    rmSync(dirname(postgresData), { recursive: true, force: true });
  rmSync(settings.varDir, { recursive: true, force: true });
}
