import { type RequestHandler, urlencoded } from 'express';
import { AdminGuard } from '../admin/admin.guard.js';
import { AuditService } from '../admin/audit.service.js';
import { HealthService } from '../admin/health.service.js';
import { MetricsService } from '../admin/metrics.service.js';
import { boardPath, QueueBoard } from '../admin/queue-board.js';
import type { Config } from '../platform/config/config.js';
import { maxFormBytes, readJson } from '../platform/http/body.js';
import { allowOrigins } from '../platform/http/cors.js';
import type { HttpOptions } from '../platform/http/http.js';
import { refuseKeyInUrl } from '../platform/http/key-in-url.js';
import { networkOf } from '../platform/http/rate-limit.js';
import { pageHeaders } from '../platform/http/security-headers.js';
import { validateRequests } from '../platform/http/validation.js';
import type { ConfigureApp } from '../platform/start-role.js';
import { keyHashOf } from '../workspaces/auth.guard.js';
import { AuthenticationService } from '../workspaces/authentication.service.js';
import { apiPath, prefixRoutes, serveDocument } from './api.document.js';

/** The paths of the documentation. */
const docsPaths = ['/docs', '/docs-json', '/docs-yaml', '/openapi.json'];

/** The middleware in front of the API's routes, beside the middleware of every role. */
export function httpOptionsOf({ http: { corsOrigins, trustedProxies } }: Config): HttpOptions {
  return {
    trustedProxies,
    callerOf: (app) => {
      const authentication = app.get(AuthenticationService);
      return (request) => {
        const hash = keyHashOf(request);
        return (hash && authentication.knownOwner(hash)) ?? networkOf(request.ip ?? '');
      };
    },
    bodyBytes: null,
    beforeBody: (app) => [
      // These come first, so that they also see requests that the next ones refuse.
      app.get(AuditService).watch,
      app.get(HealthService).measure,
      app.get(MetricsService).measure,
      refuseKeyInUrl,
      ...(corsOrigins.length > 0 ? [onlyBelow(apiPath, allowOrigins(corsOrigins))] : []),
    ],
  };
}

/** Adds the pages of the API and the prefix of its routes. */
export function configureApi({ http: { docsAccess } }: Config): ConfigureApp {
  return (app) => {
    app.use(
      '/admin/login',
      urlencoded({ extended: false, limit: maxFormBytes }),
      readJson({ bytes: maxFormBytes }),
    );
    app.use(boardPath, ...app.get(QueueBoard).handlers());
    if (docsAccess === 'admin') app.use(docsPaths, app.get(AdminGuard).middleware);
    app.use(docsPaths, pageHeaders);
    validateRequests(app);
    prefixRoutes(app);
    serveDocument(app);
  };
}

function onlyBelow(path: string, middleware: RequestHandler): RequestHandler {
  return (request, response, next) => {
    if (request.path.startsWith(`${path}/`)) return middleware(request, response, next);
    next();
  };
}
