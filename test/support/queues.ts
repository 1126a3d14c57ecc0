import type { INestApplicationContext } from '@nestjs/common';
import { getDataSourceToken } from '@nestjs/typeorm';
import { Redis } from 'ioredis';
import type { DataSource } from 'typeorm';
import type { Config } from '../../src/platform/config/config.js';
import { DatabaseModule } from '../../src/platform/database/database.module.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import { createContext } from '../../src/platform/start-role.js';
import { JobRunner, QUEUE_PROCESSORS, type QueueProcessor } from '../../src/queues/job-runner.js';
import { QueueWorker } from '../../src/queues/queue-worker.js';
import { QueuesModule } from '../../src/queues/queues.module.js';
import { scratchDatabase } from './scratch-database.js';

export interface QueueSystem {
  config: Config;
  redis: Redis;
  /** What a command needs in its environment to use this system. */
  env: NodeJS.ProcessEnv;
  drop(): Promise<void>;
}

/** A database, and one of the sixteen numbered databases of the tests' Redis: each file has another number. */
export async function queueSystem(redisNumber: number): Promise<QueueSystem> {
  const scratch = await scratchDatabase();
  const url = new URL(scratch.config.redis.url);
  url.pathname = `/${redisNumber}`;
  const redis = new Redis(url.href, { maxRetriesPerRequest: null });
  await redis.flushdb();
  return {
    config: { ...scratch.config, redis: { ...scratch.config.redis, url: url.href } },
    redis,
    env: { ...process.env, DATABASE_URL: scratch.config.database.url, REDIS_URL: url.href, ENV_FILE: 'none' },
    async drop() {
      redis.disconnect();
      await scratch.drop();
    },
  };
}

/** A worker with these processors in this process, and what a test looks at. */
export async function workerContext(config: Config, processors: QueueProcessor[]) {
  const module = {
    module: class TestWorkerModule {},
    imports: [DatabaseModule, QueuesModule],
    providers: [JobRunner, QueueWorker, { provide: QUEUE_PROCESSORS, useValue: processors }],
  };
  const context: INestApplicationContext = await createContext(
    module,
    config,
    createLogger('test', 'silent'),
    {
      handleSignals: false,
    },
  );
  return {
    context,
    worker: context.get(QueueWorker),
    database: context.get<DataSource>(getDataSourceToken()),
  };
}
