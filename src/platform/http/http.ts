import { randomUUID } from 'node:crypto';
import { ValidationPipe, type INestApplication } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { ValidationError } from 'class-validator';
import { json, type NextFunction, type Request, type RequestHandler, type Response } from 'express';
import { serveRequest } from '../database/isolation.js';
import { RouteNotFound, ValidationFailed, type FieldError } from '../errors/problem.js';
import { ProblemFilter, sendProblem } from '../errors/problem.filter.js';
import { logContext, type Logger } from '../logging/logger.js';
import { hardenServer, type HttpTimeouts } from './http-server.js';
import type { SignedCalls } from './internal.guard.js';
import { serveNumbers } from './phone-number.js';
import { securityHeaders } from './security-headers.js';

/** More than any request of the API needs: a text of 65,536 characters, each of them escaped, has 400 kB. */
export const bodyLimit = '1mb';

/** The HTTP options of a role. */
export interface HttpOptions {
  /** The largest JSON body below a path, in the notation of body-parser. The first matching path counts. Default: 1 MB everywhere. */
  bodies?: { path: string; limit: string }[];
  /** Makes middleware that runs before the body is read and may refuse the request. It is called once the services exist. */
  beforeBody?: (app: NestExpressApplication) => RequestHandler[];
  /** Gets each JSON body as it is on the wire. */
  seeBody?: SignedCalls['seeBody'];
  /** Middleware that runs right after the body is read. */
  afterBody?: RequestHandler[];
  /** The proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` count, in the notation of Express. Default: no proxy. */
  trustedProxies?: string[];
}

/** The HTTP set-up that all roles share: request ids, access log, security headers, well-formed bodies, problem+json. */
export function configureHttp(
  app: NestExpressApplication,
  logger: Logger,
  timeouts: HttpTimeouts,
  {
    bodies = [{ path: '/', limit: bodyLimit }],
    beforeBody,
    seeBody,
    afterBody = [],
    trustedProxies = [],
  }: HttpOptions,
): void {
  hardenServer(app.getHttpServer(), timeouts);
  app.disable('x-powered-by');
  // No client caches the answers of the API (`no-store`). Files set their own ETag.
  app.disable('etag');
  app.set('query parser', 'simple');
  app.set('trust proxy', trustedProxies);
  app.use((request: IdentifiedRequest, response: Response, next: NextFunction) => {
    const given = request.headers['x-request-id'];
    request.id = typeof given === 'string' && /^[\w.-]{1,100}$/.test(given) ? given : randomUUID();
    response.setHeader('X-Request-Id', request.id);
    logContext.run({ requestId: request.id }, () => serveRequest(() => serveNumbers(next)));
  });
  if (logger.isLevelEnabled('debug')) app.use(logRequests(logger));
  app.use(securityHeaders);
  app.use(checkUrl);
  for (const middleware of beforeBody?.(app) ?? []) app.use(middleware);
  for (const { path, limit } of bodies) app.use(path, json({ limit, verify: seeBody }));
  for (const middleware of afterBody) app.use(middleware);
  app.use(checkBody);
  app.useGlobalFilters(new ProblemFilter(logger));
  app.enableShutdownHooks();
}

/** Validates the requests of strangers against their DTOs. Calls between Flotilla's programs are typed, so they need no validation. */
export function validateRequests(app: INestApplication): void {
  app.useGlobalPipes(
    new ValidationPipe({
      whitelist: true,
      forbidNonWhitelisted: true,
      transform: true,
      exceptionFactory: (errors) => new ValidationFailed(errors.flatMap((error) => fieldErrors(error))),
    }),
  );
}

/** The last middleware of every role: it answers unknown paths, also outside the API's prefix, with a problem. */
export function answerNotFound(request: IdentifiedRequest, response: Response): void {
  sendProblem(response, new RouteNotFound(request.method, request.path), request.id);
}

type IdentifiedRequest = Request & { id?: string };

/** Logs one line per request, only at the level debug: under load, the line costs more than the request. */
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

/** Refuses NUL characters anywhere in the URL: PostgreSQL cannot store them in a text. */
function checkUrl(request: Request, _response: Response, next: NextFunction): void {
  if (request.url.includes('%00')) {
    next(new ValidationFailed([{ path: 'url', message: 'must not contain NUL characters' }]));
  } else next();
}

/** Deeper than any request of the API, and far from a stack overflow. */
const maxBodyDepth = 32;

/** Refuses text that PostgreSQL cannot store, and nesting so deep that only an attack has it. */
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
    if (depth >= maxBodyDepth) {
      next(
        new ValidationFailed([
          { path: 'body', message: `must not be nested deeper than ${maxBodyDepth} levels` },
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

/** The class-validator rules that check the type of a value, in the order of preference. */
const typeRules = ['isArray', 'isObject', 'isString', 'isInt', 'isNumber', 'isBoolean'];

/** Converts an error of class-validator to the field errors of a problem. */
export function fieldErrors(error: ValidationError, parent = ''): FieldError[] {
  const path = parent ? `${parent}.${error.property}` : error.property;
  const broken = Object.entries(error.constraints ?? {});
  // A wrong type explains the other errors: for example, a value that is not a text cannot be too long.
  const wrongType = typeRules.find((rule) => error.constraints?.[rule] !== undefined);
  const first = broken.find(([rule]) => rule === wrongType) ?? broken[0];
  const own = first
    ? [{ path, message: first[0] === 'whitelistValidation' ? `unknown field ${error.property}` : first[1] }]
    : [];
  return [...own, ...(error.children ?? []).flatMap((child) => fieldErrors(child, path))];
}
