import { validateRequests } from '../platform/http/validation.js';
import { listen, startRole } from '../platform/start-role.js';
import { httpOptionsOf } from './sandbox.http.js';
import { SandboxRoleModule } from './sandbox.module.js';

void startRole('sandbox', (config, logger) => {
  const address = { host: config.sandbox.host, port: config.sandbox.controlPort };
  const module = SandboxRoleModule.of(config, logger);
  return listen(module, config, logger, address, validateRequests, httpOptionsOf(config));
});
