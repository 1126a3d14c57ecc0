import { Inject, Injectable } from '@nestjs/common';
import type { Request } from 'express';
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { encryptionKey } from '../platform/encryption.js';

const cookieName = 'flotilla_admin';
const validForMs = 12 * 3_600_000;

/**
 * The admin's login in a browser: a cookie with its expiry time, signed with a separate key derived from `APP_KEY`.
 * The server stores nothing. A change of `ADMIN_API_KEY` or `APP_KEY` ends every login.
 */
@Injectable()
export class AdminSession {
  private readonly key: Buffer;

  constructor(@Inject(CONFIG) private readonly config: Config) {
    this.key = encryptionKey(config.appKey, 'admin-session');
  }

  /** The value of `Set-Cookie` that logs the sender of this request in for twelve hours. */
  begin(request: Request): string {
    const until = String(Date.now() + validForMs);
    return this.cookie(request, `${until}.${this.sign(until)}`, validForMs / 1_000);
  }

  /** The value of `Set-Cookie` that logs out. */
  end(request: Request): string {
    return this.cookie(request, '', 0);
  }

  /** Whether the sender of a request is logged in. */
  isLoggedIn(request: Request): boolean {
    const sent = new RegExp(`(?:^|;\\s*)${cookieName}=(\\d{1,15})\\.([\\w-]+)`).exec(
      request.headers.cookie ?? '',
    );
    const [, until = '', signature = ''] = sent ?? [];
    const expected = Buffer.from(this.sign(until));
    const given = Buffer.from(signature);
    return given.length === expected.length && timingSafeEqual(given, expected) && Number(until) > Date.now();
  }

  /**
   * Whether one of our pages made a request. New browsers say so in `Sec-Fetch-Site`. Older browsers send the origin of the
   * page: it is ours if its host is the host of the request.
   */
  isSameOrigin({ headers }: Request): boolean {
    const site = headers['sec-fetch-site'];
    if (site !== undefined) return site === 'same-origin';
    return headers.origin !== undefined && headers.origin.replace(/^https?:\/\//, '') === headers.host;
  }

  /** Whether a browser says that a page of another origin made this request. Programs other than browsers say nothing. */
  isForeign(request: Request): boolean {
    const { 'sec-fetch-site': site, origin } = request.headers;
    // "none" means that the user made the request: a typed address or a bookmark.
    if (site === 'none') return false;
    return (site !== undefined || origin !== undefined) && !this.isSameOrigin(request);
  }

  private sign(until: string): string {
    return createHmac('sha256', this.key).update(`${until} ${this.config.adminApiKey}`).digest('base64url');
  }

  private cookie(request: Request, value: string, maxAgeSeconds: number): string {
    return [
      `${cookieName}=${value}`,
      'Path=/',
      `Max-Age=${maxAgeSeconds}`,
      'HttpOnly',
      'SameSite=Strict',
      // Behind a proxy, only the proxy knows whether the connection is secure, see TRUSTED_PROXIES.
      ...(request.secure ? ['Secure'] : []),
    ].join('; ');
  }
}
