import { Inject, Injectable } from '@nestjs/common';
import type { Response } from 'express';
import { LRUCache } from 'lru-cache';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { networkOf, RateLimit } from '../platform/http/rate-limit.js';
import type { Principal } from './authentication.service.js';

/** For this time after its last use, a valid key works from its address even while others guess keys from there. */
const trustedForMs = 3_600_000;
const trustedAtMost = 10_000;
const loginsPerMinute = 10;

/** Limits how often keys may be used and guessed. */
@Injectable()
export class RateLimits {
  private readonly requests: RateLimit;
  private readonly failures: RateLimit;
  private readonly logins: RateLimit;
  /** Which keys were right from which address. */
  private readonly trusted = new LRUCache<string, true>({
    max: trustedAtMost,
    ttl: trustedForMs,
    // Looked up at each call, so that tests can move the clock.
    perf: { now: () => Date.now() },
  });

  constructor(@Inject(CONFIG) { http }: Config) {
    this.requests = new RateLimit('key', http.rateLimitPerKey, 'This API key has made too many requests.');
    this.failures = new RateLimit(
      'address',
      http.rateLimitPerAddress,
      'Your address has made too many requests without a key or with a wrong key.',
    );
    this.logins = new RateLimit('login', loginsPerMinute, 'There were too many attempts to log in.');
  }

  /** Counts a request with a valid key. @throws RateLimitExceeded */
  count(principal: Principal, response: Response): Promise<void> {
    return this.requests.take(principal.kind === 'admin' ? 'admin' : principal.keyId, response);
  }

  /** Counts an attempt to log in with a browser. @throws RateLimitExceeded */
  countLogin(ip: string, response: Response): Promise<void> {
    return this.logins.take(networkOf(ip), response);
  }

  /**
   * Checks a key, and limits the wrong keys of an address. A key that was valid from an address still works when the address
   * has reached its limit, because many callers may share one proxy or router.
   * @param hash the hash of the key; undefined if the caller sent no key
   * @param check throws a problem with status 401 if the key is wrong
   * @throws RateLimitExceeded, and the errors of `check`
   */
  async limitGuesses<Found>(
    ip: string,
    hash: Buffer | undefined,
    check: () => Found | Promise<Found>,
  ): Promise<Found> {
    const network = networkOf(ip);
    const pair = hash && `${network} ${hash.toString('base64')}`;
    const isTrusted = pair !== undefined && this.trusted.has(pair);
    if (!isTrusted) await this.failures.assertLeft(network);
    try {
      const found = await check();
      // Set again with each use, so that a key in use stays trusted.
      if (pair !== undefined) this.trusted.set(pair, true);
      return found;
    } catch (error) {
      if (error instanceof Problem && error.status === 401) {
        if (pair !== undefined) this.trusted.delete(pair);
        await this.failures.take(network);
      }
      throw error;
    }
  }
}
