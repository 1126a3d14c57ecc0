import { readFileSync } from 'node:fs';
import { Redis } from 'ioredis';
import type { Config } from '../config/config.js';

/** Injection token of this process's connection to Redis. */
export const REDIS = Symbol('REDIS');

/** How long Redis may be silent while a command waits for its answer. */
const silenceTimeoutMs = 10_000;
/** After this time without data, the operating system sends TCP keep-alive probes, so that it notices a dead idle connection. */
const keepAliveMs = 5_000;

/**
 * A connection to Redis (or Valkey) that reconnects without end, at least every half second. BullMQ requires
 * `maxRetriesPerRequest: null`: ioredis sends an interrupted command again after the reconnect. A network that drops packets
 * interrupts no connection, so a connection without answers is closed.
 */
export function connectRedis({ redis: { url, caFile } }: Pick<Config, 'redis'>): Redis {
  return withFreshTimers(
    new Redis(url, {
      // Otherwise ioredis would use TLS for redis:// too.
      ...(caFile !== null && url.startsWith('rediss:') ? { tls: { ca: readFileSync(caFile) } } : {}),
      maxRetriesPerRequest: null,
      retryStrategy: (attempt) => Math.min(attempt * 50, 500),
      socketTimeout: silenceTimeoutMs,
      keepAlive: keepAliveMs,
    }),
  );
}

/** Another connection to the same Redis, for commands that block at most `maxBlockMs` milliseconds. */
export function blockingRedis(redis: Redis, maxBlockMs: number): Redis {
  return withFreshTimers(redis.duplicate({ socketTimeout: maxBlockMs + silenceTimeoutMs }));
}

/** Works around ioredis: after a connection breaks, its silence timer keeps running and would close the next connection. */
function withFreshTimers(redis: Redis): Redis {
  return redis.on('close', () => {
    clearTimeout(redis['socketTimeoutTimer'] as NodeJS.Timeout | undefined);
    redis['socketTimeoutTimer'] = undefined;
  });
}
