import { validateRequests } from '../platform/http/validation.js';
import { listen, startRole } from '../platform/start-role.js';
import { httpOptionsOf } from './sandbox.http.js';
import { SandboxRoleModule } from './sandbox.module.js';

void startRole('sandbox', (config, logger) => {
  if (!config.sandbox.isOn)
    throw new Error('the sandbox is switched off. Set SANDBOX=true in .env, or take sandbox out of PROGRAMS');
  const address = { host: config.sandbox.host, port: config.sandbox.controlPort };
  const module = SandboxRoleModule.of(config, logger);
  return listen(module, config, logger, address, validateRequests, httpOptionsOf(config));
});
