import { Module } from '@nestjs/common';
import { AccountsModule } from '../accounts/accounts.module.js';
import { AccountProxiesTask } from '../accounts/account-proxies.task.js';
import { ConnectionLogsTask } from '../accounts/connection-logs.task.js';
import { WebVersionsTask } from '../accounts/web-versions.task.js';
import { FleetTask } from '../accounts/fleet.task.js';
import { PacingTask } from '../sending/pacing.task.js';
import { CampaignsModule } from '../campaigns/campaigns.module.js';
import { CampaignStatsTask, DealingTask } from '../campaigns/campaigns.task.js';
import { EventsModule } from '../events/events.module.js';
import { InstancesModule } from '../instances/instances.module.js';
import { MediaModule } from '../media/media.module.js';
import { MediaTask } from '../media/media.task.js';
import { DueTask, LanesTask } from '../sending/lanes.task.js';
import { OutcomesTask } from '../receiving/outcomes.task.js';
import { MessagesModule } from '../messages/messages.module.js';
import { IncomingMediaTask } from '../receiving/incoming-media.task.js';
import { EventsTask } from '../events/events.task.js';
import { StatsTask } from '../instances/stats.task.js';
import { ReceivingModule } from '../receiving/receiving.module.js';
import { SendingModule } from '../sending/sending.module.js';
import { IdempotencyTask } from '../messages/idempotency.task.js';
import { RecipientIdsTask } from '../messages/recipient-ids.task.js';
import { DatabaseModule } from '../platform/database/database.module.js';
import { FailedJobsTask } from '../queues/failed-jobs.task.js';
import { SCHEDULED_TASKS, SchedulerService } from '../platform/scheduling/scheduler.service.js';
import { WebhooksModule } from '../webhooks/webhooks.module.js';
import { WebhookFanOutTask, WebhookSequencesTask, WebhookPruningTask } from '../webhooks/webhooks.task.js';

const tasks = [
  LanesTask,
  DueTask,
  DealingTask,
  CampaignStatsTask,
  OutcomesTask,
  IncomingMediaTask,
  FleetTask,
  AccountProxiesTask,
  WebVersionsTask,
  PacingTask,
  IdempotencyTask,
  RecipientIdsTask,
  EventsTask,
  StatsTask,
  ConnectionLogsTask,
  FailedJobsTask,
  WebhookFanOutTask,
  WebhookSequencesTask,
  WebhookPruningTask,
  MediaTask,
];

/** The scheduled tasks. Only the leading scheduler runs them. */
@Module({
  imports: [
    DatabaseModule,
    InstancesModule,
    MessagesModule,
    CampaignsModule,
    SendingModule,
    ReceivingModule,
    AccountsModule,
    EventsModule,
    WebhooksModule,
    MediaModule,
  ],
  providers: [
    ...tasks,
    { provide: SCHEDULED_TASKS, inject: tasks, useFactory: (...all: unknown[]) => all },
    SchedulerService,
  ],
})
export class SchedulerModule {}
