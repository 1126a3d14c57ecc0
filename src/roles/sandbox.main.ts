import { validateRequests } from '../platform/http/http.js';
import { listen, startRole } from '../platform/start-role.js';
import { SandboxRoleModule } from './sandbox.module.js';

void startRole('sandbox', (config, logger) =>
  listen(
    SandboxRoleModule.of(config, logger),
    config,
    logger,
    { host: config.sandbox.host, port: config.sandbox.controlPort },
    validateRequests,
  ),
);
