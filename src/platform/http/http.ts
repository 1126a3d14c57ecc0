import { randomUUID } from 'node:crypto';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { NextFunction, Request, RequestHandler, Response } from 'express';
import { serveRequest } from '../context.js';
import { RouteNotFound, ValidationFailed } from '../errors/problem.js';
import { ProblemFilter, sendProblem } from '../errors/problem.filter.js';
import type { Logger } from '../logging/logger.js';
import { beginInTurns } from './begin-in-turns.js';
import { closeUnread, maxBodyBytes, readJson } from './body.js';
import { forwardedWithoutPorts } from './forwarded.js';
import { hardenServer, type HttpTimeouts } from './http-server.js';
import type { SignedCalls } from './internal.guard.js';
import { trustedCaps } from './json-caps.js';
import { securityHeaders } from './security-headers.js';

/** The HTTP options of a role. */
export interface HttpOptions {
  /** Whom a request is for: requests begin in turns of their callers. It is made once the services exist. Default: in the order of arrival. */
  callerOf?: (app: NestExpressApplication) => (request: Request) => string;
  /** The largest JSON body, in bytes. Null: nothing reads bodies before the routes, because the role has a `BodyGuard`. Default: 1 MB. */
  bodyBytes?: number | null;
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
    callerOf,
    bodyBytes = maxBodyBytes,
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
  if (trustedProxies.length > 0) app.use(forwardedWithoutPorts);
  if (callerOf) app.use(beginInTurns(callerOf(app)));
  app.use((request: IdentifiedRequest, response: Response, next: NextFunction) => {
    const given = request.headers['x-request-id'];
    request.id = typeof given === 'string' && /^[\w.-]{1,100}$/.test(given) ? given : randomUUID();
    response.setHeader('X-Request-Id', request.id);
    serveRequest(request.id, next);
  });
  if (logger.isLevelEnabled('debug')) app.use(logRequests(logger));
  app.use(securityHeaders);
  app.use(closeUnread);
  app.use(checkUrl);
  for (const middleware of beforeBody?.(app) ?? []) app.use(middleware);
  if (bodyBytes !== null) app.use(readJson({ bytes: bodyBytes, caps: trustedCaps, seeBody }));
  for (const middleware of afterBody) app.use(middleware);
  app.useGlobalFilters(new ProblemFilter(logger));
  app.enableShutdownHooks();
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

/** Refuses NUL characters anywhere in the URL, which PostgreSQL cannot store in a text, and text that is not UTF-8. */
function checkUrl(request: Request, _response: Response, next: NextFunction): void {
  const { url } = request;
  if (url.includes('%00'))
    next(new ValidationFailed([{ path: 'url', message: 'must not contain NUL characters' }]));
  else if (!isDecodable(url))
    next(
      new ValidationFailed([
        { path: 'url', message: 'must be UTF-8, with a % only before two hexadecimal digits' },
      ]),
    );
  else next();
}

function isDecodable(url: string): boolean {
  if (!url.includes('%')) return true;
  try {
    decodeURIComponent(url);
    return true;
  } catch {
    return false;
  }
}
