import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { MessagesModule } from '../messages/messages.module.js';
import { SharedCountsModule } from '../platform/limits/shared-counts.module.js';
import { QueuesModule } from '../queues/queues.module.js';
import { SendingModule } from '../sending/sending.module.js';
import { Campaign } from './campaign.entity.js';
import { CampaignStatsService } from './campaign-stats.service.js';
import { CampaignMessagesService } from './campaign-messages.service.js';
import { TemplatesService } from './templates.service.js';
import { CampaignsService } from './campaigns.service.js';
import { DealingService } from './dealing.service.js';
import { PreflightService } from './preflight.service.js';
import { RecipientsService } from './recipients.service.js';
import { SuppressionsService } from './suppressions.service.js';
import { ZonesService } from './zones.service.js';

const services = [
  TemplatesService,
  CampaignMessagesService,
  CampaignsService,
  ZonesService,
  PreflightService,
  RecipientsService,
  DealingService,
  CampaignStatsService,
  SuppressionsService,
];

@Module({
  imports: [
    TypeOrmModule.forFeature([Campaign]),
    MessagesModule,
    SharedCountsModule,
    QueuesModule,
    SendingModule,
  ],
  providers: services,
  exports: services,
})
export class CampaignsModule {}
