import { Module } from '@nestjs/common';
import { OutcomesProcessor } from '../receiving/outcomes.processor.js';
import { ReceivingModule } from '../receiving/receiving.module.js';
import { SendingModule } from '../sending/sending.module.js';
import { LanesProcessor } from '../sending/lanes.processor.js';
import { DatabaseModule } from '../platform/database/database.module.js';
import { JobRunner, QUEUE_PROCESSORS } from '../queues/job-runner.js';
import { QueueWorker } from '../queues/queue-worker.js';
import { DeliverWebhooksProcessor } from '../webhooks/deliver-webhooks.processor.js';
import { WebhookRunner } from '../webhooks/webhook-runner.js';
import { WebhooksModule } from '../webhooks/webhooks.module.js';

/** The processors of a worker. */
@Module({
  imports: [DatabaseModule, SendingModule, ReceivingModule, WebhooksModule],
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
