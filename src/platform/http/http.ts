import { randomUUID } from 'node:crypto';
import { ValidationPipe, type INestApplication } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { ValidationError } from 'class-validator';
import type { NextFunction, Request, Response } from 'express';
import { serveRequest } from '../database/isolation.js';
import { Problem, ValidationFailed, type FieldError } from '../errors/problem.js';
import { ProblemFilter, sendProblem } from '../errors/problem.filter.js';
import { logContext, type Logger } from '../logging/logger.js';

/** Room for 1,000 messages of a batch; a single text is bounded by its own rule. */
const bodyLimit = '8mb';

/** What every HTTP-speaking role shares: request ids, access log, well-formed bodies, problem+json. */
export function configureHttp(app: INestApplication, logger: Logger): void {
  const express = app as NestExpressApplication;
  express.disable('x-powered-by');
  express.set('query parser', 'simple');
  express.use((request: IdentifiedRequest, response: Response, next: NextFunction) => {
    const given = request.headers['x-request-id'];
    request.id = typeof given === 'string' && /^[\w.-]{1,100}$/.test(given) ? given : randomUUID();
    response.setHeader('X-Request-Id', request.id);
    logContext.run({ requestId: request.id }, () => serveRequest(next));
  });
  if (logger.isLevelEnabled('debug')) express.use(logRequests(logger));
  express.useBodyParser('json', { limit: bodyLimit });
  express.use(checkBody);
  app.useGlobalFilters(new ProblemFilter(logger));
  app.enableShutdownHooks();
}

/** Checks what strangers send against its DTO. What Flotilla's own programs send each other is typed, and needs none of it. */
export function validateRequests(app: INestApplication): void {
  app.useGlobalPipes(
    new ValidationPipe({
      whitelist: true,
      forbidNonWhitelisted: true,
      transform: true,
      stopAtFirstError: true,
      exceptionFactory: (errors) => new ValidationFailed(errors.flatMap((error) => fieldErrors(error))),
    }),
  );
}

/** The last word of every HTTP-speaking role: also what lies outside its prefix is answered as a problem. */
export function answerNotFound(request: IdentifiedRequest, response: Response): void {
  sendProblem(
    response,
    new Problem(404, 'route.not_found', `There is no ${request.method} ${request.path}.`),
    request.id,
  );
}

type IdentifiedRequest = Request & { id?: string };

/** One line a request, at the level debug only: under load it costs more than the request itself. */
function logRequests(logger: Logger) {
  return (request: IdentifiedRequest, response: Response, next: NextFunction): void => {
    const started = performance.now();
    response.once('finish', () => {
      const { method, path, id } = request;
      const ms = Math.round(performance.now() - started);
      logger.debug({ requestId: id, method, path, status: response.statusCode, ms }, 'request');
    });
    next();
  };
}

/** Deeper than any request of the contract, and far from where recursion overflows. */
const deepestBody = 32;

/** Refuses what no field may hold: text that PostgreSQL cannot store, and nesting that only an attack has. */
function checkBody(request: Request, _response: Response, next: NextFunction): void {
  const open: { value: unknown; depth: number }[] = [{ value: request.body, depth: 0 }];
  for (let item = open.pop(); item; item = open.pop()) {
    const { value, depth } = item;
    if (typeof value === 'string' && (value.includes('\u0000') || !value.isWellFormed())) {
      next(
        new ValidationFailed([
          { path: 'body', message: 'texts must be well-formed Unicode without NUL characters' },
        ]),
      );
      return;
    }
    if (typeof value !== 'object' || value === null) continue;
    if (depth >= deepestBody) {
      next(
        new ValidationFailed([
          { path: 'body', message: `must not be nested deeper than ${deepestBody} levels` },
        ]),
      );
      return;
    }
    for (const [key, inner] of Object.entries(value)) {
      open.push({ value: key, depth: depth + 1 }, { value: inner, depth: depth + 1 });
    }
  }
  next();
}

/** What class-validator found, as the paths and messages of a problem. */
export function fieldErrors(error: ValidationError, parent = ''): FieldError[] {
  const path = parent ? `${parent}.${error.property}` : error.property;
  const own = Object.entries(error.constraints ?? {}).map(([rule, message]) => ({
    path,
    message: rule === 'whitelistValidation' ? `unknown field ${error.property}` : message,
  }));
  return [...own, ...(error.children ?? []).flatMap((child) => fieldErrors(child, path))];
}
