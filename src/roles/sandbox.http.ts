import { timingSafeEqual } from 'node:crypto';
import type { Request } from 'express';
import type { Config } from '../platform/config/config.js';
import type { HttpOptions } from '../platform/http/http.js';
import { signedCalls } from '../platform/http/internal.guard.js';
import { CallVerifier, sandboxAudience } from '../platform/http/signed-calls.js';
import { hashKey } from '../workspaces/api-keys.service.js';
import { keyOf } from '../workspaces/auth.guard.js';

/**
 * The control API is open on this machine, since the sandbox holds nothing real. From other machines it takes the admin key
 * or a signed call of Flotilla only, because a caller can fill the disk.
 */
export function httpOptionsOf({ adminApiKey, internalApiKey }: Config): HttpOptions {
  const adminKey = hashKey(adminApiKey);
  const mayControl = (request: Request): boolean =>
    /^(::ffff:)?127\.|^::1$/.test(request.socket.remoteAddress ?? '') ||
    timingSafeEqual(hashKey(keyOf(request) ?? ''), adminKey);
  const verifier = new CallVerifier(internalApiKey);
  const { beforeBody, seeBody, afterBody } = signedCalls(verifier, sandboxAudience, mayControl);
  return {
    beforeBody: () => [beforeBody],
    seeBody,
    afterBody: [afterBody],
    // The largest body is a picture that is too large for Flotilla, in base64.
    bodyBytes: 4 * 2 ** 20,
  };
}
