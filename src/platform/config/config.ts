import { existsSync, readFileSync } from 'node:fs';
import { accessSync, constants } from 'node:fs';
import { hostname } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { parseEnv } from 'node:util';
import { z } from 'zod';

/** The checkout: this file is `src/platform/config/config.ts`, or the same below `dist/`. */
export const projectRoot = findProjectRoot(import.meta.dirname);

function findProjectRoot(from: string): string {
  return existsSync(join(from, 'package.json')) ? from : findProjectRoot(resolve(from, '..'));
}

const port = (fallback: number) => z.coerce.number().int().min(0).max(65_535).default(fallback);
const milliseconds = (fallback: number) => z.coerce.number().int().min(1).max(86_400_000).default(fallback);
const optional = z.preprocess((value) => (value === '' ? undefined : value), z.string().optional());
const secret = (minimum: number) =>
  z.string({ error: 'is missing' }).min(minimum, `must have at least ${minimum} characters`);

/** Every environment variable that Flotilla reads. `.env.example` says what each is for. */
const environmentSchema = z.object({
  NODE_ENV: z.enum(['production', 'development', 'test']).default('production'),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
  HOST: z.string().min(1).default('127.0.0.1'),
  PORT: port(3000),

  DATABASE_URL: optional,
  REDIS_URL: optional,
  EMBEDDED_PASSWORD: z.string().default(''),
  EMBEDDED_POSTGRES_PORT: port(54_320),
  EMBEDDED_REDIS_PORT: port(63_790),
  DATABASE_POOL_SIZE: z.coerce.number().int().min(2).max(200).default(10),

  ADMIN_API_KEY: secret(16),
  INTERNAL_API_KEY: secret(16),
  APP_KEY: secret(32),

  SERVER_ID: optional,
  SERVER_MAX_CAPACITY: z.coerce.number().int().min(0).max(100_000).default(200),
  INSTANCES: z.coerce.number().int().min(1).max(100).default(4),
  INSTANCE_BASE_PORT: port(3001),
  INSTANCE_NUMBER: z.coerce.number().int().min(0).max(99).default(0),
  INSTANCE_MAX_ACCOUNTS: z.coerce.number().int().min(1).max(1000).default(50),
  INSTANCE_LEASE_MS: milliseconds(10_000),
  ROUTER_SHARD_SIZE: z.coerce.number().int().min(1).max(1000).default(4),

  WORKERS: z.coerce.number().int().min(1).max(100).default(1),
  WORKER_NAME: z.string().min(1).default('worker_00'),
  WORKER_CONCURRENCY: z.coerce.number().int().min(1).max(500).default(32),

  CHROMIUM_PATH: optional,
  SESSION_START_CONCURRENCY: z.coerce.number().int().min(1).max(50).default(2),
  SESSION_START_TIMEOUT_MS: milliseconds(90_000),
  QR_TIMEOUT_MS: milliseconds(300_000),
  SEND_TIMEOUT_MS: milliseconds(20_000),

  SANDBOX_HOST: z.string().min(1).default('127.0.0.1'),
  SANDBOX_PORT: port(8443),
  SANDBOX_CONTROL_PORT: port(3090),

  VAR_DIR: optional,
});

type Environment = z.infer<typeof environmentSchema>;

/** The settings of this process: typed, validated, complete. Durations are milliseconds. */
export type Config = ReturnType<typeof toConfig>;

/** The configuration cannot be used; `message` says which variable is wrong and what it must be. */
export class InvalidConfiguration extends Error {
  override name = 'InvalidConfiguration';
}

/**
 * Reads the environment, and the file that `ENV_FILE` names (default: `.env` of the project; `none` reads none).
 * A variable of the real environment wins over the file.
 * @throws InvalidConfiguration naming every variable that is wrong.
 */
export function loadConfig(environment: NodeJS.ProcessEnv = process.env): Config {
  const envFile =
    environment.ENV_FILE === 'none' ? null : (environment.ENV_FILE ?? join(projectRoot, '.env'));
  const parsed = environmentSchema.safeParse({ ...readEnvFile(envFile), ...environment });
  if (parsed.success) return toConfig(parsed.data, envFile);
  const problems = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  throw new InvalidConfiguration(
    `The configuration is not usable: ${problems.join('; ')}. Set it in .env (see .env.example), or run npm start, which writes one.`,
  );
}

function readEnvFile(path: string | null): Record<string, string | undefined> {
  if (path === null || !existsSync(path)) return {};
  return parseEnv(readFileSync(path, 'utf8'));
}

/** The version of this build. */
const { version } = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8')) as {
  version: string;
};

function toConfig(env: Environment, envFile: string | null) {
  const varDir = resolve(projectRoot, env.VAR_DIR ?? 'var');
  const serverId = env.SERVER_ID ?? hostname();
  return {
    version,
    /** Where settings were read from; null when from the environment alone. */
    envFile,
    environment: env.NODE_ENV,
    logLevel: env.LOG_LEVEL,
    http: { host: env.HOST, port: env.PORT },
    database: {
      url:
        env.DATABASE_URL ??
        `postgresql://flotilla:${encodeURIComponent(env.EMBEDDED_PASSWORD)}@127.0.0.1:${env.EMBEDDED_POSTGRES_PORT}/flotilla`,
      poolSize: env.DATABASE_POOL_SIZE,
    },
    redis: {
      url:
        env.REDIS_URL ??
        `redis://:${encodeURIComponent(env.EMBEDDED_PASSWORD)}@127.0.0.1:${env.EMBEDDED_REDIS_PORT}`,
    },
    adminApiKey: env.ADMIN_API_KEY,
    internalApiKey: env.INTERNAL_API_KEY,
    appKey: env.APP_KEY,
    server: { id: serverId, maxCapacity: env.SERVER_MAX_CAPACITY },
    instance: {
      id: `${serverId}.instance_${String(env.INSTANCE_NUMBER).padStart(2, '0')}`,
      count: env.INSTANCES,
      host: env.HOST,
      // Where the other programs reach it: an address to listen on at every interface is none to call.
      url: `http://${env.HOST === '0.0.0.0' ? hostname() : env.HOST}:${env.INSTANCE_BASE_PORT + env.INSTANCE_NUMBER}`,
      port: env.INSTANCE_BASE_PORT + env.INSTANCE_NUMBER,
      maxAccounts: env.INSTANCE_MAX_ACCOUNTS,
      leaseMs: env.INSTANCE_LEASE_MS,
    },
    router: { shardSize: env.ROUTER_SHARD_SIZE },
    worker: {
      name: `${serverId}.${env.WORKER_NAME}`,
      count: env.WORKERS,
      concurrency: env.WORKER_CONCURRENCY,
    },
    sessions: {
      dir: join(varDir, 'sessions'),
      chromiumPath: env.CHROMIUM_PATH ?? findBrowser(),
      startConcurrency: env.SESSION_START_CONCURRENCY,
      startTimeoutMs: env.SESSION_START_TIMEOUT_MS,
      qrTimeoutMs: env.QR_TIMEOUT_MS,
    },
    sendTimeoutMs: env.SEND_TIMEOUT_MS,
    sandbox: {
      host: env.SANDBOX_HOST,
      port: env.SANDBOX_PORT,
      controlPort: env.SANDBOX_CONTROL_PORT,
      controlUrl: `http://${env.SANDBOX_HOST}:${env.SANDBOX_CONTROL_PORT}`,
      dir: join(varDir, 'sandbox'),
    },
    varDir,
  };
}

/** The browsers that can drive WhatsApp Web, the leanest first (design: half the memory of the full one). */
const browserNames = [
  'chromium-headless-shell',
  'chromium',
  'google-chrome',
  'google-chrome-stable',
  'chromium-browser',
];

function findBrowser(): string | null {
  const folders = (process.env.PATH ?? '').split(delimiter);
  for (const name of browserNames) {
    const found = folders.map((folder) => join(folder, name)).find(isExecutable);
    if (found) return found;
  }
  return null;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

const secretPaths = new Set(['adminApiKey', 'internalApiKey', 'appKey']);

/** The settings as `config:show` prints them: secrets and the passwords inside URLs are masked. */
export function maskConfig(config: Config): Record<string, unknown> {
  const mask = (value: unknown, key = ''): unknown => {
    if (secretPaths.has(key)) return '********';
    if (key === 'url' && typeof value === 'string')
      return value.replace(/:\/\/([^:@/]*):[^@/]*@/, '://$1:********@');
    if (value === null || typeof value !== 'object') return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, mask(inner, name)]));
  };
  return mask(config) as Record<string, unknown>;
}
