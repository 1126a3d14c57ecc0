import { existsSync, readFileSync } from 'node:fs';
import { accessSync, constants } from 'node:fs';
import { availableParallelism, hostname } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { parseEnv } from 'node:util';
import { z } from 'zod';
import { isAddressOrRange, isAddressRange } from '../http/public-address.js';
import { resolveServerId } from './server-id.js';

/** The root of the project. This file is in `src/platform/config/`, or in the same folder below `dist/`. */
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
/** A list of texts, separated by commas. An empty text is an empty list. */
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

/**
 * Every environment variable that Flotilla reads. `npm run docs:configuration` makes docs/configuration.md from it.
 * `defaultText` is for the page: it says in words what the schema cannot compute, or computes for each machine.
 */
export const environmentSchema = z
  .object({
    NODE_ENV: z
      .enum(['production', 'development', 'test'])
      .default('production')
      .describe(
        '`production` forbids `ALLOW_PRIVATE_ADDRESSES=true`, and changes the defaults of `DOCS_ACCESS` and `SANDBOX`. `test` is for the tests.',
      ),
    LOG_LEVEL: z
      .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'])
      .default('info')
      .describe('The least severe level that the log holds.'),
    HOST: z
      .string()
      .min(1)
      .default('127.0.0.1')
      .describe(
        'Where the API and the instances listen: `127.0.0.1` is this machine only, `0.0.0.0` is every network interface.',
      ),
    PORT: port(3000).describe('The port of the API.'),
    TRUSTED_PROXIES: commaList('loopback')
      .refine((proxies) => proxies.every(isProxy), {
        error:
          'must be addresses, ranges (10.0.0.0/8), loopback, linklocal or uniquelocal, separated by commas; empty means no proxy',
      })
      .describe(
        'The reverse proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` the API believes: addresses, ranges, `loopback`, `linklocal` or `uniquelocal`, separated by commas. Empty: no proxy. See [security.md](security.md#behind-a-reverse-proxy).',
      ),
    CORS_ORIGINS: commaList()
      .refine((origins) => origins.every(isOrigin), {
        error:
          'must be origins such as https://app.example.com, without a path, separated by commas; * is not allowed: name each origin',
      })
      .describe(
        'The origins whose pages may call `/api/v1` from a browser, separated by commas, for example `https://app.example.com`. Cookies are never allowed.',
      ),
    RATE_LIMIT_PER_WORKSPACE: perMinute(30_000).describe(
      'Requests a minute with all API keys of one workspace, for all API processes together. 0: no limit.',
    ),
    RATE_LIMIT_PER_KEY: perMinute(30_000).describe(
      'Requests a minute with one API key, for all API processes together. Below `RATE_LIMIT_PER_WORKSPACE`, one key cannot use up what its workspace has. It is also the limit of the admin key. 0: no limit.',
    ),
    RATE_LIMIT_PER_IP: perMinute(60).describe(
      'Requests a minute from one address (or one /64 of IPv6) without a key or with a wrong key. 0: no limit.',
    ),
    EVENT_STREAMS_PER_WORKSPACE: z.coerce
      .number()
      .int()
      .min(1)
      .max(100_000)
      .default(100)
      .describe(
        'Open `GET /events` streams of one workspace, for all API processes together. The admin key has as many for itself.',
      ),
    API_KEYS_PER_WORKSPACE: z.coerce
      .number()
      .int()
      .min(1)
      .max(10_000)
      .default(100)
      .describe('How many keys that have not expired a workspace has at most.'),
    DEFAULT_MAX_ACCOUNTS: z.coerce
      .number()
      .int()
      .min(0)
      .max(1_000_000)
      .default(50)
      .describe(
        'The limit `maxAccounts` of a new workspace, unless the admin sets another. Existing workspaces keep theirs. 0: no limit.',
      ),
    DEFAULT_MESSAGES_PER_MINUTE: z.coerce
      .number()
      .int()
      .min(0)
      .max(10_000_000)
      .default(3_000)
      .describe(
        'The limit `messagesPerMinute` of a new workspace, unless the admin sets another. Existing workspaces keep theirs. A batch has up to 1,000 messages. 0: no limit.',
      ),
    DEFAULT_MAX_STORAGE_BYTES: z.coerce
      .number()
      .int()
      .min(0)
      .max(Number.MAX_SAFE_INTEGER)
      .default(5 * 2 ** 30)
      .describe(
        'The limit `maxStorageBytes` of a new workspace, unless the admin sets another. Existing workspaces keep theirs. 0: no limit.',
      ),
    WAITS_PER_WORKSPACE: z.coerce
      .number()
      .int()
      .min(1)
      .max(100_000)
      .default(500)
      .describe('Requests of one workspace that wait with `?wait=`, for all API processes together.'),
    UNREAD_MB_PER_WORKSPACE: z.coerce
      .number()
      .int()
      .min(4)
      .max(100_000)
      .default(32)
      .describe(
        'How many MB of answers may wait in each API process until the clients of one workspace read them. Past that, new requests get 429 and the event streams that are behind are closed. The admin key has as much for itself.',
      ),
    HEADERS_TIMEOUT_MS: milliseconds(10_000).describe(
      'How long a caller may take to send the headers of a request. It must not be longer than `REQUEST_TIMEOUT_MS`.',
    ),
    REQUEST_TIMEOUT_MS: milliseconds(300_000).describe(
      'How long a caller may take to send a whole request, uploads included.',
    ),
    STALL_TIMEOUT_MS: milliseconds(30_000).describe(
      'How long a caller may take no byte of an answer that waits for it, before its connection is closed.',
    ),
    DOCS_ACCESS: z
      .preprocess((value) => (value === '' ? undefined : value), z.enum(['public', 'admin']).optional())
      .meta({
        description:
          'Who may read `/docs` and `/openapi.json`: everybody, or only an admin who has logged in.',
        defaultText: '`admin` in production, otherwise `public`',
      }),
    METRICS_TOKEN: z
      .preprocess((value) => (value === '' ? undefined : value), secret(16).optional())
      .describe('A token that opens `/metrics` and nothing else. The admin key opens it too.'),

    DATABASE_URL: optional.meta({
      description:
        '`postgresql://USER:PASSWORD@HOST:5432/DATABASE`. PostgreSQL 13 or newer. For TLS: [managed data stores](deployment.md#managed-data-stores).',
      defaultText: 'the private PostgreSQL of `npm start`',
    }),
    REDIS_URL: optional.meta({
      description:
        '`redis://:PASSWORD@HOST:6379`, or `rediss://USER:PASSWORD@HOST:6379` with TLS and the user of an ACL. Valkey works too.',
      defaultText: 'the private Redis of `npm start`',
    }),
    REDIS_CA_FILE: optional
      .transform((path) => path && resolve(projectRoot, path))
      .refine((path) => path === undefined || isReadable(path), 'is not a file that this user may read')
      .meta({
        description:
          'A file with the certificate (PEM) of the CA that signed the certificate of Redis, for `rediss://`.',
        defaultText: 'the CAs that Node.js knows',
      }),
    EMBEDDED_PASSWORD: z
      .string()
      .default('')
      .describe('The password of the private PostgreSQL and Redis. `npm start` makes one.'),
    EMBEDDED_POSTGRES_PORT: port(54_320).describe('The port of the private PostgreSQL, on loopback only.'),
    EMBEDDED_REDIS_PORT: port(63_790).describe('The port of the private Redis, on loopback only.'),
    DATABASE_POOL_SIZE: z.coerce
      .number()
      .int()
      .min(2)
      .max(200)
      .default(10)
      .describe('How many connections to PostgreSQL one process opens at most in its pool.'),

    ADMIN_API_KEY: secret(16).describe(
      "The key of the platform's admin. It may do everything, and it opens the login of `/admin/queues` and `/docs`. A new value ends every login. `npm start` makes one.",
    ),
    INTERNAL_API_KEY: secret(16).describe(
      "Signs the calls between Flotilla's programs. It must be the same on every server. `npm start` makes one.",
    ),
    APP_KEY: secret(32).describe(
      'Encrypts copies of sessions and secrets of webhooks, and signs logins. It must be the same on every server. If it is lost, these secrets are lost. `npm start` makes one.',
    ),
    APP_PREVIOUS_KEYS: commaList()
      .pipe(z.array(secret(32)))
      .describe(
        'Earlier values of `APP_KEY`, separated by commas. Flotilla still decrypts with them. [tenancy.md](tenancy.md#rotating-app_key) explains the rotation.',
      ),

    SERVER_ID: optional.meta({
      description:
        'The name of this machine, unique in the fleet: 3 to 128 letters, digits, `_`, `.` and `-`. An invalid name stops the start.',
      defaultText: 'see [below](#the-name-of-a-server)',
    }),
    RAILWAY_STATIC_URL: optional.describe('Names the server when `SERVER_ID` is empty.'),
    RAILWAY_SERVICE_NAME: optional.describe(
      'Names the server when `SERVER_ID` and `RAILWAY_STATIC_URL` are empty.',
    ),
    HOSTNAME: optional.describe('Names the server when the three variables above are empty.'),
    SERVER_NAME: optional.meta({
      description: 'The display name of the server.',
      defaultText: 'at first the id',
    }),
    SERVER_TYPE: optional.describe('What kind of machine it is, for example `vps`, `cloud` or `dedicated`.'),
    SERVER_REGION: optional.describe('The region of the server.'),
    SERVER_ENVIRONMENT: optional.describe('The environment of the server. Placement can filter by it.'),
    SERVER_LOCATION: optional.describe('The location of the server. Placement can filter by it.'),
    SERVER_TAGS: optional.describe('Tags, separated by commas. Placement can filter by them.'),
    SERVER_URL: optionalUrl.describe(
      'The base URL whose `/health` answers for the whole machine. Empty: health checks ask each instance.',
    ),
    SERVER_MAX_CAPACITY: optionalInteger(1, 100_000).meta({
      description: 'How many accounts all instances of this machine drive at most.',
      defaultText: 'at first `INSTANCES` × `INSTANCE_MAX_ACCOUNTS`',
    }),
    SERVER_PRIORITY: optionalInteger(-1000, 1000).meta({
      description: 'A higher number comes first with the strategy `priority_first`.',
      defaultText: 'at first 0',
    }),
    SERVER_WEIGHT: optionalInteger(1, 1000).meta({
      description: 'The share of the turns with the strategy `weighted_round_robin`.',
      defaultText: 'at first 1',
    }),
    INSTANCES: z.coerce
      .number()
      .int()
      .min(1)
      .max(100)
      .default(4)
      .describe('How many instances this server runs.'),
    INSTANCE_BASE_PORT: port(3001).describe(
      'The port of the first instance. Instance number n listens on this port + n.',
    ),
    INSTANCE_NUMBER: z.coerce
      .number()
      .int()
      .min(0)
      .max(99)
      .default(0)
      .describe('The number of this instance on its server. supervisord sets it.'),
    INSTANCE_MAX_ACCOUNTS: z.coerce
      .number()
      .int()
      .min(1)
      .max(1000)
      .default(50)
      .describe('How many accounts one instance drives at most.'),
    INSTANCE_HOST: optional.meta({
      description: 'Where the other programs reach the instances of this machine.',
      defaultText: '`HOST`, or the name of the machine when `HOST` is every interface',
    }),
    INSTANCE_BIND_HOST: optional.meta({
      description: 'Where the instances of this machine listen.',
      defaultText: '`HOST`',
    }),
    INSTANCE_LEASE_MS: milliseconds(10_000).describe(
      'How long an instance owns its accounts after it last renewed its lease. It must be at least twice `INSTANCE_RENEW_MS` plus `INSTANCE_STOP_MARGIN_MS`. The same on every server.',
    ),
    INSTANCE_RENEW_MS: milliseconds(2_000).describe(
      'How often an instance renews its lease. The same on every server.',
    ),
    // Closing takes a second, and the guardian kills the browsers a second before the lease ends.
    INSTANCE_STOP_MARGIN_MS: z.coerce
      .number()
      .int()
      .min(2_000)
      .max(60_000)
      .default(3_000)
      .describe(
        'An instance that cannot renew its lease closes its browsers this long before the lease ends. The same on every server.',
      ),
    INSTANCE_TAKEOVER_MARGIN_MS: milliseconds(3_000).describe(
      'Other instances may take over accounts this long after a lease has ended. It must be longer than `INSTANCE_RENEW_MS`. The same on every server.',
    ),
    INSTANCE_RESTART_GRACE_MS: milliseconds(15_000).describe(
      'How long an instance that was stopped in good order may take to come back before others get its accounts. The same on every server.',
    ),
    INSTANCE_STAGGER_MS: z.coerce
      .number()
      .int()
      .min(0)
      .max(60_000)
      .default(500)
      .describe('The pause between the starts of the instances of one server that start together.'),
    MOVES_AT_ONCE: z.coerce
      .number()
      .int()
      .min(1)
      .max(100)
      .default(4)
      .describe(
        'How many accounts move to another instance at the same time when instances are drained or rebalanced.',
      ),
    STATS_INTERVAL_MS: milliseconds(60_000).describe('How often an instance writes a sample of its load.'),
    ROUTER_SHARD_SIZE: z.coerce
      .number()
      .int()
      .min(1)
      .max(1000)
      .default(4)
      .describe('Over how many instances the router spreads the accounts of one workspace.'),
    ROUTER_SHARD_TOLERANCE: z.coerce
      .number()
      .int()
      .min(0)
      .max(1000)
      .default(0)
      .describe(
        'How many accounts more than the emptiest instance an instance of the shard may have before the router uses others. 0: the router prefers an even load.',
      ),

    WORKERS: z.coerce
      .number()
      .int()
      .min(1)
      .max(100)
      .default(1)
      .describe('How many workers this server runs.'),
    WORKER_NAME: z
      .string()
      .min(1)
      .default('worker_00')
      .describe('The name of this worker on its server. supervisord sets it.'),
    WORKER_CONCURRENCY: z.coerce
      .number()
      .int()
      .min(1)
      .max(500)
      .default(32)
      .describe('How many jobs one worker runs at the same time.'),
    CAMPAIGN_SHARE: z.coerce
      .number()
      .min(0)
      .max(0.5)
      .default(0.05)
      .describe(
        'The share of the sends that campaigns get while high or normal messages wait. Urgent messages never wait for campaigns. 0: no share.',
      ),

    CHROMIUM_PATH: optional.meta({
      description: 'The browser. `chromium-headless-shell` needs the least memory.',
      defaultText:
        'the first of `chromium-headless-shell`, `chromium`, `google-chrome`, `google-chrome-stable`, `chromium-browser` on the `PATH`',
    }),
    BROWSER_SANDBOX: z
      .enum(['auto', 'on', 'off'])
      .default('auto')
      .describe(
        "Chromium's own sandbox. `auto`: `npm start` tries it; if the kernel refuses it, `npm start` says so with the cure, and browsers run without it. `on`: Flotilla does not start without it. `off`: browsers run without it. Chromium has no sandbox as root. See [security.md](security.md#browsers).",
      ),
    SESSION_START_CONCURRENCY: z.coerce
      .number()
      .int()
      .min(1)
      .max(50)
      .default(2 * availableParallelism())
      .meta({
        description: 'How many browsers one instance starts at the same time.',
        defaultText: '2 × processors',
      }),
    SESSION_LAUNCH_TIMEOUT_MS: milliseconds(30_000).describe('How long the browser may take to start.'),
    SESSION_LOAD_TIMEOUT_MS: milliseconds(60_000).describe('How long WhatsApp Web may take to load.'),
    SESSION_SYNC_TIMEOUT_MS: milliseconds(90_000).describe(
      'How long the first synchronisation may take, from authenticated to ready.',
    ),
    PROXY_TIMEOUT_MS: milliseconds(15_000).describe(
      'How long the proxy of an account may take to give a connection. A failure takes as long, so that a tenant cannot tell a closed port from a filtered one.',
    ),
    WEB_RECHECK_MS: milliseconds(600_000).describe(
      'How long a page of WhatsApp Web that lacks what sending needs stays before it is loaded again.',
    ),
    WEB_CONTRACT_IGNORED: z
      .string()
      .default('')
      .describe(
        'Names, separated by commas, of what a page of WhatsApp Web may lack. Messages do not wait for these. `GET /accounts/:id` shows the names in `contractMissing`.',
      ),
    SESSION_STORE: z
      .enum(['local', 'postgres'])
      .default('local')
      .describe(
        'Where sessions are kept. `local`: on the disk of their server. `postgres`: also as an encrypted copy in PostgreSQL, so that an account can move to another server without a new QR code.',
      ),
    SESSION_SNAPSHOT_DELAY_MS: milliseconds(10_000).describe(
      'With `SESSION_STORE=postgres`: the time from ready to the first copy.',
    ),
    SESSION_SNAPSHOT_INTERVAL_MS: milliseconds(300_000).describe(
      'With `SESSION_STORE=postgres`: the time between later copies, when the session has changed.',
    ),
    SESSION_SNAPSHOT_MAX_MB: z.coerce
      .number()
      .int()
      .min(1)
      .max(900)
      .default(256)
      .describe('With `SESSION_STORE=postgres`: larger profiles are not copied.'),
    ACCOUNT_MEMORY_BUDGET_MB: z.coerce
      .number()
      .int()
      .min(64)
      .max(100_000)
      .default(800)
      .describe('An account whose browser needs more memory is restarted.'),
    QR_TIMEOUT_MS: milliseconds(300_000).describe(
      'An account that nobody links in this time becomes `disconnected` with the reason `qr_expired`.',
    ),
    ACK_TIMEOUT_MS: milliseconds(10_000).describe(
      'How long a message that WhatsApp Web has taken may be without ack 1 before Flotilla reconnects the session.',
    ),
    NUMBER_CHECK_PAUSE_MS: milliseconds(300_000).describe(
      'How long an account checks no numbers after WhatsApp has throttled a check. The pause doubles, up to an hour, each time WhatsApp throttles the account again.',
    ),

    SANDBOX: z
      .preprocess((value) => (value === '' ? undefined : value), z.stringbool().optional())
      .meta({
        description:
          'Whether there is a sandbox: a simulated WhatsApp, with accounts of the environment `sandbox`. The same on every server.',
        defaultText: '`false` in production, otherwise `true`',
      }),
    SANDBOX_HOST: z
      .string()
      .min(1)
      .default('127.0.0.1')
      .describe(
        'Where the sandbox listens. Its control API needs the admin key, except on loopback under the name of this machine.',
      ),
    SANDBOX_PORT: port(8443).describe('Where browsers connect to the simulated WhatsApp, with TLS.'),
    SANDBOX_CONTROL_PORT: port(3090).describe("The port of the sandbox's control API."),
    SANDBOX_BUILD: optional.describe(
      'The build of WhatsApp Web that the sandbox starts with: a version, or a name such as `june`. Without it, the newest.',
    ),

    ALLOW_PRIVATE_ADDRESSES: addressRanges.describe(
      'Ranges of your own network that URLs of tenants (webhooks, media) may lead to, separated by commas, for example `10.1.0.0/16,fd00::/8`. `true`, outside of production, allows every address.',
    ),

    MEDIA_PATH: optional.meta({
      description: 'The directory of message files. All servers of a fleet share it.',
      defaultText: '`media` in `VAR_DIR`',
    }),
    MEDIA_MAX_BYTES: z.coerce
      .number()
      .int()
      .min(1_024)
      .max(2 * 2 ** 30)
      .default(64 * 2 ** 20)
      .describe('The largest file that Flotilla accepts.'),
    MEDIA_RETENTION_DAYS: z.coerce
      .number()
      .int()
      .min(0)
      .max(36_500)
      .default(90)
      .describe('How many days a file is kept after its last use. 0: for ever.'),
    MEDIA_FETCH_TIMEOUT_MS: z.coerce
      .number()
      .int()
      .min(1_000)
      .max(60_000)
      .default(15_000)
      .describe('How long the download of a media URL may take.'),
    MEDIA_DOWNLOADS_PER_WORKSPACE: z.coerce
      .number()
      .int()
      .min(1)
      .max(1_000)
      .default(16)
      .describe(
        'How many media URLs are downloaded for one workspace at the same time, for all API processes together. One batch downloads up to eight.',
      ),
    FFMPEG_PATH: optional.meta({
      description:
        'The program that converts voice messages, GIFs and stickers that move. Without it, a voice message must be OGG with Opus, a GIF must be MP4, and a sticker that moves must be WebP.',
      defaultText: '`ffmpeg` on the `PATH`',
    }),
    MEDIA_S3_BUCKET: optional.describe(
      'A bucket that holds the files instead of a directory. It needs `MEDIA_S3_ACCESS_KEY_ID` and `MEDIA_S3_SECRET_ACCESS_KEY`. See [media.md](media.md#storage-for-operators).',
    ),
    MEDIA_S3_ENDPOINT: optionalUrl.meta({
      description: 'The URL of the S3-compatible storage.',
      defaultText: 'Amazon S3 in `MEDIA_S3_REGION`',
    }),
    MEDIA_S3_REGION: z.string().min(1).default('us-east-1').describe('The region of the bucket.'),
    MEDIA_S3_ACCESS_KEY_ID: optional.describe('The key id for the bucket.'),
    MEDIA_S3_SECRET_ACCESS_KEY: optional.describe('The secret key for the bucket.'),
    MEDIA_S3_FORCE_PATH_STYLE: z
      .preprocess((value) => (value === '' ? undefined : value), z.stringbool().optional())
      .meta({
        description:
          "`true`: the bucket's name is in the path of the URL, as MinIO and most others want it. `false`: it is in the host name.",
        defaultText: '`true` with `MEDIA_S3_ENDPOINT`, otherwise `false`',
      }),

    PROGRAMS: optional.meta({
      description:
        'What this server runs, separated by commas: `sandbox`, `instance`, `worker`, `scheduler`, `api`. `npm start` and `setup/supervisord.mjs` read it.',
      defaultText: 'all',
    }),
    VAR_DIR: optional.meta({
      description:
        "Sessions, logs, the sandbox's ledger and the private databases. A relative path starts at the project.",
      defaultText: '`var`',
    }),
  })
  .refine((env) => env.NODE_ENV !== 'production' || !env.ALLOW_PRIVATE_ADDRESSES.some(isEveryAddress), {
    path: ['ALLOW_PRIVATE_ADDRESSES'],
    error: 'must name the ranges in production; true is only for development',
  })
  .refine(
    (env) =>
      env.MEDIA_S3_BUCKET === undefined ||
      (env.MEDIA_S3_ACCESS_KEY_ID !== undefined && env.MEDIA_S3_SECRET_ACCESS_KEY !== undefined),
    {
      path: ['MEDIA_S3_BUCKET'],
      error: 'also needs MEDIA_S3_ACCESS_KEY_ID and MEDIA_S3_SECRET_ACCESS_KEY',
    },
  )
  .refine((env) => env.INSTANCE_RENEW_MS * 2 + env.INSTANCE_STOP_MARGIN_MS <= env.INSTANCE_LEASE_MS, {
    path: ['INSTANCE_LEASE_MS'],
    error:
      'must be at least twice INSTANCE_RENEW_MS plus INSTANCE_STOP_MARGIN_MS, otherwise one late renewal stops the instance',
  })
  .refine((env) => env.INSTANCE_TAKEOVER_MARGIN_MS > env.INSTANCE_RENEW_MS, {
    path: ['INSTANCE_TAKEOVER_MARGIN_MS'],
    error:
      'must be longer than INSTANCE_RENEW_MS, otherwise a short outage of the database moves every account',
  })
  .refine((env) => env.HEADERS_TIMEOUT_MS <= env.REQUEST_TIMEOUT_MS, {
    path: ['HEADERS_TIMEOUT_MS'],
    error: 'must not be longer than REQUEST_TIMEOUT_MS, the timeout of the whole request',
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
  // With /0, every caller would be a trusted proxy and could claim any address.
  return isAddressOrRange(text) && !isEveryAddress(text);
}

function isOrigin(text: string): boolean {
  return /^https?:/.test(text) && URL.canParse(text) && new URL(text).origin === text;
}

type Environment = z.infer<typeof environmentSchema>;

/** The settings of this process: typed, validated, complete. Durations are milliseconds. */
export type Config = ReturnType<typeof toConfig>;

/** The configuration is not valid. `message` says which variable is wrong and what it must be. */
export class InvalidConfiguration extends Error {
  override name = 'InvalidConfiguration';
}

/**
 * Reads the environment, and the file that `ENV_FILE` names (default: `.env` of the project; `none`: no file). A variable of
 * the environment overrides the file.
 * @throws InvalidConfiguration that names every wrong variable
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

/** Where the other programs reach an instance. They cannot call an address such as `0.0.0.0`. */
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
    /** The file that settings were read from. Null: only the environment. */
    envFile,
    environment: env.NODE_ENV,
    logLevel: env.LOG_LEVEL,
    http: {
      host: env.HOST,
      port: env.PORT,
      /** The proxies whose `X-Forwarded-For` the API believes. */
      trustedProxies: env.TRUSTED_PROXIES,
      /** The origins whose pages may call the API from a browser. */
      corsOrigins: env.CORS_ORIGINS,
      /** Requests a minute with all keys of a workspace. 0: no limit. */
      rateLimitPerWorkspace: env.RATE_LIMIT_PER_WORKSPACE,
      /** Requests a minute with one key. 0: no limit. */
      rateLimitPerKey: env.RATE_LIMIT_PER_KEY,
      eventStreamsPerWorkspace: env.EVENT_STREAMS_PER_WORKSPACE,
      /** Requests a minute from one address without a key or with a wrong key. 0: no limit. */
      rateLimitPerAddress: env.RATE_LIMIT_PER_IP,
      headersTimeoutMs: env.HEADERS_TIMEOUT_MS,
      requestTimeoutMs: env.REQUEST_TIMEOUT_MS,
      stallTimeoutMs: env.STALL_TIMEOUT_MS,
      /** How many bytes of answers may wait in this process until the clients of one workspace read them. */
      unreadBytesPerWorkspace: env.UNREAD_MB_PER_WORKSPACE * 2 ** 20,
      waitsPerWorkspace: env.WAITS_PER_WORKSPACE,
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
      /** The certificate of the CA of Redis. Null: the CAs that Node.js knows. */
      caFile: env.REDIS_CA_FILE ?? null,
    },
    /** Ranges of private addresses that the URLs of tenants may lead to. */
    allowedPrivateAddresses: env.ALLOW_PRIVATE_ADDRESSES as readonly string[],
    workspaces: {
      /** How many keys that have not expired a workspace has at most. */
      maxApiKeys: env.API_KEYS_PER_WORKSPACE,
      /** The limits of a new workspace. Null: no limit. */
      limits: {
        maxAccounts: env.DEFAULT_MAX_ACCOUNTS || null,
        messagesPerMinute: env.DEFAULT_MESSAGES_PER_MINUTE || null,
        maxStorageBytes: env.DEFAULT_MAX_STORAGE_BYTES || null,
      },
    },
    adminApiKey: env.ADMIN_API_KEY,
    internalApiKey: env.INTERNAL_API_KEY,
    appKey: env.APP_KEY,
    /** Earlier values of `APP_KEY`: Flotilla still decrypts with them. */
    appPreviousKeys: env.APP_PREVIOUS_KEYS,
    /** A token that opens `/metrics` and nothing else. */
    metricsToken: env.METRICS_TOKEN,
    /** A value that is not set stays as it is in the row of this server. */
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
      /** Where the instance listens. */
      host: env.INSTANCE_BIND_HOST ?? env.HOST,
      number: env.INSTANCE_NUMBER,
      url: `http://${callableHost(env)}:${env.INSTANCE_BASE_PORT + env.INSTANCE_NUMBER}`,
      port: env.INSTANCE_BASE_PORT + env.INSTANCE_NUMBER,
      maxAccounts: env.INSTANCE_MAX_ACCOUNTS,
      /** How long the instance owns its accounts after it last renewed its lease. */
      leaseMs: env.INSTANCE_LEASE_MS,
      renewMs: env.INSTANCE_RENEW_MS,
      /** How long before the end of its lease the instance closes its browsers. */
      stopMarginMs: env.INSTANCE_STOP_MARGIN_MS,
      /** How long after the end of a lease other instances may take over. */
      takeoverMarginMs: env.INSTANCE_TAKEOVER_MARGIN_MS,
      /** How long an instance that was stopped in good order may take to come back before others get its accounts. */
      restartGraceMs: env.INSTANCE_RESTART_GRACE_MS,
      /** The pause between the starts of the instances of one server that start together. */
      staggerMs: env.INSTANCE_STAGGER_MS,
    },
    /** How many accounts move to another instance at the same time. */
    movesAtOnce: env.MOVES_AT_ONCE,
    statsIntervalMs: env.STATS_INTERVAL_MS,
    router: {
      /** Over how many instances the router spreads the accounts of one workspace. */
      shardSize: env.ROUTER_SHARD_SIZE,
      /** How many accounts more than the emptiest instance an instance of the shard may have before the router uses others. */
      shardTolerance: env.ROUTER_SHARD_TOLERANCE,
    },
    worker: {
      name: `${serverId}.${env.WORKER_NAME}`,
      count: env.WORKERS,
      concurrency: env.WORKER_CONCURRENCY,
      /** The share of the sends that campaigns get while high or normal messages wait. Urgent messages never wait for campaigns. */
      campaignShare: env.CAMPAIGN_SHARE,
    },
    sessions: {
      dir: join(varDir, 'sessions'),
      chromiumPath: env.CHROMIUM_PATH ?? findProgram(browserNames),
      browserSandbox: env.BROWSER_SANDBOX,
      startConcurrency: env.SESSION_START_CONCURRENCY,
      launchTimeoutMs: env.SESSION_LAUNCH_TIMEOUT_MS,
      loadTimeoutMs: env.SESSION_LOAD_TIMEOUT_MS,
      syncTimeoutMs: env.SESSION_SYNC_TIMEOUT_MS,
      proxyTimeoutMs: env.PROXY_TIMEOUT_MS,
      webRecheckMs: env.WEB_RECHECK_MS,
      webIgnored: itemsOf(env.WEB_CONTRACT_IGNORED),
      store: env.SESSION_STORE,
      snapshotDelayMs: env.SESSION_SNAPSHOT_DELAY_MS,
      snapshotIntervalMs: env.SESSION_SNAPSHOT_INTERVAL_MS,
      snapshotMaxBytes: env.SESSION_SNAPSHOT_MAX_MB * 2 ** 20,
      memoryBudgetBytes: env.ACCOUNT_MEMORY_BUDGET_MB * 2 ** 20,
      qrTimeoutMs: env.QR_TIMEOUT_MS,
    },
    media: {
      /** The directory of the files, and of the uploads to a bucket that have not finished. */
      path: resolve(projectRoot, env.MEDIA_PATH ?? join(varDir, 'media')),
      maxBytes: env.MEDIA_MAX_BYTES,
      /** How long media is kept after its last use. Null: for ever. */
      retentionMs: env.MEDIA_RETENTION_DAYS === 0 ? null : env.MEDIA_RETENTION_DAYS * 86_400_000,
      /** How long the download of a media URL may take. */
      fetchTimeoutMs: env.MEDIA_FETCH_TIMEOUT_MS,
      /** How many media URLs are downloaded for one workspace at the same time. */
      downloadsPerWorkspace: env.MEDIA_DOWNLOADS_PER_WORKSPACE,
      /** Null: nothing can be converted. */
      ffmpegPath: env.FFMPEG_PATH ?? findProgram(['ffmpeg']),
      /** Null: the files are on the disk. */
      s3:
        env.MEDIA_S3_BUCKET === undefined
          ? null
          : {
              bucket: env.MEDIA_S3_BUCKET,
              endpoint: env.MEDIA_S3_ENDPOINT ?? `https://s3.${env.MEDIA_S3_REGION}.amazonaws.com`,
              region: env.MEDIA_S3_REGION,
              accessKeyId: env.MEDIA_S3_ACCESS_KEY_ID!,
              secretAccessKey: env.MEDIA_S3_SECRET_ACCESS_KEY!,
              // Only Amazon gives every bucket its own host name.
              forcePathStyle: env.MEDIA_S3_FORCE_PATH_STYLE ?? env.MEDIA_S3_ENDPOINT !== undefined,
            },
    },
    /** How long a message that WhatsApp Web has taken may be without ack 1 before Flotilla reconnects the session. */
    ackTimeoutMs: env.ACK_TIMEOUT_MS,
    /** How long an account checks no numbers after WhatsApp has throttled a check. */
    numberCheckPauseMs: env.NUMBER_CHECK_PAUSE_MS,
    sandbox: {
      /** Without it there are no accounts of the environment `sandbox`. */
      isOn: env.SANDBOX ?? env.NODE_ENV !== 'production',
      host: env.SANDBOX_HOST,
      port: env.SANDBOX_PORT,
      controlPort: env.SANDBOX_CONTROL_PORT,
      controlUrl: `http://${env.SANDBOX_HOST}:${env.SANDBOX_CONTROL_PORT}`,
      dir: join(varDir, 'sandbox'),
      build: env.SANDBOX_BUILD,
    },
    varDir,
  };
}

/** The browsers that can run WhatsApp Web. The headless shell comes first: it needs half the memory of a full browser. */
const browserNames = [
  'chromium-headless-shell',
  'chromium',
  'google-chrome',
  'google-chrome-stable',
  'chromium-browser',
];

/** The first of these programs that is on the `PATH`. */
function findProgram(names: string[]): string | null {
  const folders = (process.env.PATH ?? '').split(delimiter);
  for (const name of names) {
    const found = folders.map((folder) => join(folder, name)).find(isExecutable);
    if (found) return found;
  }
  return null;
}

function isExecutable(path: string): boolean {
  return allows(path, constants.X_OK);
}

function isReadable(path: string): boolean {
  return allows(path, constants.R_OK);
}

function allows(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

/** The names of secret settings, anywhere in {@link Config}. The passwords in its URLs are secret too. */
const secretNames = new Set([
  'adminApiKey',
  'internalApiKey',
  'appKey',
  'appPreviousKeys',
  'metricsToken',
  'secretAccessKey',
]);

/** Shorter secrets may be ordinary words: the log masks them only as passwords in URLs. */
const minSecretLength = 12;

/** Every secret of the settings, so that the logger can mask them. */
export function secretsOf(config: Config): string[] {
  const found: string[] = [];
  const collect = (value: unknown, key = ''): void => {
    if (typeof value === 'string') {
      if (secretNames.has(key)) found.push(value);
      else if (key === 'url' && URL.canParse(value)) {
        const { password } = new URL(value);
        found.push(password, decodeURIComponent(password));
      }
    } else if (Array.isArray(value)) value.forEach((item) => collect(item, key));
    else if (value !== null && typeof value === 'object')
      Object.entries(value).forEach(([name, inner]) => collect(inner, name));
  };
  collect(config);
  return [...new Set(found)].filter(({ length }) => length >= minSecretLength);
}

/** The settings as `config:show` prints them, with masked secrets and masked passwords in URLs. */
export function maskConfig(config: Config): Record<string, unknown> {
  const mask = (value: unknown, key = ''): unknown => {
    if (secretNames.has(key)) return '********';
    if (key === 'url' && typeof value === 'string')
      return value.replace(/:\/\/([^:@/]*):[^@/]*@/, '://$1:********@');
    if (value === null || typeof value !== 'object') return value;
    if (Array.isArray(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, mask(inner, name)]));
  };
  return mask(config) as Record<string, unknown>;
}
