import { ArgumentsHost, Catch, ExceptionFilter, HttpException, Inject } from '@nestjs/common';
import type { Request, Response } from 'express';
import { STATUS_CODES } from 'node:http';
import type { Logger } from '../logging/logger.js';
import { LOGGER } from '../logging/logging.module.js';
import { Problem, ReferenceGone } from './problem.js';

/** Codes of errors that Nest or Express raise before a request reaches a feature. */
const frameworkCodes: Record<number, string> = {
  400: 'request.malformed',
  401: 'auth.required',
  403: 'auth.forbidden',
  404: 'route.not_found',
  405: 'route.method_not_allowed',
  406: 'request.not_acceptable',
  408: 'request.timeout',
  409: 'request.conflict',
  413: 'request.too_large',
  415: 'request.unsupported_media_type',
  431: 'request.headers_too_large',
  503: 'service.unavailable',
};

const internalError = 'Flotilla failed with an internal error. The log has the details under the request id.';

/** Answers every error as RFC 9457 `application/problem+json`. An unexpected error is logged, and its answer reveals no details. */
@Catch()
export class ProblemFilter implements ExceptionFilter {
  constructor(@Inject(LOGGER) private readonly logger: Logger) {}

  catch(exception: unknown, host: ArgumentsHost): void {
    const request = host.switchToHttp().getRequest<Request & { id?: string }>();
    const response = host.switchToHttp().getResponse<Response>();
    const problem = toProblem(exception);
    if (problem.status >= 500) this.logger.error({ err: exception, path: request.path }, 'request failed');
    // The log names the missing reference. It shows whether this was a race or a bug in Flotilla.
    if (problem instanceof ReferenceGone)
      this.logger.warn({ err: exception, path: request.path }, 'a referenced row is gone');
    if (response.headersSent) {
      response.end();
      return;
    }
    sendProblem(response, problem, request.id);
  }
}

/** Sends a problem as the answer. */
export function sendProblem(response: Response, problem: Problem, requestId: string | undefined): void {
  const retryAfter = problem.retryAfterSeconds ?? (problem.status === 503 ? 1 : undefined);
  if (retryAfter !== undefined) response.set('Retry-After', String(retryAfter));
  const body = JSON.stringify(problemBody(problem, requestId));
  response.status(problem.status).type('application/problem+json').send(body);
}

/** The body of a problem (RFC 9457). */
export function problemBody({ status, code, message, errors }: Problem, requestId: string | undefined) {
  return {
    type: `urn:flotilla:problem:${code}`,
    title: STATUS_CODES[status] ?? 'Error',
    status,
    code,
    detail: message,
    errors,
    requestId,
  };
}

function toProblem(exception: unknown): Problem {
  if (exception instanceof Problem) return exception;
  if (exception instanceof HttpException) return fromStatus(exception.getStatus(), exception.message);
  // body-parser and other Express middleware throw plain errors with a status and a message for the caller.
  if (exception instanceof Error && 'status' in exception && typeof exception.status === 'number') {
    return fromStatus(exception.status, exception.message);
  }
  if (isReferenceGone(exception)) return new ReferenceGone();
  if (isDatabaseAway(exception)) {
    const detail =
      'PostgreSQL does not answer. Try again later. With an Idempotency-Key, a retry has no second effect.';
    return new Problem(503, 'service.unavailable', detail);
  }
  return new Problem(500, 'internal.error', internalError);
}

/** Whether a row that existed when the request was checked was deleted before the request was carried out. */
function isReferenceGone(exception: unknown): boolean {
  const { code, driverError } = exception as { code?: string; driverError?: { code?: string } };
  return (driverError?.code ?? code) === '23503';
}

/** Whether PostgreSQL is unreachable, is starting or has stopped. It rolls back an interrupted transaction. */
function isDatabaseAway(exception: unknown): boolean {
  const { code, driverError, message } = exception as {
    code?: string;
    driverError?: { code?: string };
    message?: string;
  };
  const reason = driverError?.code ?? code ?? '';
  return (
    /^(ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|08...|57P0[1-3])$/.test(reason) ||
    /^Connection terminated|timeout exceeded when trying to connect/.test(message ?? '')
  );
}

function fromStatus(status: number, message: string): Problem {
  // The text of an error of the server may name what is inside.
  const [code, detail] = status >= 500 ? ['internal.error', internalError] : ['request.invalid', message];
  return new Problem(status, frameworkCodes[status] ?? code, detail);
}
