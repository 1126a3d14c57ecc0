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
  // From this machine everybody may control the sandbox, because it holds nothing real. From elsewhere only our programs and
  // the admin may, because a caller can fill the disk.
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
    // The largest body is a picture in base64 that is too large for Flotilla.
    {
      beforeBody: () => [beforeBody],
      seeBody,
      afterBody: [afterBody],
      bodies: [{ path: '/', limit: '4mb' }],
    },
  );
});
