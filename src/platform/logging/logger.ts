import type { LoggerService } from '@nestjs/common';
import { pino, type Logger as PinoLogger } from 'pino';
import { presentContext } from '../context.js';

/** Names of fields whose values are never logged, at the top level of a line and one level below. */
const secretFields = [
  'authorization',
  'cookie',
  'key',
  'secret',
  'password',
  'text',
  'caption',
  'body',
  'qr',
  'pairingCode',
];
const redact = ['req.headers.authorization', 'req.headers["x-api-key"]', 'req.headers.cookie'].concat(
  secretFields.flatMap((name) => [name, `*.${name}`]),
);
const censor = '[redacted]';
/** Matches the API keys of Flotilla and the secrets of webhooks. */
const keyLike = /\b(?:fl[aik]_[\w-]{16,}|whsec_[\w+/=-]{16,})/g;
const passwordInUrl = /(:\/\/[^\s:/@"\\]*:)[^\s/@"\\]+@/g;

export type Logger = PinoLogger;

/**
 * A logger that writes one JSON line per entry to standard output. supervisord writes it to the program's log file. With
 * `toStderr` it writes to standard error, because standard output then holds the result of a command. `secrets` are masked
 * anywhere in a line.
 */
export function createLogger(
  role: string,
  level: string,
  { toStderr = false, secrets = [] }: { toStderr?: boolean; secrets?: string[] } = {},
): Logger {
  return pino(
    {
      level,
      base: { role, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: redact, censor },
      serializers: { err: describeError },
      mixin: () => ({ ...presentContext()?.log }),
      hooks: { streamWrite: masking(secrets) },
    },
    pino.destination({ fd: toStderr ? 2 : 1, sync: true }),
  );
}

/**
 * Masks these secrets, passwords in URLs, and text that looks like a key of Flotilla, anywhere in a line of JSON. It is the last
 * line of defence.
 */
export function masking(secrets: string[]): (line: string) => string {
  // Escaped as inside a line of JSON. The longest first, because a secret may contain another secret.
  const known = secrets
    .map((secret) => JSON.stringify(secret).slice(1, -1))
    .sort((a, b) => b.length - a.length);
  return (line) =>
    known.reduce(
      (text, secret) => text.replaceAll(secret, censor),
      line.replace(keyLike, censor).replace(passwordInUrl, `$1${censor}@`),
    );
}

/** An error without the row and the parameters that a database error carries: they hold message texts and codes. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { name, message, stack } = error;
  const { code, status } = error as { code?: unknown; status?: unknown };
  const cause = error.cause === undefined ? undefined : describeError(error.cause);
  return { type: name, message, code, status, stack, cause };
}

/** Writes the log lines of Nest through pino. */
export class NestLogger implements LoggerService {
  constructor(private readonly logger: Logger) {}

  log(message: unknown, context?: string): void {
    this.logger.debug({ context }, String(message));
  }

  warn(message: unknown, context?: string): void {
    this.logger.warn({ context }, String(message));
  }

  error(message: unknown, stack?: string, context?: string): void {
    this.logger.error(
      { context, stack, err: message instanceof Error ? message : undefined },
      String(message),
    );
  }

  fatal(message: unknown, context?: string): void {
    this.logger.fatal({ context }, String(message));
  }
}
