import { describe, expect, it, vi } from 'vitest';
import { settings } from '../support/settings.js';
import { Problem } from '../../src/platform/errors/problem.js';
import { networkOf, RateLimit } from '../../src/platform/http/rate-limit.js';
import { hashKey } from '../../src/workspaces/api-keys.service.js';
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

describe('a limit', () => {
  it('counts each key separately, and starts again a minute after the first call', async () => {
    vi.useFakeTimers();
    try {
      const limit = new RateLimit('key', 2, 'Too many.');
      await limit.take('a');
      await limit.assertLeft('a');
      await limit.take('a');
      await expect(limit.assertLeft('a')).rejects.toMatchObject({ status: 429, retryAfterSeconds: 60 });
      vi.advanceTimersByTime(45_000);
      await expect(limit.take('a')).rejects.toMatchObject({
        code: 'rate_limit.exceeded',
        retryAfterSeconds: 15,
      });
      await limit.take('b');
      vi.advanceTimersByTime(15_000);
      await limit.take('a');
    } finally {
      vi.useRealTimers();
    }
  });

  it('of 0 means no limit', async () => {
    const limit = new RateLimit('key', 0, 'Too many.');
    for (let request = 0; request < 100; request += 1) await limit.take('a');
    await limit.assertLeft('a');
  });

  it('costs a request next to nothing', async () => {
    const limit = new RateLimit('key', 1_000_000, 'Too many.');
    const runs = 20_000;
    const started = process.cpuUsage();
    for (let request = 0; request < runs; request += 1) await limit.take('a');
    const { user, system } = process.cpuUsage(started);
    expect((user + system) / runs).toBeLessThan(50);
  });
});

describe('a key in use', () => {
  it('keeps working while others guess keys from the same address', async () => {
    vi.useFakeTimers();
    try {
      const limits = new RateLimits(settings({ RATE_LIMIT_PER_IP: '3' }));
      const right = hashKey('right');
      const use = () => limits.limitGuesses('203.0.113.1', right, () => 'known');
      const wrong = () =>
        limits.limitGuesses('203.0.113.1', hashKey('wrong'), () => {
          throw new Problem(401, 'auth.invalid_key', 'Wrong.');
        });
      for (const minutes of [0, 45, 45, 45]) {
        vi.advanceTimersByTime(minutes * 60_000);
        for (let guess = 0; guess < 3; guess += 1) await wrong().catch(() => undefined);
        if (minutes === 0) vi.advanceTimersByTime(60_000);
        expect(await use()).toBe('known');
      }
      vi.advanceTimersByTime(61 * 60_000);
      for (let guess = 0; guess < 3; guess += 1) await expect(wrong()).rejects.toMatchObject({ status: 401 });
      await expect(use()).rejects.toMatchObject({ status: 429 });
    } finally {
      vi.useRealTimers();
    }
  });
});
