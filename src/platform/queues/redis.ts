import { Redis } from 'ioredis';
import type { Config } from '../config/config.js';

/** Injection token of the process's connection to Redis. */
export const REDIS = Symbol('REDIS');

/**
 * One connection to Redis (or Valkey) that reconnects for ever, half a second apart at most. BullMQ wants
 * `maxRetriesPerRequest: null`: a command that was interrupted is sent again after the reconnect.
 */
export function connectRedis(config: Config): Redis {
  return new Redis(config.redis.url, {
    maxRetriesPerRequest: null,
    retryStrategy: (attempt) => Math.min(attempt * 50, 500),
  });
}
