import { BullModule } from '@nestjs/bullmq';
import { Module } from '@nestjs/common';
import type { Redis } from 'ioredis';
import { REDIS } from '../platform/queues/redis.js';
import { RedisModule } from '../platform/queues/redis.module.js';
import { FailedJobsService } from './failed-jobs.service.js';
import { queueNames } from './queue-policies.js';
import { QueueStates } from './queue-states.service.js';
import { QueuesService } from './queues.service.js';
import { WorkersService } from './workers.service.js';

@Module({
  imports: [
    RedisModule,
    BullModule.forRootAsync({
      imports: [RedisModule],
      inject: [REDIS],
      useFactory: (redis: Redis) => ({ connection: redis }),
    }),
    BullModule.registerQueue(...queueNames.map((name) => ({ name }))),
  ],
  providers: [QueuesService, QueueStates, WorkersService, FailedJobsService],
  exports: [QueuesService, QueueStates, WorkersService, FailedJobsService],
})
export class QueuesModule {}
