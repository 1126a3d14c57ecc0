import { urlencoded } from 'express';
import { HealthService } from '../admin/health.service.js';
import { MetricsService } from '../admin/metrics.service.js';
import { boardPath, QueueBoard } from '../admin/queue-board.js';
import { validateRequests } from '../platform/http/http.js';
import { listen, startRole } from '../platform/start-role.js';
import { prefixRoutes, serveDocument } from './api.document.js';
import { ApiModule } from './api.module.js';

void startRole('api', (config, logger) =>
  listen(ApiModule, config, logger, config.http, (app) => {
    const health = app.get(HealthService);
    app.use(health.measure, app.get(MetricsService).measure);
    app.use('/admin/login', urlencoded({ extended: false, limit: '4kb' }));
    app.use(boardPath, ...app.get(QueueBoard).handlers());
    validateRequests(app);
    prefixRoutes(app);
    serveDocument(app);
  }),
);
