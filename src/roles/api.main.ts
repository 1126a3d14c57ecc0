import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';
import { urlencoded } from 'express';
import { AuditService } from '../admin/audit.service.js';
import { HealthService } from '../admin/health.service.js';
import { MetricsService } from '../admin/metrics.service.js';
import { boardPath, QueueBoard } from '../admin/queue-board.js';
import { validateRequests } from '../platform/http/http.js';
import { listen, startRole } from '../platform/start-role.js';
import { ApiModule } from './api.module.js';

/** What lies outside `/api/v1`. */
const unprefixed = [
  '/',
  'health',
  'health/live',
  'health/ready',
  'api/health',
  'metrics',
  'admin/login',
  'admin/logout',
];

void startRole('api', (config, logger) =>
  listen(ApiModule, config, logger, config.http, (app) => {
    const health = app.get(HealthService);
    app.use(app.get(AuditService).watch);
    app.use(health.measure, app.get(MetricsService).measure);
    app.use('/admin/login', urlencoded({ extended: false, limit: '4kb' }));
    app.use(boardPath, ...app.get(QueueBoard).handlers());
    validateRequests(app);
    app.setGlobalPrefix('api/v1', { exclude: unprefixed });
    const description = new DocumentBuilder()
      .setTitle('Flotilla')
      .setDescription(
        'Runs a fleet of WhatsApp accounts: accepts messages, sends each once, and tells what became of it.',
      )
      .setVersion(health.version)
      .addBearerAuth()
      .addSecurityRequirements('bearer')
      .build();
    SwaggerModule.setup('docs', app, () => SwaggerModule.createDocument(app, description), {
      jsonDocumentUrl: 'openapi.json',
    });
  }),
);
