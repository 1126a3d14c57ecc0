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

/** What the request refers to was there when it was checked, and gone when it was carried out; nothing was done. */
export class ReferenceGone extends Problem {
  constructor() {
    super(
      409,
      'request.conflict',
      'Something that this request refers to was deleted at the same moment. Look it up, and ask again.',
    );
  }
}

export class RouteNotFound extends Problem {
  constructor(method: string, path: string) {
    super(404, 'route.not_found', `There is no ${method} ${path}.`);
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
