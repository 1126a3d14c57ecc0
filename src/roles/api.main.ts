import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';
import { HealthService } from '../admin/health.service.js';
import { validateRequests } from '../platform/http/http.js';
import { listen, startRole } from '../platform/start-role.js';
import { ApiModule } from './api.module.js';

void startRole('api', (config, logger) =>
  listen(ApiModule, config, logger, config.http, (app) => {
    const health = app.get(HealthService);
    app.use(health.measure);
    validateRequests(app);
    app.setGlobalPrefix('api/v1', { exclude: ['/', 'health', 'health/live', 'health/ready', 'api/health'] });
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
