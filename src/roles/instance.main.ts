import { listen, startRole } from '../platform/start-role.js';
import { httpOptionsOf } from './instance.http.js';
import { InstanceModule } from './instance.module.js';

void startRole('instance', async (config, logger) => {
  // whatsapp-web.js awaits inside event handlers whose promises it does not await. If the page of an account closes at that
  // moment, the rejection must not end this process with its other accounts. The driver of the account notices the closed
  // page and restarts it.
  process.on('unhandledRejection', (reason) =>
    logger.error({ err: reason }, 'unhandled rejection in a session'),
  );
  await listen(InstanceModule, config, logger, config.instance, undefined, httpOptionsOf(config));
});
