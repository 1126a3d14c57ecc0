/** An invalid field of a request, named by its path (`to`, `messages.3.text`). */
export interface FieldError {
  path: string;
  message: string;
}

/**
 * An error that the caller gets as RFC 9457 `application/problem+json`. Each feature defines subclasses for its errors: for
 * example `class MessageNotFound extends Problem` with the code `message.not_found`.
 */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    readonly errors?: FieldError[],
    /** The header `Retry-After`: seconds after which the same call may succeed. */
    readonly retryAfterSeconds?: number,
  ) {
    super(detail);
    this.name = new.target.name;
  }
}

/** A resource was deleted after the request was checked and before it was carried out. Nothing was done. */
export class ReferenceGone extends Problem {
  constructor() {
    super(
      409,
      'request.conflict',
      'A resource that this request refers to was deleted at the same moment. Look up the resources of the request, then try again.',
    );
  }
}

export class RouteNotFound extends Problem {
  constructor(method: string, path: string) {
    const shown = path.length > 200 ? `${path.slice(0, 200)}…` : path;
    super(404, 'route.not_found', `There is no route ${method} ${shown}. Check the method and the path.`);
  }
}

/** The request does not match the schema of the API. */
export class ValidationFailed extends Problem {
  /** @param maxListed the most errors that the answer lists */
  constructor(errors: FieldError[], maxListed = 50) {
    const [first] = errors;
    const more =
      errors.length > maxListed ? `. This list has the first ${maxListed} of ${errors.length} errors.` : '';
    super(
      400,
      'validation.failed',
      first ? `${first.path}: ${first.message}${more}` : 'The request is not valid.',
      errors.slice(0, maxListed),
    );
  }
}
