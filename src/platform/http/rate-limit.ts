import type { Response } from 'express';
import ipaddr from 'ipaddr.js';
import { LRUCache } from 'lru-cache';
import { Problem } from '../errors/problem.js';
import type { SharedCount, SharedCounts } from '../limits/shared-counts.js';

const windowSeconds = 60;
/** How many keys are counted at the same time. Beyond it, the keys that have not called for the longest time are forgotten. */
const maxWindows = 50_000;

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

/** A limit per minute. All API processes count together, see {@link SharedCounts}. */
export class RateLimit {
  /** The present window of each key. A window begins with its first call. */
  private readonly windows = new LRUCache<string, SharedCount>({ max: maxWindows });

  /**
   * @param name unique: the name of the limit in the `RateLimit` header, and a part of the id in Redis
   * @param perMinute 0: no limit
   * @param refusal a sentence that says what exceeded the limit
   */
  constructor(
    private readonly shared: SharedCounts,
    readonly name: string,
    readonly perMinute: number,
    private readonly refusal: string,
  ) {}

  /** Counts one, and writes how many are left into the headers of the answer. @throws RateLimitExceeded */
  take(key: string, response?: Response): void {
    takeFromEach([[this, key]], response);
  }

  /** Whether the limit is reached. */
  isReached(key: string): boolean {
    return this.left(key) <= 0;
  }

  /** How many are left in the present window. */
  left(key: string): number {
    if (this.perMinute === 0) return Infinity;
    const { own, others } = this.window(key);
    return Math.max(0, this.perMinute - own - others);
  }

  /** The time until the present window ends, in seconds. */
  secondsLeft(key: string): number {
    return Math.max(1, Math.ceil((this.window(key).endsAt - performance.now()) / 1_000));
  }

  count(key: string): void {
    const window = this.window(key);
    window.own += 1;
    this.windows.set(key, window);
    this.shared.touch(window);
  }

  exceeded(key: string): RateLimitExceeded {
    return new RateLimitExceeded(this.refusal, this.secondsLeft(key));
  }

  private window(key: string): SharedCount {
    const now = performance.now();
    const present = this.windows.get(key);
    if (present && present.endsAt > now) return present;
    const id = `${this.name}:${key}`;
    const endsAt = now + windowSeconds * 1_000;
    return { id, kind: 'window', limit: this.perMinute, own: 0, others: 0, endsAt, known: 0 };
  }
}

/**
 * Counts one in each limit, or in none if one of them is reached. The headers of the answer tell about the limit with the fewest
 * left: q requests in w seconds are allowed, r are left for the next t seconds (draft-ietf-httpapi-ratelimit-headers).
 * @throws RateLimitExceeded
 */
export function takeFromEach(limits: [RateLimit, key: string][], response?: Response): void {
  let nearest: [RateLimit, key: string] | undefined;
  for (const one of limits) {
    const [limit, key] = one;
    if (limit.perMinute > 0 && (!nearest || limit.left(key) < nearest[0].left(nearest[1]))) nearest = one;
  }
  if (!nearest) return;
  const [limit, key] = nearest;
  const isReached = limit.isReached(key);
  if (!isReached) for (const [each, of] of limits) if (each.perMinute > 0) each.count(of);
  if (response && !response.headersSent) {
    response.setHeader('RateLimit-Policy', `"${limit.name}";q=${limit.perMinute};w=${windowSeconds}`);
    response.setHeader('RateLimit', `"${limit.name}";r=${limit.left(key)};t=${limit.secondsLeft(key)}`);
  }
  if (isReached) throw limit.exceeded(key);
}

/** The network to count for an address: a customer of an internet provider has a whole /64 of IPv6. */
export function networkOf(ip: string): string {
  if (!ipaddr.isValid(ip)) return ip;
  const address = ipaddr.process(ip);
  if (address.kind() === 'ipv4') return address.toString();
  const network = (address as ipaddr.IPv6).parts.slice(0, 4).map((part) => part.toString(16));
  return `${network.join(':')}::/64`;
}
