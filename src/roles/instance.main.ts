import { listen, startRole } from '../platform/start-role.js';
import { httpOptionsOf } from './instance.http.js';
import { InstanceModule } from './instance.module.js';

void startRole('instance', async (config, logger) => {
  // whatsapp-web.js awaits inside event handlers that nobody awaits: an account whose page goes away at that moment must
  // not take the others of this process with it. Its driver notices and starts it again.
  process.on('unhandledRejection', (reason) =>
    logger.error({ err: reason }, 'an unhandled rejection in a session'),
  );
  await listen(InstanceModule, config, logger, config.instance, undefined, httpOptionsOf(config));
});
