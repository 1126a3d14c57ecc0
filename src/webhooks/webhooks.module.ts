import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { SharedCountsModule } from '../platform/limits/shared-counts.module.js';
import { QueuesModule } from '../queues/queues.module.js';
import { WorkspacesModule } from '../workspaces/workspaces.module.js';
import { WebhookDeliveriesService } from './webhook-deliveries.service.js';
import { WebhookDelivery } from './webhook-delivery.entity.js';
import { WebhookFanOut } from './webhook-fan-out.js';
import { WebhookSequences } from './webhook-sequences.js';
import { WebhookSecrets } from './webhook-secrets.js';
import { Webhook } from './webhook.entity.js';
import { WebhooksService } from './webhooks.service.js';

const services = [WebhooksService, WebhookDeliveriesService, WebhookFanOut, WebhookSequences, WebhookSecrets];

@Module({
  imports: [
    TypeOrmModule.forFeature([Webhook, WebhookDelivery]),
    QueuesModule,
    SharedCountsModule,
    WorkspacesModule,
  ],
  providers: services,
  exports: services,
})
export class WebhooksModule {}
