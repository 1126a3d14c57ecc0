import { timingSafeEqual } from 'node:crypto';
import type { NextFunction, Request, Response } from 'express';
import type { Config } from '../platform/config/config.js';
import { Problem } from '../platform/errors/problem.js';
import type { HttpOptions } from '../platform/http/http.js';
import { signedCalls } from '../platform/http/internal.guard.js';
import { CallVerifier, sandboxAudience } from '../platform/http/signed-calls.js';
import { hashKey } from '../workspaces/api-keys.service.js';
import { keyOf } from '../workspaces/auth.guard.js';

/** A page of a website, in the browser of somebody on this machine, called the control API. */
export class ForeignPage extends Problem {
  constructor() {
    super(
      403,
      'sandbox.foreign_page',
      'The sandbox takes no calls from pages of other origins. Call its control API from a program.',
    );
  }
}

/**
 * The control API is open on this machine, since the sandbox holds nothing real. From other machines it takes the admin key
 * or a signed call of Flotilla only, because a caller can fill the disk.
 *
 * A page in a browser on this machine is not this machine: it may not call. Its calls carry its origin. If its website points
 * its own name to this machine (DNS rebinding), they carry that name as their `Host`.
 */
export function httpOptionsOf({ adminApiKey, internalApiKey, sandbox }: Config): HttpOptions {
  const adminKey = hashKey(adminApiKey);
  const isLocal = (request: Request): boolean =>
    /^(::ffff:)?127\.|^::1$/.test(request.socket.remoteAddress ?? '') &&
    isNameOfThisMachine(request.headers.host, sandbox.host);
  const mayControl = (request: Request): boolean =>
    isLocal(request) || timingSafeEqual(hashKey(keyOf(request) ?? ''), adminKey);
  const verifier = new CallVerifier(internalApiKey);
  const { beforeBody, seeBody, afterBody } = signedCalls(verifier, sandboxAudience, mayControl);
  return {
    beforeBody: () => [refuseForeignPages, beforeBody],
    seeBody,
    afterBody: [afterBody],
    // The largest body is a picture that is too large for Flotilla, in base64.
    bodyBytes: 4 * 2 ** 20,
  };
}

/** Browsers send the origin of a page with every call that changes something, and with every call that the page may read. */
function refuseForeignPages(request: Request, response: Response, next: NextFunction): void {
  const { origin, host } = request.headers;
  const site = request.headers['sec-fetch-site'];
  const isForeign =
    (origin !== undefined && origin !== `http://${host}`) ||
    (site !== undefined && site !== 'same-origin' && site !== 'none');
  if (!isForeign) {
    next();
    return;
  }
  // The server does not read the rest of the request.
  response.set('Connection', 'close');
  next(new ForeignPage());
}

/** Whether a `Host` names this machine in a way that only this machine decides. */
function isNameOfThisMachine(host: string | undefined, configured: string): boolean {
  if (host === undefined || !URL.canParse(`http://${host}`)) return false;
  const { hostname } = new URL(`http://${host}`);
  return /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname) || hostname === configured.toLowerCase();
}
