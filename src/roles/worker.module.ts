import { Module } from '@nestjs/common';
import { CampaignStatsProcessor } from '../campaigns/campaign-stats.processor.js';
import { CampaignsModule } from '../campaigns/campaigns.module.js';
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
  imports: [DatabaseModule, SendingModule, ReceivingModule, WebhooksModule, CampaignsModule],
  providers: [
    LanesProcessor,
    OutcomesProcessor,
    CampaignStatsProcessor,
    WebhookRunner,
    DeliverWebhooksProcessor,
    {
      provide: QUEUE_PROCESSORS,
      inject: [LanesProcessor, OutcomesProcessor, CampaignStatsProcessor, DeliverWebhooksProcessor],
      useFactory: (...processors: unknown[]) => processors,
    },
    JobRunner,
    QueueWorker,
  ],
})
export class WorkerModule {}
