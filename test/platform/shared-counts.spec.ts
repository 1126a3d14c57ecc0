import type { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { tcpProxy, type TcpProxy } from '../../setup/tcp-proxy.mjs';
import { type Config, loadConfig } from '../../src/platform/config/config.js';
import { Problem } from '../../src/platform/errors/problem.js';
import { RateLimit } from '../../src/platform/http/rate-limit.js';
import type { Logger } from '../../src/platform/logging/logger.js';
import { ConcurrencyLimit } from '../../src/platform/limits/concurrency-limit.js';
import { SharedCounts } from '../../src/platform/limits/shared-counts.js';
import { connectRedis } from '../../src/platform/queues/redis.js';
import { eventually } from '../support/eventually.js';
import { fake } from '../support/fake.js';

/** Three processes; the connection of the third one can be cut. */
let cable: TcpProxy;
let config: Config;
let connections: Redis[];
let processes: SharedCounts[];
let warnings: string[];

beforeEach(async () => {
  config = loadConfig(process.env);
  // Counts of its own for each test.
  config = { ...config, database: { ...config.database, url: `postgresql://x/${crypto.randomUUID()}` } };
  cable = await tcpProxy(config.redis.url);
  warnings = [];
  const logger = fake<Logger>({
    warn: (...parts: unknown[]) => void warnings.push(String(parts.at(-1))),
    info: (...parts: unknown[]) => void warnings.push(String(parts.at(-1))),
  });
  connections = [config.redis.url, config.redis.url, cable.url].map((url) =>
    connectRedis({ ...config, redis: { ...config.redis, url } }).on('error', () => undefined),
  );
  processes = connections.map((redis) => new SharedCounts(config, logger, redis));
  await Promise.all(connections.map((redis) => redis.ping()));
});
afterEach(async () => {
  await Promise.all(processes.map((counts) => counts.beforeApplicationShutdown()));
  for (const redis of connections) redis.disconnect();
  await cable.close();
});

const limits = (perMinute: number) =>
  processes.map((counts) => new RateLimit(counts, 'key', perMinute, 'Too many.')) as [
    RateLimit,
    RateLimit,
    RateLimit,
  ];
const take = (limit: RateLimit, count: number) => {
  let taken = 0;
  for (; taken < count && !limit.isReached('a'); taken += 1) limit.take('a');
  return taken;
};

describe('a limit per minute', () => {
  it('holds for all processes together, and for a process that starts later', async () => {
    const [first, second] = limits(100);
    expect(take(first, 60)).toBe(60);
    await eventually('the second one knows', () => {
      // One request at a time, as they come.
      take(second, 1);
      return second.left('a') < 40;
    });
    await eventually('all are taken', () => {
      take(first, 1);
      take(second, 1);
      return first.isReached('a') && second.isReached('a');
    });
    const restarted = new SharedCounts(config, fake<Logger>({}), connections[0]);
    const late = new RateLimit(restarted, 'key', 100, 'Too many.');
    expect(take(late, 1)).toBe(1);
    await eventually('the restarted one knows', () => late.isReached('a'));
    await restarted.beforeApplicationShutdown();
  });

  it('is exceeded by little when all processes run towards it at full speed', async () => {
    const all = limits(1_000);
    let taken = 0;
    await eventually('all have reached it', () => {
      for (const limit of all) taken += take(limit, 20);
      return all.every((limit) => limit.isReached('a'));
    });
    expect(taken).toBeGreaterThanOrEqual(1_000);
    expect(taken).toBeLessThan(1_200);
  });

  it('survives that Redis forgets everything', async () => {
    const [first, second] = limits(100);
    take(first, 50);
    take(second, 1);
    await eventually('it knows', () => second.left('a') === 49);
    await connections[0]!.del(
      await connections[0]!.keys(`*${new URL(config.database.url).pathname.slice(1)}*`),
    );
    take(first, 10);
    take(second, 1);
    await eventually('it knows again', () => second.left('a') === 38);
  });

  it('holds for each process alone while Redis is away, which one line tells, and for all when it is back', async () => {
    const [first, , cut] = limits(100);
    take(first, 90);
    cable.cut();
    expect(take(cut, 50)).toBe(50);
    await eventually('a warning', () => warnings.length > 0);
    take(cut, 10);
    cable.restore();
    await eventually('it knows', () => cut.isReached('a'));
    expect(warnings).toEqual([
      'Redis does not answer; this process counts limits alone',
      'limits are counted for all API processes together again',
    ]);
  });
});

describe('a limit of what runs at the same time', () => {
  class Full extends Problem {}
  const concurrency = (limit: number) =>
    processes.map(
      (counts) => new ConcurrencyLimit(counts, 'streams', limit, () => new Full(429, 'full', 'Full.')),
    ) as [ConcurrencyLimit, ConcurrencyLimit, ConcurrencyLimit];
  const isFull = (limit: ConcurrencyLimit) => {
    try {
      limit.enter('a')();
      return false;
    } catch (error) {
      expect(error).toBeInstanceOf(Full);
      return true;
    }
  };

  it('holds for all processes together', async () => {
    const [first, second] = concurrency(10);
    const leave = Array.from({ length: 9 }, () => first.enter('a'));
    const leaveSecond = second.enter('a');
    await eventually('the second one is full', () => isFull(second));
    expect(isFull(second)).toBe(true);
    await eventually('and the first one', () => isFull(first));
    leave[0]!();
    // The second call does nothing.
    leave[0]!();
    await eventually('there is room for one', () => !isFull(second));
    const leaveAgain = second.enter('a');
    expect(isFull(second)).toBe(true);
    expect(() => first.enter('b')()).not.toThrow();
    for (const one of [...leave, leaveSecond, leaveAgain]) one();
  });

  it('forgets a process that stopped at once, and one that died after a moment', async () => {
    const [first, second, dying] = concurrency(3);
    first.enter('a');
    dying.enter('a');
    second.enter('a');
    await eventually('it is full', () => isFull(second));
    await processes[0]!.beforeApplicationShutdown();
    await eventually('the first one has stopped', () => !isFull(second));
    const leave = second.enter('a');
    expect(isFull(second)).toBe(true);
    // A process that dies says nothing more.
    cable.cut();
    await eventually('the other one is forgotten', () => !isFull(second));
    leave();
  });
});
