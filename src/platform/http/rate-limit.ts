import type { Response } from 'express';
import ipaddr from 'ipaddr.js';
import { RateLimiterMemory, type RateLimiterRes } from 'rate-limiter-flexible';
import { Problem } from '../errors/problem.js';

const windowSeconds = 60;

export class RateLimitExceeded extends Problem {
  constructor(what: string, retryAfterSeconds: number) {
    super(
      429,
      'rate_limit.exceeded',
      `${what} Wait ${retryAfterSeconds} s, then try again (see Retry-After).`,
      undefined,
      retryAfterSeconds,
    );
  }
}

/**
 * A limit per minute, counted in this process. A counter in Redis would cost each request more than all its other work, and
 * requests would wait for Redis during an outage. Each API process allows the full limit.
 */
export class RateLimit {
  private readonly counter: RateLimiterMemory;

  /**
   * @param name the name of the limit in the `RateLimit` header
   * @param perMinute 0: no limit
   * @param refusal a sentence that says what exceeded the limit
   */
  constructor(
    private readonly name: string,
    private readonly perMinute: number,
    private readonly refusal: string,
  ) {
    this.counter = new RateLimiterMemory({ keyPrefix: '', points: perMinute, duration: windowSeconds });
  }

  /** Counts one, and writes how many are left into the headers of the answer. @throws RateLimitExceeded */
  async take(key: string, response?: Response): Promise<void> {
    if (this.perMinute === 0) return;
    const state = await this.counter.penalty(key);
    this.describe(state, response);
    if (state.consumedPoints > this.perMinute) throw this.exceeded(state);
  }

  /** Checks the limit without counting. @throws RateLimitExceeded if the limit is reached */
  async assertLeft(key: string): Promise<void> {
    if (this.perMinute === 0) return;
    const state = await this.counter.get(key);
    if (state && state.consumedPoints >= this.perMinute) throw this.exceeded(state);
  }

  private exceeded(state: RateLimiterRes): RateLimitExceeded {
    return new RateLimitExceeded(this.refusal, secondsOf(state));
  }

  /** Headers of draft-ietf-httpapi-ratelimit-headers: q requests in w seconds are allowed, r are left for the next t seconds. */
  private describe(state: RateLimiterRes, response: Response | undefined): void {
    if (!response || response.headersSent) return;
    response.setHeader('RateLimit-Policy', `"${this.name}";q=${this.perMinute};w=${windowSeconds}`);
    const left = Math.max(0, this.perMinute - state.consumedPoints);
    response.setHeader('RateLimit', `"${this.name}";r=${left};t=${secondsOf(state)}`);
  }
}

function secondsOf({ msBeforeNext }: RateLimiterRes): number {
  return Math.max(1, Math.ceil(msBeforeNext / 1_000));
}

/** The network to count for an address: a customer of an internet provider has a whole /64 of IPv6. */
export function networkOf(ip: string): string {
  if (!ipaddr.isValid(ip)) return ip;
  const address = ipaddr.process(ip);
  if (address.kind() === 'ipv4') return address.toString();
  const network = (address as ipaddr.IPv6).parts.slice(0, 4).map((part) => part.toString(16));
  return `${network.join(':')}::/64`;
}
