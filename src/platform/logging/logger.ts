import { AsyncLocalStorage } from 'node:async_hooks';
import type { LoggerService } from '@nestjs/common';
import { pino, type Logger as PinoLogger } from 'pino';

/** What every log line of one piece of work carries: the request it serves, the message or account it is about. */
export interface LogContext {
  requestId?: string;
  messageId?: string;
  accountId?: string;
}

export const logContext = new AsyncLocalStorage<LogContext>();

/** Names of fields whose values never reach a log, at the top of a line and one level below. */
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
/** What the keys of Flotilla and the secrets of webhooks look like. */
const keyLike = /\b(?:fl[aik]_[\w-]{16,}|whsec_[\w+/=-]{16,})/g;
const passwordInUrl = /(:\/\/[^\s:/@"\\]*:)[^\s/@"\\]+@/g;

export type Logger = PinoLogger;

/**
 * One JSON line an entry on standard output, which supervisord writes to the program's log file; on standard error where
 * standard output is for what somebody asked. `secrets` are masked wherever they stand.
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
      mixin: () => ({ ...logContext.getStore() }),
      hooks: { streamWrite: masking(secrets) },
    },
    pino.destination({ fd: toStderr ? 2 : 1, sync: true }),
  );
}

/**
 * Masks these secrets, passwords in URLs, and what looks like a key of Flotilla in a line of JSON. The last line of defence:
 * wherever in it one stands.
 */
export function masking(secrets: string[]): (line: string) => string {
  // As they are written inside a line of JSON; the longest first, since one may be a part of another.
  const known = secrets
    .map((secret) => JSON.stringify(secret).slice(1, -1))
    .sort((a, b) => b.length - a.length);
  return (line) =>
    known.reduce(
      (text, secret) => text.replaceAll(secret, censor),
      line.replace(keyLike, censor).replace(passwordInUrl, `$1${censor}@`),
    );
}

/** An error without what a database adds to it: the row and the parameters, which hold texts and codes. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { name, message, stack } = error;
  const { code, status } = error as { code?: unknown; status?: unknown };
  const cause = error.cause === undefined ? undefined : describeError(error.cause);
  return { type: name, message, code, status, stack, cause };
}

/** Lets Nest write its own lines through pino. */
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
