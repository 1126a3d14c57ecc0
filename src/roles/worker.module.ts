import { Module } from '@nestjs/common';
import { FindOutcomesProcessor } from '../messages/find-outcomes.processor.js';
import { MessagesModule } from '../messages/messages.module.js';
import { SendMessageProcessor } from '../messages/send-message.processor.js';
import { DatabaseModule } from '../platform/database/database.module.js';
import { JobRunner, QUEUE_PROCESSORS } from '../queues/job-runner.js';
import { QueueWorker } from '../queues/queue-worker.service.js';

/** What a worker consumes. */
@Module({
  imports: [DatabaseModule, MessagesModule],
  providers: [
    SendMessageProcessor,
    FindOutcomesProcessor,
    {
      provide: QUEUE_PROCESSORS,
      inject: [SendMessageProcessor, FindOutcomesProcessor],
      useFactory: (...processors: unknown[]) => processors,
    },
    JobRunner,
    QueueWorker,
  ],
})
export class WorkerModule {}
