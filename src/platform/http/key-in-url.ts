import type { NextFunction, Request, Response } from 'express';
import { Problem } from '../errors/problem.js';

/** A key in a URL is not secret: proxies, browsers and logs keep URLs. */
export class KeyInUrl extends Problem {
  constructor(what: string) {
    super(
      400,
      'auth.key_in_url',
      `The URL contains ${what}. Proxies and logs keep URLs. Send the key as "Authorization: Bearer KEY" or "X-Api-Key: KEY", and replace every key that was sent in a URL.`,
    );
  }
}

const keyParameters =
  /[?&](x[-_]?api[-_]?key|api[-_]?key|access[-_]?token|auth|authorization|bearer|key|token|secret)=/i;
const keyLike = /fl[aik]_[\w-]{16,}/;

/** Refuses a request with a key in its URL, so that no client relies on it. */
export function refuseKeyInUrl(request: Request, _response: Response, next: NextFunction): void {
  const { originalUrl } = request;
  const name = originalUrl.includes('?') ? keyParameters.exec(originalUrl)?.[1] : undefined;
  if (name !== undefined) next(new KeyInUrl(`the parameter ${name}`));
  else if (keyLike.test(originalUrl)) next(new KeyInUrl('an API key'));
  else next();
}
