import type { CountryCode } from 'libphonenumber-js/max';
import { AsyncLocalStorage } from 'node:async_hooks';

/** The fields that every log line of one piece of work carries: its request, its message, its account. */
export interface LogContext {
  requestId?: string;
  messageId?: string;
  accountId?: string;
}

/** What all code of one piece of work knows: of a request, of the sending of a message, or of Flotilla itself. */
interface Context {
  log: LogContext;
  /** Whether it serves one request. */
  isRequest: boolean;
  /** The workspace whose rows it sees. Null: it runs for Flotilla itself. */
  workspaceId: string | null;
  /** The country of the numbers without a country code. */
  country: CountryCode | null;
  /** The request's place among those that this process works on. */
  turn: { without<Result>(work: () => Promise<Result>): Promise<Result> } | null;
}

/** One for everything: Node copies each async context to each promise. */
const contexts = new AsyncLocalStorage<Context>();

/** Runs the code that serves one request. It runs for Flotilla itself until `isolate` names the workspace. */
export function serveRequest(requestId: string, serve: () => void): void {
  contexts.run({ log: { requestId }, isRequest: true, workspaceId: null, country: null, turn: null }, serve);
}

/**
 * Runs work for Flotilla itself that a request started but that does not serve this request alone, such as a shared stream.
 * Its log lines do not carry the id of the request. With `log`, they carry these fields.
 */
export function asPlatform<Result>(work: () => Result, log: LogContext = {}): Result {
  return contexts.run({ log, isRequest: false, workspaceId: null, country: null, turn: null }, work);
}

/** The context of the present code. Undefined outside of any piece of work. */
export function presentContext(): Context | undefined {
  return contexts.getStore();
}
