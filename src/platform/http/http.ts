import { randomUUID } from 'node:crypto';
import { ValidationPipe, type INestApplication } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { ValidationError } from 'class-validator';
import type { NextFunction, Request, Response } from 'express';
import { ValidationFailed, type FieldError } from '../errors/problem.js';
import { ProblemFilter } from '../errors/problem.filter.js';
import { logContext, type Logger } from '../logging/logger.js';

/** Room for 1,000 messages of a batch; a single text is bounded by its own rule. */
const bodyLimit = '8mb';

/** What every HTTP-speaking role shares: request ids, access log, strict bodies, problem+json. */
export function configureHttp(app: INestApplication, logger: Logger): void {
  const express = app as NestExpressApplication;
  express.disable('x-powered-by');
  express.set('query parser', 'simple');
  express.use((request: IdentifiedRequest, response: Response, next: NextFunction) => {
    const given = request.headers['x-request-id'];
    request.id = typeof given === 'string' && /^[\w.-]{1,100}$/.test(given) ? given : randomUUID();
    response.setHeader('X-Request-Id', request.id);
    logContext.run({ requestId: request.id }, next);
  });
  if (logger.isLevelEnabled('debug')) express.use(logRequests(logger));
  express.useBodyParser('json', { limit: bodyLimit });
  app.useGlobalPipes(
    new ValidationPipe({
      whitelist: true,
      forbidNonWhitelisted: true,
      transform: true,
      stopAtFirstError: true,
      exceptionFactory: (errors) => new ValidationFailed(errors.flatMap((error) => fieldErrors(error))),
    }),
  );
  app.useGlobalFilters(new ProblemFilter(logger));
  app.enableShutdownHooks();
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

/** What class-validator found, as the paths and messages of a problem. */
export function fieldErrors(error: ValidationError, parent = ''): FieldError[] {
  const path = parent ? `${parent}.${error.property}` : error.property;
  const own = Object.entries(error.constraints ?? {}).map(([rule, message]) => ({
    path,
    message: rule === 'whitelistValidation' ? `unknown field ${error.property}` : message,
  }));
  return [...own, ...(error.children ?? []).flatMap((child) => fieldErrors(child, path))];
}
