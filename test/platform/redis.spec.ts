import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Redis } from 'ioredis';
import { tcpProxy, type TcpProxy } from '../../setup/tcp-proxy.mjs';
import { loadConfig } from '../../src/platform/config/config.js';
import { blockingRedis, connectRedis } from '../../src/platform/queues/redis.js';
import { eventually } from '../support/eventually.js';

let cable: TcpProxy;
let redis: Redis;
let seen: { breaks: number };

beforeEach(async () => {
  const config = loadConfig(process.env);
  cable = await tcpProxy(config.redis.url);
  redis = connectRedis({ ...config, redis: { ...config.redis, url: cable.url } });
  seen = watch(redis);
  await redis.ping();
});
afterEach(async () => {
  redis.disconnect();
  await cable.close();
});

/** Counts how often a connection breaks or is closed. */
function watch(connection: Redis): { breaks: number } {
  const counts = { breaks: 0 };
  connection.on('close', () => (counts.breaks += 1));
  connection.on('error', () => undefined);
  return counts;
}

function timePasses(ms: number): Promise<boolean> {
  const until = performance.now() + ms;
  return eventually(`${ms} ms have passed`, () => Promise.resolve(performance.now() > until));
}

it('a silent connection is closed, and its commands are sent again on another connection', async () => {
  // The test uses a tenth of the timeout. This line checks the real value first.
  expect(redis.options.socketTimeout).toBe(10_000);
  redis.options.socketTimeout = 1_000;
  cable.drop();
  const askedAt = performance.now();
  expect(await redis.ping()).toBe('PONG');
  expect(performance.now() - askedAt).toBeLessThan(6_000);
  expect(seen.breaks).toBe(1);
});

it('an idle connection stays open', async () => {
  redis.options.socketTimeout = 300;
  expect(await redis.ping()).toBe('PONG');
  await timePasses(1_000);
  expect(await redis.ping()).toBe('PONG');
  expect(seen.breaks).toBe(0);
});

it('a connection that broke during a command does not end the next connection', async () => {
  redis.options.socketTimeout = 1_000;
  cable.cut();
  const answer = redis.ping();
  cable.restore();
  expect(await answer).toBe('PONG');
  await timePasses(1_500);
  expect(await redis.ping()).toBe('PONG');
  expect(seen.breaks).toBe(1);
});

it('a blocking connection may be silent for its block time, and no longer', async () => {
  const blocking = blockingRedis(redis, 500);
  const waits = watch(blocking);
  try {
    blocking.options.socketTimeout! -= 9_000;
    expect(await blocking.blpop('nothing', 1)).toBeNull();
    expect(waits.breaks).toBe(0);
    cable.drop();
    expect(await blocking.blpop('nothing', 1)).toBeNull();
    expect(waits.breaks).toBe(1);
  } finally {
    blocking.disconnect();
  }
});

it('a CA is for rediss:// only', async () => {
  const plain = connectRedis({ redis: { url: cable.url, caFile: '/no/ca.pem' } });
  try {
    expect(await plain.ping()).toBe('PONG');
  } finally {
    plain.disconnect();
  }
});
