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
import { securityHeaders } from './security-headers.js';

/** More than any single thing of the contract needs: a text of 65,536 characters with each of them escaped is 400 kB. */
export const bodyLimit = '1mb';

/** What roles do differently. */
export interface HttpOptions {
  /** How large JSON may be below a path, as body-parser has it; the first one that fits holds. Everywhere 1 MB unless given. */
  bodies?: { path: string; limit: string }[];
  /** Middleware that refuses a request before its body is read, made when the services are there. */
  beforeBody?: (app: NestExpressApplication) => RequestHandler[];
  /** Sees each JSON body as it is on the wire. */
  seeBody?: SignedCalls['seeBody'];
  /** Middleware right behind the reading of the body. */
  afterBody?: RequestHandler[];
  /** Whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed, as Express names them; nobody's unless given. */
  trustedProxies?: string[];
}

/** What every HTTP-speaking role shares: request ids, access log, security headers, well-formed bodies, problem+json. */
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
  // What the API answers is not kept by anybody (`no-store`); files have a tag of their own.
  app.disable('etag');
  app.set('query parser', 'simple');
  app.set('trust proxy', trustedProxies);
  app.use((request: IdentifiedRequest, response: Response, next: NextFunction) => {
    const given = request.headers['x-request-id'];
    request.id = typeof given === 'string' && /^[\w.-]{1,100}$/.test(given) ? given : randomUUID();
    response.setHeader('X-Request-Id', request.id);
    logContext.run({ requestId: request.id }, () => serveRequest(next));
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

/** Checks what strangers send against its DTO. What Flotilla's own programs send each other is typed, and needs none of it. */
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

/** The last word of every HTTP-speaking role: also what lies outside its prefix is answered as a problem. */
export function answerNotFound(request: IdentifiedRequest, response: Response): void {
  sendProblem(response, new RouteNotFound(request.method, request.path), request.id);
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

/** Refuses what PostgreSQL can store in no text, wherever in the URL it stands. */
function checkUrl(request: Request, _response: Response, next: NextFunction): void {
  if (request.url.includes('%00')) {
    next(new ValidationFailed([{ path: 'url', message: 'must not hold NUL characters' }]));
  } else next();
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

/** The rules of class-validator that say what something has to be at all: a list before what is in it. */
const typeRules = ['isArray', 'isObject', 'isString', 'isInt', 'isNumber', 'isBoolean'];

/** What class-validator found, as the paths and messages of a problem. */
export function fieldErrors(error: ValidationError, parent = ''): FieldError[] {
  const path = parent ? `${parent}.${error.property}` : error.property;
  const broken = Object.entries(error.constraints ?? {});
  // What is no text cannot be too long.
  const wrongType = typeRules.find((rule) => error.constraints?.[rule] !== undefined);
  const first = broken.find(([rule]) => rule === wrongType) ?? broken[0];
  const own = first
    ? [{ path, message: first[0] === 'whitelistValidation' ? `unknown field ${error.property}` : first[1] }]
    : [];
  return [...own, ...(error.children ?? []).flatMap((child) => fieldErrors(child, path))];
}
