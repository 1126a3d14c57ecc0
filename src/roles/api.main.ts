import type { NestExpressApplication } from '@nestjs/platform-express';
import { type RequestHandler, urlencoded } from 'express';
import { AdminGuard } from '../admin/admin.guard.js';
import { AuditService } from '../admin/audit.service.js';
import { HealthService } from '../admin/health.service.js';
import { MetricsService } from '../admin/metrics.service.js';
import { boardPath, QueueBoard } from '../admin/queue-board.js';
import { allowOrigins } from '../platform/http/cors.js';
import { validateRequests } from '../platform/http/http.js';
import { refuseKeyInUrl } from '../platform/http/key-in-url.js';
import { pageHeaders } from '../platform/http/security-headers.js';
import { listen, startRole } from '../platform/start-role.js';
import { AuthGuard } from '../workspaces/auth.guard.js';
import { apiPath, prefixRoutes, serveDocument } from './api.document.js';
import { ApiModule } from './api.module.js';

/** Where the documentation is. */
const docsPaths = ['/docs', '/docs-json', '/docs-yaml', '/openapi.json'];
/** Where JSON may be large: a thousand messages, and a small file in base64. */
const largeBodies = [`${apiPath}/messages`];

void startRole('api', (config, logger) => {
  const { corsOrigins, docsAccess, trustedProxies } = config.http;
  const configure = (app: NestExpressApplication): void => {
    const health = app.get(HealthService);
    app.use(app.get(AuditService).watch);
    app.use(health.measure, app.get(MetricsService).measure);
    app.use('/admin/login', urlencoded({ extended: false, limit: '4kb' }));
    app.use(boardPath, ...app.get(QueueBoard).handlers());
    if (docsAccess === 'admin') app.use(docsPaths, app.get(AdminGuard).middleware);
    app.use(docsPaths, pageHeaders);
    validateRequests(app);
    prefixRoutes(app);
    serveDocument(app);
  };
  return listen(ApiModule, config, logger, config.http, configure, {
    trustedProxies,
    largeBodies,
    beforeBody: (app) => [
      refuseKeyInUrl,
      ...(corsOrigins.length > 0 ? [onlyBelow(apiPath, allowOrigins(corsOrigins))] : []),
      onlyBelow(apiPath, app.get(AuthGuard).beforeLargeBody),
    ],
  });
});

function onlyBelow(path: string, middleware: RequestHandler): RequestHandler {
  return (request, response, next) => {
    if (request.path.startsWith(`${path}/`)) return middleware(request, response, next);
    next();
  };
}
