import { BullModule, getQueueToken } from '@nestjs/bullmq';
import { Module } from '@nestjs/common';
import type { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { REDIS } from '../platform/queues/redis.js';
import { RedisModule } from '../platform/queues/redis.module.js';
import { FailedJobsService } from './failed-jobs.service.js';
import { queueNames } from './queue-policies.js';
import { QueueStates } from './queue-states.js';
import { QUEUES, QueuesService } from './queues.service.js';
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
  providers: [
    {
      provide: QUEUES,
      inject: queueNames.map((name) => getQueueToken(name)),
      useFactory: (...queues: Queue[]) => {
        // The queues share one connection, which logs its own errors. Without a listener, each queue would print them too.
        for (const queue of queues) queue.on('error', () => undefined);
        return new Map(queueNames.map((name, index) => [name, queues[index]]));
      },
    },
    QueuesService,
    QueueStates,
    WorkersService,
    FailedJobsService,
  ],
  exports: [QueuesService, QueueStates, WorkersService, FailedJobsService],
})
export class QueuesModule {}
