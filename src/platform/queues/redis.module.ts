import { Global, Inject, Module, type OnApplicationShutdown } from '@nestjs/common';
import type { Redis } from 'ioredis';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.module.js';
import type { Logger } from '../logging/logger.js';
import { LOGGER } from '../logging/logging.module.js';
import { connectionError } from '../errors/connection-error.js';
import { connectRedis, REDIS } from './redis.js';

@Global()
@Module({
  providers: [
    {
      provide: REDIS,
      inject: [CONFIG, LOGGER],
      useFactory: (config: Config, logger: Logger) => {
        const redis = connectRedis(config);
        redis.on('error', (error) =>
          logger.warn(
            { err: connectionError(error, 'REDIS_URL').message },
            'Redis does not answer; reconnecting',
          ),
        );
        return redis;
      },
    },
  ],
  exports: [REDIS],
})
export class RedisModule implements OnApplicationShutdown {
  constructor(@Inject(REDIS) private readonly redis: Redis) {}

  onApplicationShutdown(): void {
    this.redis.disconnect();
  }
}
