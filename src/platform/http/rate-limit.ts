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
      `${what} Wait ${retryAfterSeconds} s, as Retry-After says, and try again.`,
      undefined,
      retryAfterSeconds,
    );
  }
}

/**
 * So many of something a minute, counted in this process: asking Redis would cost each request more than all that it does
 * otherwise, and would make it wait for a Redis that is away. Several API processes each allow as much.
 */
export class RateLimit {
  private readonly counter: RateLimiterMemory;

  /**
   * @param name what the `RateLimit` header calls it
   * @param perMinute 0 is without limit
   * @param refusal a sentence that says what there was too much of
   */
  constructor(
    private readonly name: string,
    private readonly perMinute: number,
    private readonly refusal: string,
  ) {
    this.counter = new RateLimiterMemory({ keyPrefix: '', points: perMinute, duration: windowSeconds });
  }

  /** Counts one, and says in the headers of the answer how many are left. @throws RateLimitExceeded */
  async take(key: string, response?: Response): Promise<void> {
    if (this.perMinute === 0) return;
    const state = await this.counter.penalty(key);
    this.describe(state, response);
    if (state.consumedPoints > this.perMinute) throw this.exceeded(state);
  }

  /** Counts nothing. @throws RateLimitExceeded when as many as allowed have been counted */
  async assertLeft(key: string): Promise<void> {
    if (this.perMinute === 0) return;
    const state = await this.counter.get(key);
    if (state && state.consumedPoints >= this.perMinute) throw this.exceeded(state);
  }

  private exceeded(state: RateLimiterRes): RateLimitExceeded {
    return new RateLimitExceeded(this.refusal, secondsOf(state));
  }

  /** As draft-ietf-httpapi-ratelimit-headers has it: q in w seconds are allowed, r are left until t seconds from now. */
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

/** Whom an address stands for: one customer of a provider has a whole /64 of IPv6. */
export function networkOf(ip: string): string {
  if (!ipaddr.isValid(ip)) return ip;
  const address = ipaddr.process(ip);
  if (address.kind() === 'ipv4') return address.toString();
  const network = (address as ipaddr.IPv6).parts.slice(0, 4).map((part) => part.toString(16));
  return `${network.join(':')}::/64`;
}
