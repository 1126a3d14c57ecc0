import type { Request } from 'express';
import { timingSafeEqual } from 'node:crypto';
import { validateRequests } from '../platform/http/http.js';
import { signedCalls } from '../platform/http/internal.guard.js';
import { CallVerifier, sandboxAudience } from '../platform/http/signed-calls.js';
import { listen, startRole } from '../platform/start-role.js';
import { keyOf } from '../workspaces/auth.guard.js';
import { hashKey } from '../workspaces/api-keys.service.js';
import { SandboxRoleModule } from './sandbox.module.js';

void startRole('sandbox', (config, logger) => {
  const adminKey = hashKey(config.adminApiKey);
  // On this machine it is everybody's, as it holds nothing real. From elsewhere only ours: with it one can fill a disk.
  const mayControl = (request: Request): boolean =>
    /^(::ffff:)?127\.|^::1$/.test(request.socket.remoteAddress ?? '') ||
    timingSafeEqual(hashKey(keyOf(request) ?? ''), adminKey);
  const verifier = new CallVerifier(config.internalApiKey);
  const { beforeBody, seeBody, afterBody } = signedCalls(verifier, sandboxAudience, mayControl);
  return listen(
    SandboxRoleModule.of(config, logger),
    config,
    logger,
    { host: config.sandbox.host, port: config.sandbox.controlPort },
    validateRequests,
    // A picture that is too large for Flotilla, in base64, is the largest.
    {
      beforeBody: () => [beforeBody],
      seeBody,
      afterBody: [afterBody],
      bodies: [{ path: '/', limit: '4mb' }],
    },
  );
});
