import type { ErrorCode, Problem } from './types.js';

/** What the API said no with, or why it could not be asked. */
export class FlotillaError extends Error {
  override name = 'FlotillaError';
  /** The HTTP status; 0 when there was no answer. */
  readonly status: number;
  /** Stable: decide by this one. `client.unreachable` and `client.bad_answer` are this client's own. */
  readonly code: ErrorCode | 'client.unreachable' | 'client.bad_answer' | (string & {});
  /** The fields that are wrong. */
  readonly errors: NonNullable<Problem['errors']>;
  /** Finds the request in Flotilla's log. */
  readonly requestId: string | undefined;
  /** How long to wait before asking again, where the API says so. */
  readonly retryAfterMs: number | undefined;

  constructor(
    problem: Pick<Problem, 'status' | 'code' | 'detail' | 'errors' | 'requestId'>,
    options: { retryAfterMs?: number; cause?: unknown } = {},
  ) {
    super(problem.detail, { cause: options.cause });
    this.status = problem.status;
    this.code = problem.code;
    this.errors = problem.errors ?? [];
    this.requestId = problem.requestId;
    this.retryAfterMs = options.retryAfterMs;
  }

  /** Whether the same call may succeed later. */
  get isTemporary(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 502;
  }
}
