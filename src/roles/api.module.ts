import { Module } from '@nestjs/common';
import { APP_GUARD, APP_INTERCEPTOR } from '@nestjs/core';
import { AccountsController } from '../accounts/accounts.controller.js';
import { WebVersionsController } from '../accounts/web-versions.controller.js';
import { AccountsModule } from '../accounts/accounts.module.js';
import { AdminController } from '../admin/admin.controller.js';
import { AdminGuard } from '../admin/admin.guard.js';
import { AdminLoginController } from '../admin/admin-login.controller.js';
import { AdminSession } from '../admin/admin-session.js';
import { AuditService } from '../admin/audit.service.js';
import { BacklogService } from '../admin/backlog.service.js';
import { HealthController } from '../admin/health.controller.js';
import { HealthService } from '../admin/health.service.js';
import { LoadBalancingController } from '../instances/load-balancing.controller.js';
import { LogsController } from '../admin/logs.controller.js';
import { MetricsController } from '../admin/metrics.controller.js';
import { MetricsGuard } from '../admin/metrics.guard.js';
import { MetricsService } from '../admin/metrics.service.js';
import { QueueBoard } from '../admin/queue-board.js';
import { QueuesController } from '../admin/queues.controller.js';
import { ServersController } from '../instances/servers.controller.js';
import { CampaignsController } from '../campaigns/campaigns.controller.js';
import { TemplatesController } from '../campaigns/templates.controller.js';
import { CampaignsModule } from '../campaigns/campaigns.module.js';
import { SuppressionsController } from '../campaigns/suppressions.controller.js';
import { ChatsController } from '../chats/chats.controller.js';
import { ChatsModule } from '../chats/chats.module.js';
import { GroupsController } from '../chats/groups.controller.js';
import { EventsController } from '../events/events.controller.js';
import { OpenStreams } from '../events/open-streams.js';
import { EventsModule } from '../events/events.module.js';
import { InstancesModule } from '../instances/instances.module.js';
import { MediaController } from '../media/media.controller.js';
import { MediaModule } from '../media/media.module.js';
import { MessagesController } from '../messages/messages.controller.js';
import { MessagesModule } from '../messages/messages.module.js';
import { SendingModule } from '../sending/sending.module.js';
import { DatabaseModule } from '../platform/database/database.module.js';
import { BodyGuard } from '../platform/http/body.guard.js';
import { FairShare } from '../platform/http/fair-share.js';
import { UnreadResponses } from '../platform/http/unread-responses.js';
import { ApiKeysController, OwnApiKeysController } from '../workspaces/api-keys.controller.js';
import { AuthGuard } from '../workspaces/auth.guard.js';
import { OwnWorkspaceController, WorkspacesController } from '../workspaces/workspaces.controller.js';
import { WebhooksController } from '../webhooks/webhooks.controller.js';
import { WebhooksModule } from '../webhooks/webhooks.module.js';
import { WorkspacesModule } from '../workspaces/workspaces.module.js';

/** The routes and services of the API. A route without `@Allow` is for the admin only. */
@Module({
  imports: [
    DatabaseModule,
    WorkspacesModule,
    EventsModule,
    InstancesModule,
    AccountsModule,
    MessagesModule,
    SendingModule,
    WebhooksModule,
    MediaModule,
    CampaignsModule,
    ChatsModule,
  ],
  controllers: [
    HealthController,
    WorkspacesController,
    ApiKeysController,
    OwnWorkspaceController,
    OwnApiKeysController,
    AccountsController,
    MessagesController,
    CampaignsController,
    SuppressionsController,
    TemplatesController,
    MediaController,
    ChatsController,
    GroupsController,
    EventsController,
    WebhooksController,
    AdminController,
    AdminLoginController,
    QueuesController,
    MetricsController,
    ServersController,
    LogsController,
    LoadBalancingController,
    WebVersionsController,
  ],
  providers: [
    AuthGuard,
    { provide: APP_GUARD, useExisting: AuthGuard },
    // After AuthGuard: the body of a refused request is not read.
    { provide: APP_GUARD, useClass: BodyGuard },
    AuditService,
    { provide: APP_INTERCEPTOR, useExisting: AuditService },
    HealthService,
    BacklogService,
    MetricsService,
    AdminSession,
    AdminGuard,
    MetricsGuard,
    QueueBoard,
    OpenStreams,
    UnreadResponses,
    FairShare,
  ],
})
export class ApiModule {}
