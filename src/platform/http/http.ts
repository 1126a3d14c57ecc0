import { randomUUID } from 'node:crypto';
import { ValidationPipe, type INestApplication } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { ValidationError } from 'class-validator';
import type { NextFunction, Request, Response } from 'express';
import { pinoHttp } from 'pino-http';
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
  express.use(
    pinoHttp({
      logger,
      genReqId: (request, response) => {
        const given = request.headers['x-request-id'];
        const id = typeof given === 'string' && /^[\w.-]{1,100}$/.test(given) ? given : randomUUID();
        response.setHeader('X-Request-Id', id);
        return id;
      },
      // One line a request costs more than the request itself under load: only what went wrong is worth it.
      customLogLevel: (_request, response, error) => {
        if (error || response.statusCode >= 500) return 'error';
        return 'debug';
      },
      serializers: { req: (request) => ({ id: request.id, method: request.method, url: request.url }) },
    }),
  );
  express.use((request: Request & { id?: string }, _response: Response, next: NextFunction) =>
    logContext.run({ requestId: request.id }, next),
  );
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

/** What class-validator found, as the paths and messages of a problem. */
export function fieldErrors(error: ValidationError, parent = ''): FieldError[] {
  const path = parent ? `${parent}.${error.property}` : error.property;
  const own = Object.entries(error.constraints ?? {}).map(([rule, message]) => ({
    path,
    message: rule === 'whitelistValidation' ? `unknown field ${error.property}` : message,
  }));
  return [...own, ...(error.children ?? []).flatMap((child) => fieldErrors(child, path))];
}
