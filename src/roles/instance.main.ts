import { signedCalls } from '../platform/http/internal.guard.js';
import { CallVerifier } from '../platform/http/signed-calls.js';
import { listen, startRole } from '../platform/start-role.js';
import { InstanceModule } from './instance.module.js';

void startRole('instance', async (config, logger) => {
  // whatsapp-web.js awaits inside event handlers that nobody awaits: an account whose page goes away at that moment must
  // not take the others of this process with it. Its driver notices and starts it again.
  process.on('unhandledRejection', (reason) =>
    logger.error({ err: reason }, 'an unhandled rejection in a session'),
  );
  const verifier = new CallVerifier(config.internalApiKey);
  const { beforeBody, seeBody, afterBody } = signedCalls(verifier, config.instance.url);
  await listen(InstanceModule, config, logger, config.instance, undefined, {
    beforeBody: () => [beforeBody],
    seeBody,
    afterBody: [afterBody],
  });
});
