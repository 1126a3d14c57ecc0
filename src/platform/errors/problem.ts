/** One field of a request that is wrong, named by its path (`to`, `messages.3.text`). */
export interface FieldError {
  path: string;
  message: string;
}

/**
 * An error that the caller gets as RFC 9457 `application/problem+json`. Each feature extends it for its own errors:
 * `class MessageNotFound extends Problem` with the code `message.not_found`.
 */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    readonly errors?: FieldError[],
    /** Seconds after which the same call may succeed: the header `Retry-After`. */
    readonly retryAfterSeconds?: number,
  ) {
    super(detail);
    this.name = new.target.name;
  }
}

/** The request does not have the shape that the contract asks for. */
export class ValidationFailed extends Problem {
  constructor(errors: FieldError[]) {
    const first = errors[0];
    super(
      400,
      'validation.failed',
      first ? `${first.path}: ${first.message}` : 'The request is not valid.',
      errors,
    );
  }
}
