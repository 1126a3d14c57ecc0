import type { Response } from 'express';
import { describe, expect, it, vi } from 'vitest';
import { fake } from '../support/fake.js';
import { settings } from '../support/settings.js';
import { Problem } from '../../src/platform/errors/problem.js';
import { networkOf, RateLimit, takeFromEach } from '../../src/platform/http/rate-limit.js';
import { SharedCounts } from '../../src/platform/limits/shared-counts.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import { hashKey } from '../../src/workspaces/api-keys.service.js';
import type { KnownKeys } from '../../src/workspaces/known-keys.js';
import { RateLimits } from '../../src/workspaces/rate-limits.js';

describe('the network of an address', () => {
  it.each([
    ['203.0.113.9', '203.0.113.9'],
    ['::ffff:203.0.113.9', '203.0.113.9'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:DB8:1:2::1', '2001:db8:1:2::/64'],
    ['2001:0db8:0001:0002:ffff::1', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['', ''],
  ])('%s is %s', (ip, network) => expect(networkOf(ip)).toBe(network));
});

/** Without Redis this process counts alone. */
const alone = () => new SharedCounts(settings(), createLogger('test', 'silent'));

describe('a limit', () => {
  it('counts each key separately, and starts again a minute after the first call', () => {
    vi.useFakeTimers();
    try {
      const limit = new RateLimit(alone(), 'key', 2, 'Too many.');
      limit.take('a');
      expect(limit.isReached('a')).toBe(false);
      limit.take('a');
      expect(limit.isReached('a')).toBe(true);
      vi.advanceTimersByTime(45_000);
      expect(() => limit.take('a')).toThrow(
        expect.objectContaining({ status: 429, code: 'rate_limit.exceeded', retryAfterSeconds: 15 }),
      );
      limit.take('b');
      vi.advanceTimersByTime(15_000);
      limit.take('a');
    } finally {
      vi.useRealTimers();
    }
  });

  it('of 0 means no limit', () => {
    const limit = new RateLimit(alone(), 'key', 0, 'Too many.');
    for (let request = 0; request < 100; request += 1) limit.take('a');
    expect(limit.isReached('a')).toBe(false);
  });

  it('costs a request next to nothing', () => {
    const limit = new RateLimit(alone(), 'key', 1_000_000, 'Too many.');
    const runs = 20_000;
    const started = process.cpuUsage();
    for (let request = 0; request < runs; request += 1) limit.take('a');
    const { user, system } = process.cpuUsage(started);
    expect((user + system) / runs).toBeLessThan(50);
  });

  it('beside another one: the answer tells about the nearer one, and a refused request counts in neither', () => {
    const counts = alone();
    const perKey = new RateLimit(counts, 'key', 2, 'Too many with the key.');
    const perWorkspace = new RateLimit(counts, 'workspace', 3, 'Too many of the workspace.');
    const headers = new Map<string, string>();
    const response = fake<Response>({
      headersSent: false,
      setHeader: (name, value) => fake<Response>({ headersSent: Boolean(headers.set(name, String(value))) }),
    });
    const ask = (key: string) =>
      takeFromEach(
        [
          [perWorkspace, 'w'],
          [perKey, key],
        ],
        response,
      );
    ask('a');
    expect(headers.get('RateLimit')).toBe('"key";r=1;t=60');
    expect(headers.get('RateLimit-Policy')).toBe('"key";q=2;w=60');
    ask('a');
    expect(() => ask('a')).toThrow('Too many with the key.');
    expect(perWorkspace.left('w')).toBe(1);
    ask('b');
    expect(headers.get('RateLimit')).toBe('"workspace";r=0;t=60');
    expect(() => ask('c')).toThrow('Too many of the workspace.');
    expect(perKey.left('c')).toBe(2);
  });
});

describe('beside strangers who guess keys from the same address', () => {
  const address = '203.0.113.1';
  const wrong = () => {
    throw new Problem(401, 'auth.invalid_key', 'Wrong.');
  };
  /** The limits, with the keys that exist, after as many guesses as the address has. */
  async function afterGuesses(env: NodeJS.ProcessEnv, ...keys: string[]) {
    const known = new Set(keys.map((key) => hashKey(key).toString('hex')));
    let guesses = 0;
    const limits = new RateLimits(
      settings({ RATE_LIMIT_PER_IP: '3', ...env }),
      alone(),
      fake<KnownKeys>({ has: (hash) => Promise.resolve(known.has(hash.toString('hex'))) }),
    );
    const guess = () =>
      limits
        .limitGuesses(address, hashKey(`guess ${(guesses += 1)}`), wrong)
        .catch((error: Problem) => error.status);
    const use = (key: string) => limits.limitGuesses(address, hashKey(key), () => 'right');
    const exhaust = async () => {
      for (let count = 0; count < 3; count += 1) expect(await guess()).toBe(401);
      expect(await guess()).toBe(429);
    };
    await exhaust();
    return { limits, use, exhaust };
  }

  it('a key works that was never used there, and no look-up is made for a guess', async () => {
    const { limits, use } = await afterGuesses({}, 'flk_right');
    expect(await use('flk_right')).toBe('right');
    let lookedUp = false;
    const guess = limits.limitGuesses(address, hashKey('flk_wrong'), () => (lookedUp = true));
    await expect(guess).rejects.toMatchObject({ status: 429 });
    await expect(limits.limitGuesses(address, undefined, wrong)).rejects.toMatchObject({ status: 429 });
    expect(lookedUp).toBe(false);
  });

  it('a long secret of the operator works, and a short one only where it was used within the hour', async () => {
    vi.useFakeTimers();
    try {
      const long = 'l'.repeat(32);
      const short = 's'.repeat(31);
      const { use, exhaust } = await afterGuesses({ ADMIN_API_KEY: long, METRICS_TOKEN: short });
      expect(await use(long)).toBe('right');
      await expect(use(short)).rejects.toMatchObject({ status: 429 });
      vi.advanceTimersByTime(60_000);
      expect(await use(short)).toBe('right');
      for (const minutes of [0, 45, 45]) {
        vi.advanceTimersByTime(minutes * 60_000);
        await exhaust();
        expect(await use(short)).toBe('right');
      }
      vi.advanceTimersByTime(61 * 60_000);
      await exhaust();
      await expect(use(short)).rejects.toMatchObject({ status: 429 });
    } finally {
      vi.useRealTimers();
    }
  });
});
