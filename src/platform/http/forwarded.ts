import type { NextFunction, Request, Response } from 'express';
import { isIP } from 'node:net';

/**
 * Middleware that removes the ports from `X-Forwarded-For`, which some proxies write: `192.0.2.1:5678` and `[2001:db8::1]:80` are
 * the addresses `192.0.2.1` and `2001:db8::1`. With ports, no address would be in an allow-list or a list of trusted proxies, and
 * each connection would have a rate limit of its own.
 */
export function forwardedWithoutPorts(request: Request, _response: Response, next: NextFunction): void {
  const { headers } = request;
  const forwarded = headers['x-forwarded-for'];
  // Node joins repeated headers with commas.
  if (typeof forwarded === 'string')
    headers['x-forwarded-for'] = forwarded.split(',').map(addressOf).join(', ');
  next();
}

/** The address in an entry; the entry itself if it holds no address. */
function addressOf(entry: string): string {
  const text = entry.trim().replace(/^"(.*)"$/, '$1');
  const address = /^\[([^\]]+)\](?::\d+)?$/.exec(text)?.[1] ?? /^([\d.]+):\d+$/.exec(text)?.[1] ?? text;
  return isIP(address) === 0 ? entry.trim() : address;
}
