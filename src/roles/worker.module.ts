import { Module } from '@nestjs/common';
import { OutcomesProcessor } from '../receiving/outcomes.processor.js';
import { MessagesModule } from '../messages/messages.module.js';
import { LanesProcessor } from '../sending/lanes.processor.js';
import { DatabaseModule } from '../platform/database/database.module.js';
import { JobRunner, QUEUE_PROCESSORS } from '../queues/job-runner.js';
import { QueueWorker } from '../queues/queue-worker.js';
import { DeliverWebhooksProcessor } from '../webhooks/deliver-webhooks.processor.js';
import { WebhookRunner } from '../webhooks/webhook-runner.js';
import { WebhooksModule } from '../webhooks/webhooks.module.js';

/** What a worker consumes. */
@Module({
  imports: [DatabaseModule, MessagesModule, WebhooksModule],
  providers: [
    LanesProcessor,
    OutcomesProcessor,
    WebhookRunner,
    DeliverWebhooksProcessor,
    {
      provide: QUEUE_PROCESSORS,
      inject: [LanesProcessor, OutcomesProcessor, DeliverWebhooksProcessor],
      useFactory: (...processors: unknown[]) => processors,
    },
    JobRunner,
    QueueWorker,
  ],
})
export class WorkerModule {}
