/**
 * The settings for set-up, from the environment, the `.env` and the defaults, in this order. The programs read theirs in
 * `src/platform/config` in the same order.
 */
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SetupError } from './console.mjs';
import { envFilePath, readEnvFile } from './env-file.mjs';
import { isExecutable, which } from './processes.mjs';

/** The directory of the checkout. */
export const PROJECT = dirname(dirname(fileURLToPath(import.meta.url)));

/** The programs of a server in the order of their start. They stop in the reverse order. */
export const PROGRAMS = ['sandbox', 'instance', 'worker', 'scheduler', 'api'];

export const CHROMIUM_NAMES = ['chromium-headless-shell', 'chromium', 'google-chrome'];

/** @typedef {ReturnType<typeof readSettings>} Settings */

/** @param {{ project?: string, environment?: NodeJS.ProcessEnv }} [options] */
export function readSettings({ project = PROJECT, environment = process.env } = {}) {
  const envFile = envFilePath(project, environment);
  const fromFile = readEnvFile(envFile);
  const text = (/** @type {string} */ name, fallback = '') => environment[name] || fromFile[name] || fallback;
  const number = (/** @type {string} */ name, /** @type {number} */ fallback, min = 1, max = 65_535) => {
    const raw = text(name, String(fallback));
    const value = Number(raw);
    if (!Number.isInteger(value) || value < min || value > max) {
      const where = environment[name] ? 'in the environment' : `in ${envFile}`;
      throw new SetupError(`${name} is "${raw}" ${where}: set it to a whole number from ${min} to ${max}.`);
    }
    return value;
  };

  /**
   * @template {string} Value
   * @param {string} name
   * @param {readonly [Value, ...Value[]]} values the first is the default
   */
  const oneOf = (name, values) => {
    const raw = text(name, values[0]);
    const value = values.find((possible) => possible === raw);
    if (!value) throw new SetupError(`${name} is "${raw}": set it to ${values.join(', ')}.`);
    return value;
  };
  // As in src/platform/config/config.ts.
  const hasSandbox = /^(true|1|yes|on|y|enabled)$/i.test(
    text('SANDBOX', String(text('NODE_ENV', 'production') !== 'production')),
  );

  return {
    project,
    envFile,
    programs: programsOf(text('PROGRAMS', PROGRAMS.join(',')), 'PROGRAMS').filter(
      (name) => name !== 'sandbox' || hasSandbox,
    ),
    hasSandbox,
    varDir: resolve(project, text('VAR_DIR', 'var')),
    host: text('HOST', '127.0.0.1'),
    port: number('PORT', 3000),
    databaseUrl: text('DATABASE_URL'),
    redisUrl: text('REDIS_URL'),
    redisCaFile: text('REDIS_CA_FILE') && resolve(project, text('REDIS_CA_FILE')),
    embeddedPostgresPort: number('EMBEDDED_POSTGRES_PORT', 54_320),
    embeddedRedisPort: number('EMBEDDED_REDIS_PORT', 63_790),
    embeddedPassword: text('EMBEDDED_PASSWORD'),
    instances: number('INSTANCES', 4, 0, 1000),
    instanceBasePort: number('INSTANCE_BASE_PORT', 3001),
    workers: number('WORKERS', 1, 0, 1000),
    sandboxPort: number('SANDBOX_PORT', 8443),
    sandboxControlPort: number('SANDBOX_CONTROL_PORT', 3090),
    chromiumPath: text('CHROMIUM_PATH'),
    ffmpegPath: text('FFMPEG_PATH'),
    browserSandbox: oneOf('BROWSER_SANDBOX', /** @type {const} */ (['auto', 'on', 'off'])),
    mediaPath: resolve(project, text('MEDIA_PATH') || join(text('VAR_DIR', 'var'), 'media')),
    /** The environment for programs: the caller's without the variables of npm. */
    environment: Object.fromEntries(
      Object.entries(environment).filter(([name]) => !/^npm_/i.test(name) && name !== 'INIT_CWD'),
    ),
  };
}

/**
 * Parses a list of programs.
 *
 * @param {string} list
 * @param {string} source named in the error
 */
export function programsOf(list, source) {
  const names = list
    .split(',')
    .map((name) => name.trim())
    .filter(Boolean);
  const unknown = names.find((name) => !PROGRAMS.includes(name));
  if (unknown) throw new SetupError(`${source} names "${unknown}": there is ${PROGRAMS.join(', ')}.`);
  return PROGRAMS.filter((name) => names.includes(name));
}

/**
 * The browser for instances.
 *
 * @param {Pick<Settings, 'chromiumPath'>} settings
 * @returns {string | undefined}
 */
export function findChromium({ chromiumPath }) {
  if (!chromiumPath) return which(CHROMIUM_NAMES);
  if (!isExecutable(chromiumPath)) {
    throw new SetupError(
      `CHROMIUM_PATH is ${chromiumPath}, which is not a program. Correct it, or leave it empty to use the one on the PATH.`,
    );
  }
  return chromiumPath;
}

/**
 * The URLs of PostgreSQL and Redis: configured or embedded.
 *
 * @param {Settings} settings
 */
export function dataUrls(settings) {
  const { embeddedPassword, embeddedPostgresPort, embeddedRedisPort } = settings;
  const password = encodeURIComponent(embeddedPassword);
  return {
    database:
      settings.databaseUrl || `postgresql://flotilla:${password}@127.0.0.1:${embeddedPostgresPort}/flotilla`,
    redis: settings.redisUrl || `redis://:${password}@127.0.0.1:${embeddedRedisPort}`,
  };
}

/**
 * The URLs of the programs.
 *
 * @param {Settings} settings
 */
export function urls(settings) {
  const instances = settings.programs.includes('instance') ? settings.instances : 0;
  const host = { '0.0.0.0': '127.0.0.1', '::': '[::1]' }[settings.host] ?? settings.host;
  return {
    api: `http://${host}:${settings.port}`,
    sandbox: `http://127.0.0.1:${settings.sandboxControlPort}`,
    instances: Array.from(
      { length: instances },
      (_, n) => `http://127.0.0.1:${settings.instanceBasePort + n}`,
    ),
  };
}
