import { Redis } from 'ioredis';
import type { Config } from '../config/config.js';

/** Injection token of the process's connection to Redis. */
export const REDIS = Symbol('REDIS');

/** How long Redis may be silent while it is asked something. */
const silentMs = 10_000;
/** After how long without a word the system asks whether the other side is there, so that an idle connection is no dead one. */
const keepAliveMs = 5_000;

/**
 * One connection to Redis (or Valkey) that reconnects for ever, half a second apart at most. BullMQ wants
 * `maxRetriesPerRequest: null`: a command that was interrupted is sent again after the reconnect. A network that drops packets
 * interrupts nothing, so a connection on which no answer comes is given up.
 */
export function connectRedis(config: Config): Redis {
  return withFreshTimers(
    new Redis(config.redis.url, {
      maxRetriesPerRequest: null,
      retryStrategy: (attempt) => Math.min(attempt * 50, 500),
      socketTimeout: silentMs,
      keepAlive: keepAliveMs,
    }),
  );
}

/** Another connection to the same Redis, for commands that may block for so long. */
export function blockingRedis(redis: Redis, longestMs: number): Redis {
  return withFreshTimers(redis.duplicate({ socketTimeout: longestMs + silentMs }));
}

/** When a connection breaks, ioredis leaves the timer of its silence running, which would end the next connection. */
function withFreshTimers(redis: Redis): Redis {
  return redis.on('close', () => {
    clearTimeout(redis['socketTimeoutTimer'] as NodeJS.Timeout | undefined);
    redis['socketTimeoutTimer'] = undefined;
  });
}
