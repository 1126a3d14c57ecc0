import type { NextFunction, Request, Response } from 'express';
import { Problem } from '../errors/problem.js';

/** URLs are kept by proxies, browsers and logs. */
export class KeyInUrl extends Problem {
  constructor(what: string) {
    super(
      400,
      'auth.key_in_url',
      `The URL has ${what}. URLs are written to logs on their way: send the key as "Authorization: Bearer KEY" or "X-Api-Key: KEY", and make a new one in place of one that was sent so.`,
    );
  }
}

const names =
  /[?&](x[-_]?api[-_]?key|api[-_]?key|access[-_]?token|auth|authorization|bearer|key|token|secret)=/i;
const keys = /fl[aik]_[\w-]{16,}/;

/** Refuses a request that has a key in its URL, so that nobody gets used to it. */
export function refuseKeyInUrl(request: Request, _response: Response, next: NextFunction): void {
  const { originalUrl } = request;
  const name = originalUrl.includes('?') ? names.exec(originalUrl)?.[1] : undefined;
  if (name !== undefined) next(new KeyInUrl(`a parameter ${name}`));
  else if (keys.test(originalUrl)) next(new KeyInUrl('an API key in it'));
  else next();
}
