import { existsSync, readFileSync } from 'node:fs';
import { accessSync, constants } from 'node:fs';
import { availableParallelism, hostname } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { parseEnv } from 'node:util';
import { z } from 'zod';
import { isAddressOrRange, isAddressRange } from '../http/public-address.js';
import { resolveServerId } from './server-id.js';

/** The checkout: this file is `src/platform/config/config.ts`, or the same below `dist/`. */
export const projectRoot = findProjectRoot(import.meta.dirname);

function findProjectRoot(from: string): string {
  return existsSync(join(from, 'package.json')) ? from : findProjectRoot(resolve(from, '..'));
}

const port = (fallback: number) => z.coerce.number().int().min(0).max(65_535).default(fallback);
const milliseconds = (fallback: number) => z.coerce.number().int().min(1).max(86_400_000).default(fallback);
const optional = z.preprocess((value) => (value === '' ? undefined : value), z.string().optional());
const optionalInteger = (min: number, max: number) =>
  z.preprocess(
    (value) => (value === '' ? undefined : value),
    z.coerce.number().int().min(min).max(max).optional(),
  );
const optionalUrl = z.preprocess(
  (value) => (value === '' ? undefined : value),
  z.url({ protocol: /^https?$/, error: 'must be an http or https URL' }).optional(),
);
const perMinute = (fallback: number) => z.coerce.number().int().min(0).max(100_000_000).default(fallback);
/** Texts with commas between them; an empty one has none. */
const commaList = (fallback = '') =>
  z
    .string()
    .default(fallback)
    .transform((text) => itemsOf(text));
const secret = (minimum: number) =>
  z.string({ error: 'is missing' }).min(minimum, `must have at least ${minimum} characters`);

const everyAddress = '0.0.0.0/0,::/0';
const addressRanges = z
  .preprocess((text) => (text === 'true' ? everyAddress : text), commaList())
  .refine((ranges) => ranges.every(isAddressRange), 'must be ranges such as 10.0.0.0/8, separated by commas');

/** Every environment variable that Flotilla reads. `.env.example` says what each is for. */
const environmentSchema = z
  .object({
    NODE_ENV: z.enum(['production', 'development', 'test']).default('production'),
    LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
    HOST: z.string().min(1).default('127.0.0.1'),
    PORT: port(3000),
    TRUSTED_PROXIES: commaList('loopback').refine((proxies) => proxies.every(isProxy), {
      error:
        'must be addresses, ranges (10.0.0.0/8), loopback, linklocal or uniquelocal, with commas between them; empty for none',
    }),
    CORS_ORIGINS: commaList().refine((origins) => origins.every(isOrigin), {
      error:
        'must be origins such as https://app.example.com, with commas between them, without a path; a * is not taken: name who may',
    }),
    RATE_LIMIT_PER_KEY: perMinute(30_000),
    RATE_LIMIT_PER_IP: perMinute(60),
    EVENT_STREAMS_PER_WORKSPACE: z.coerce.number().int().min(1).max(100_000).default(100),
    HEADERS_TIMEOUT_MS: milliseconds(10_000),
    REQUEST_TIMEOUT_MS: milliseconds(300_000),
    DOCS_ACCESS: z.preprocess(
      (value) => (value === '' ? undefined : value),
      z.enum(['public', 'admin']).optional(),
    ),
    METRICS_TOKEN: z.preprocess((value) => (value === '' ? undefined : value), secret(16).optional()),

    DATABASE_URL: optional,
    REDIS_URL: optional,
    EMBEDDED_PASSWORD: z.string().default(''),
    EMBEDDED_POSTGRES_PORT: port(54_320),
    EMBEDDED_REDIS_PORT: port(63_790),
    DATABASE_POOL_SIZE: z.coerce.number().int().min(2).max(200).default(10),

    ADMIN_API_KEY: secret(16),
    INTERNAL_API_KEY: secret(16),
    APP_KEY: secret(32),
    APP_PREVIOUS_KEYS: commaList().pipe(z.array(secret(32))),

    SERVER_ID: optional,
    RAILWAY_STATIC_URL: optional,
    RAILWAY_SERVICE_NAME: optional,
    HOSTNAME: optional,
    SERVER_NAME: optional,
    SERVER_TYPE: optional,
    SERVER_REGION: optional,
    SERVER_ENVIRONMENT: optional,
    SERVER_LOCATION: optional,
    SERVER_TAGS: optional,
    SERVER_URL: optionalUrl,
    SERVER_MAX_CAPACITY: optionalInteger(1, 100_000),
    SERVER_PRIORITY: optionalInteger(-1000, 1000),
    SERVER_WEIGHT: optionalInteger(1, 1000),
    INSTANCES: z.coerce.number().int().min(1).max(100).default(4),
    INSTANCE_BASE_PORT: port(3001),
    INSTANCE_NUMBER: z.coerce.number().int().min(0).max(99).default(0),
    INSTANCE_MAX_ACCOUNTS: z.coerce.number().int().min(1).max(1000).default(50),
    INSTANCE_HOST: optional,
    INSTANCE_BIND_HOST: optional,
    INSTANCE_LEASE_MS: milliseconds(10_000),
    INSTANCE_RENEW_MS: milliseconds(2_000),
    // Closing takes a second, and the guardian kills a second before the end.
    INSTANCE_STOP_MARGIN_MS: z.coerce.number().int().min(2_000).max(60_000).default(3_000),
    INSTANCE_TAKEOVER_MARGIN_MS: milliseconds(3_000),
    INSTANCE_RESTART_GRACE_MS: milliseconds(15_000),
    INSTANCE_STAGGER_MS: z.coerce.number().int().min(0).max(60_000).default(500),
    MOVES_AT_ONCE: z.coerce.number().int().min(1).max(100).default(4),
    STATS_INTERVAL_MS: milliseconds(60_000),
    ROUTER_SHARD_SIZE: z.coerce.number().int().min(1).max(1000).default(4),
    ROUTER_SHARD_TOLERANCE: z.coerce.number().int().min(0).max(1000).default(0),

    WORKERS: z.coerce.number().int().min(1).max(100).default(1),
    WORKER_NAME: z.string().min(1).default('worker_00'),
    WORKER_CONCURRENCY: z.coerce.number().int().min(1).max(500).default(32),
    CAMPAIGN_SHARE: z.coerce.number().min(0).max(0.5).default(0.05),

    CHROMIUM_PATH: optional,
    SESSION_START_CONCURRENCY: z.coerce
      .number()
      .int()
      .min(1)
      .max(50)
      .default(2 * availableParallelism()),
    SESSION_LAUNCH_TIMEOUT_MS: milliseconds(30_000),
    SESSION_LOAD_TIMEOUT_MS: milliseconds(60_000),
    SESSION_SYNC_TIMEOUT_MS: milliseconds(90_000),
    SESSION_STORE: z.enum(['local', 'postgres']).default('local'),
    SESSION_SNAPSHOT_DELAY_MS: milliseconds(10_000),
    SESSION_SNAPSHOT_INTERVAL_MS: milliseconds(300_000),
    SESSION_SNAPSHOT_MAX_MB: z.coerce.number().int().min(1).max(900).default(256),
    ACCOUNT_MEMORY_BUDGET_MB: z.coerce.number().int().min(64).max(100_000).default(800),
    QR_TIMEOUT_MS: milliseconds(300_000),
    ACK_TIMEOUT_MS: milliseconds(10_000),

    SANDBOX_HOST: z.string().min(1).default('127.0.0.1'),
    SANDBOX_PORT: port(8443),
    SANDBOX_CONTROL_PORT: port(3090),

    ALLOW_PRIVATE_ADDRESSES: addressRanges,

    MEDIA_PATH: optional,
    MEDIA_MAX_BYTES: z.coerce
      .number()
      .int()
      .min(1_024)
      .max(2 * 2 ** 30)
      .default(64 * 2 ** 20),
    MEDIA_RETENTION_DAYS: z.coerce.number().int().min(0).max(36_500).default(90),
    MEDIA_FETCH_TIMEOUT_MS: z.coerce.number().int().min(1_000).max(60_000).default(15_000),
    MEDIA_S3_BUCKET: optional,
    MEDIA_S3_ENDPOINT: optionalUrl,
    MEDIA_S3_REGION: z.string().min(1).default('us-east-1'),
    MEDIA_S3_ACCESS_KEY_ID: optional,
    MEDIA_S3_SECRET_ACCESS_KEY: optional,
    MEDIA_S3_FORCE_PATH_STYLE: z.preprocess(
      (value) => (value === '' ? undefined : value),
      z.stringbool().optional(),
    ),

    VAR_DIR: optional,
  })
  .refine((env) => env.NODE_ENV !== 'production' || !env.ALLOW_PRIVATE_ADDRESSES.some(isEveryAddress), {
    path: ['ALLOW_PRIVATE_ADDRESSES'],
    error: 'must name the ranges in production; true is for development',
  })
  .refine(
    (env) =>
      env.MEDIA_S3_BUCKET === undefined ||
      (env.MEDIA_S3_ACCESS_KEY_ID !== undefined && env.MEDIA_S3_SECRET_ACCESS_KEY !== undefined),
    {
      path: ['MEDIA_S3_BUCKET'],
      error: 'needs MEDIA_S3_ACCESS_KEY_ID and MEDIA_S3_SECRET_ACCESS_KEY beside it',
    },
  )
  .refine((env) => env.INSTANCE_RENEW_MS * 2 + env.INSTANCE_STOP_MARGIN_MS <= env.INSTANCE_LEASE_MS, {
    path: ['INSTANCE_LEASE_MS'],
    error:
      'must be at least twice INSTANCE_RENEW_MS plus INSTANCE_STOP_MARGIN_MS, or one late renewal stops everything',
  })
  .refine((env) => env.INSTANCE_TAKEOVER_MARGIN_MS > env.INSTANCE_RENEW_MS, {
    path: ['INSTANCE_TAKEOVER_MARGIN_MS'],
    error:
      'must be longer than INSTANCE_RENEW_MS, or a database that was away for a moment moves every account',
  })
  .refine((env) => env.HEADERS_TIMEOUT_MS <= env.REQUEST_TIMEOUT_MS, {
    path: ['HEADERS_TIMEOUT_MS'],
    error: 'must not be longer than REQUEST_TIMEOUT_MS, which is for the whole request',
  });

function itemsOf(text: string): string[] {
  return text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');
}

function isEveryAddress(range: string): boolean {
  return /\/0+$/.test(range);
}

function isProxy(text: string): boolean {
  if (['loopback', 'linklocal', 'uniquelocal'].includes(text)) return true;
  // Of /0 everybody would be a proxy, and anybody could claim to be anybody.
  return isAddressOrRange(text) && !isEveryAddress(text);
}

function isOrigin(text: string): boolean {
  return /^https?:/.test(text) && URL.canParse(text) && new URL(text).origin === text;
}

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
  if (!parsed.success) {
    throw unusable(
      parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; '),
    );
  }
  const varDir = resolve(projectRoot, parsed.data.VAR_DIR ?? 'var');
  try {
    return toConfig(parsed.data, envFile, varDir, resolveServerId(parsed.data, varDir));
  } catch (error) {
    throw unusable((error as Error).message.replace(/\.$/, ''));
  }
}

function unusable(problem: string): InvalidConfiguration {
  return new InvalidConfiguration(
    `The configuration is not usable: ${problem}. Set it in .env (see .env.example), or run npm start, which writes one.`,
  );
}

/** Where the other programs reach an instance: an address to listen on at every interface is none to call. */
function callableHost({ INSTANCE_HOST, HOST }: Environment): string {
  const host = INSTANCE_HOST ?? (HOST === '0.0.0.0' || HOST === '::' ? hostname() : HOST);
  return host.includes(':') ? `[${host}]` : host;
}

function readEnvFile(path: string | null): Record<string, string | undefined> {
  if (path === null || !existsSync(path)) return {};
  return parseEnv(readFileSync(path, 'utf8'));
}

/** The version of this build. */
export const { version } = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8')) as {
  version: string;
};

function toConfig(env: Environment, envFile: string | null, varDir: string, serverId: string) {
  return {
    version,
    /** Where settings were read from; null when from the environment alone. */
    envFile,
    environment: env.NODE_ENV,
    logLevel: env.LOG_LEVEL,
    http: {
      host: env.HOST,
      port: env.PORT,
      /** Whose `X-Forwarded-For` is believed. */
      trustedProxies: env.TRUSTED_PROXIES,
      /** Whose pages may call the API from a browser. */
      corsOrigins: env.CORS_ORIGINS,
      /** Requests a minute; 0 is without limit. */
      rateLimitPerKey: env.RATE_LIMIT_PER_KEY,
      eventStreamsPerWorkspace: env.EVENT_STREAMS_PER_WORKSPACE,
      /** Requests a minute from one address that carry no key, or a wrong one; 0 is without limit. */
      rateLimitPerAddress: env.RATE_LIMIT_PER_IP,
      headersTimeoutMs: env.HEADERS_TIMEOUT_MS,
      requestTimeoutMs: env.REQUEST_TIMEOUT_MS,
      /** Who may read `/docs` and `/openapi.json`. */
      docsAccess: env.DOCS_ACCESS ?? (env.NODE_ENV === 'production' ? 'admin' : 'public'),
    },
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
    /** Ranges of private addresses that URLs given by tenants may lead to. */
    allowedPrivateAddresses: env.ALLOW_PRIVATE_ADDRESSES as readonly string[],
    adminApiKey: env.ADMIN_API_KEY,
    internalApiKey: env.INTERNAL_API_KEY,
    appKey: env.APP_KEY,
    /** What was encrypted with these can still be read. */
    appPreviousKeys: env.APP_PREVIOUS_KEYS,
    /** Opens `/metrics`, and nothing else. */
    metricsToken: env.METRICS_TOKEN,
    /** What is not set here is left as it is in the row of this server. */
    server: {
      id: serverId,
      name: env.SERVER_NAME,
      type: env.SERVER_TYPE,
      region: env.SERVER_REGION,
      environment: env.SERVER_ENVIRONMENT,
      location: env.SERVER_LOCATION,
      tags: env.SERVER_TAGS === undefined ? undefined : itemsOf(env.SERVER_TAGS),
      url: env.SERVER_URL,
      maxCapacity: env.SERVER_MAX_CAPACITY,
      priority: env.SERVER_PRIORITY,
      weight: env.SERVER_WEIGHT,
    },
    instance: {
      id: `${serverId}.instance_${String(env.INSTANCE_NUMBER).padStart(2, '0')}`,
      count: env.INSTANCES,
      /** Where it listens. */
      host: env.INSTANCE_BIND_HOST ?? env.HOST,
      number: env.INSTANCE_NUMBER,
      url: `http://${callableHost(env)}:${env.INSTANCE_BASE_PORT + env.INSTANCE_NUMBER}`,
      port: env.INSTANCE_BASE_PORT + env.INSTANCE_NUMBER,
      maxAccounts: env.INSTANCE_MAX_ACCOUNTS,
      /** How long it owns its accounts after its last sign of life. */
      leaseMs: env.INSTANCE_LEASE_MS,
      renewMs: env.INSTANCE_RENEW_MS,
      /** How long before the end of its lease it stops driving. */
      stopMarginMs: env.INSTANCE_STOP_MARGIN_MS,
      /** How long after the end of a lease another may take over. */
      takeoverMarginMs: env.INSTANCE_TAKEOVER_MARGIN_MS,
      /** How long an instance that was stopped may take to come back before others get its accounts. */
      restartGraceMs: env.INSTANCE_RESTART_GRACE_MS,
      /** Between the instances of one server that start together. */
      staggerMs: env.INSTANCE_STAGGER_MS,
    },
    /** How many accounts are on their way to another instance at once. */
    movesAtOnce: env.MOVES_AT_ONCE,
    statsIntervalMs: env.STATS_INTERVAL_MS,
    router: {
      /** How many instances a workspace's accounts are to lie on. */
      shardSize: env.ROUTER_SHARD_SIZE,
      /** How many accounts more than the emptiest instance one of the shard may have before the shard is left. */
      shardTolerance: env.ROUTER_SHARD_TOLERANCE,
    },
    worker: {
      name: `${serverId}.${env.WORKER_NAME}`,
      count: env.WORKERS,
      concurrency: env.WORKER_CONCURRENCY,
      /** The part of the sends that campaigns get although more urgent messages wait; urgent ones are behind nobody. */
      campaignShare: env.CAMPAIGN_SHARE,
    },
    sessions: {
      dir: join(varDir, 'sessions'),
      chromiumPath: env.CHROMIUM_PATH ?? findBrowser(),
      startConcurrency: env.SESSION_START_CONCURRENCY,
      launchTimeoutMs: env.SESSION_LAUNCH_TIMEOUT_MS,
      loadTimeoutMs: env.SESSION_LOAD_TIMEOUT_MS,
      syncTimeoutMs: env.SESSION_SYNC_TIMEOUT_MS,
      store: env.SESSION_STORE,
      snapshotDelayMs: env.SESSION_SNAPSHOT_DELAY_MS,
      snapshotIntervalMs: env.SESSION_SNAPSHOT_INTERVAL_MS,
      snapshotMaxBytes: env.SESSION_SNAPSHOT_MAX_MB * 2 ** 20,
      memoryBudgetBytes: env.ACCOUNT_MEMORY_BUDGET_MB * 2 ** 20,
      qrTimeoutMs: env.QR_TIMEOUT_MS,
    },
    media: {
      /** The directory of the files, and of those that are on their way to a bucket. */
      path: resolve(projectRoot, env.MEDIA_PATH ?? join(varDir, 'media')),
      maxBytes: env.MEDIA_MAX_BYTES,
      /** How long media is kept after it was last used; null: for ever. */
      retentionMs: env.MEDIA_RETENTION_DAYS === 0 ? null : env.MEDIA_RETENTION_DAYS * 86_400_000,
      /** How long the download of a URL may take. */
      fetchTimeoutMs: env.MEDIA_FETCH_TIMEOUT_MS,
      /** Null: the files are kept on the disk. */
      s3:
        env.MEDIA_S3_BUCKET === undefined
          ? null
          : {
              bucket: env.MEDIA_S3_BUCKET,
              endpoint: env.MEDIA_S3_ENDPOINT ?? `https://s3.${env.MEDIA_S3_REGION}.amazonaws.com`,
              region: env.MEDIA_S3_REGION,
              accessKeyId: env.MEDIA_S3_ACCESS_KEY_ID!,
              secretAccessKey: env.MEDIA_S3_SECRET_ACCESS_KEY!,
              // Only Amazon gives every bucket a host name of its own.
              forcePathStyle: env.MEDIA_S3_FORCE_PATH_STYLE ?? env.MEDIA_S3_ENDPOINT !== undefined,
            },
    },
    /** How long a message that WhatsApp Web has may be without ack 1 before its connection is taken for dead. */
    ackTimeoutMs: env.ACK_TIMEOUT_MS,
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

/** The settings that are secret, wherever in {@link Config} they stand; beside them, the passwords in its URLs. */
const secretPaths = new Set([
  'adminApiKey',
  'internalApiKey',
  'appKey',
  'appPreviousKeys',
  'metricsToken',
  'secretAccessKey',
]);

/** Shorter ones are words: in a log they are masked only where a URL has its password. */
const shortestSecret = 12;

/** Every secret of the settings, for whoever has to keep them out of what he writes. */
export function secretsOf(config: Config): string[] {
  const found: string[] = [];
  const collect = (value: unknown, key = ''): void => {
    if (typeof value === 'string') {
      if (secretPaths.has(key)) found.push(value);
      else if (key === 'url' && URL.canParse(value)) {
        const { password } = new URL(value);
        found.push(password, decodeURIComponent(password));
      }
    } else if (Array.isArray(value)) value.forEach((item) => collect(item, key));
    else if (value !== null && typeof value === 'object')
      Object.entries(value).forEach(([name, inner]) => collect(inner, name));
  };
  collect(config);
  return [...new Set(found)].filter(({ length }) => length >= shortestSecret);
}

/** The settings as `config:show` prints them: secrets and the passwords inside URLs are masked. */
export function maskConfig(config: Config): Record<string, unknown> {
  const mask = (value: unknown, key = ''): unknown => {
    if (secretPaths.has(key)) return '********';
    if (key === 'url' && typeof value === 'string')
      return value.replace(/:\/\/([^:@/]*):[^@/]*@/, '://$1:********@');
    if (value === null || typeof value !== 'object') return value;
    if (Array.isArray(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, mask(inner, name)]));
  };
  return mask(config) as Record<string, unknown>;
}
