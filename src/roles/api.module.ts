import { Module } from '@nestjs/common';
import { APP_GUARD, APP_INTERCEPTOR } from '@nestjs/core';
import { ThrottlerModule } from '@nestjs/throttler';
import { AccountsController } from '../accounts/accounts.controller.js';
import { AccountsModule } from '../accounts/accounts.module.js';
import { AdminController } from '../admin/admin.controller.js';
import { AdminGuard } from '../admin/admin.guard.js';
import { AdminLoginController } from '../admin/admin-login.controller.js';
import { AdminSession } from '../admin/admin-session.js';
import { AuditService } from '../admin/audit.service.js';
import { BacklogService } from '../admin/backlog.service.js';
import { HealthController } from '../admin/health.controller.js';
import { HealthService } from '../admin/health.service.js';
import { LoadBalancingController } from '../admin/load-balancing.controller.js';
import { LogsController } from '../admin/logs.controller.js';
import { MetricsController } from '../admin/metrics.controller.js';
import { MetricsService } from '../admin/metrics.service.js';
import { QueueBoard } from '../admin/queue-board.js';
import { QueuesController } from '../admin/queues.controller.js';
import { ServersController } from '../admin/servers.controller.js';
import { EventsController } from '../events/events.controller.js';
import { EventsModule } from '../events/events.module.js';
import { InstancesModule } from '../instances/instances.module.js';
import { MessagesController } from '../messages/messages.controller.js';
import { MessagesModule } from '../messages/messages.module.js';
import { DatabaseModule } from '../platform/database/database.module.js';
import { ApiKeysController, OwnApiKeysController } from '../workspaces/api-keys.controller.js';
import { AuthGuard } from '../workspaces/auth.guard.js';
import { OwnWorkspaceController, WorkspacesController } from '../workspaces/workspaces.controller.js';
import { WorkspacesModule } from '../workspaces/workspaces.module.js';

/** What the API serves. Every route is closed unless it says otherwise. */
@Module({
  imports: [
    DatabaseModule,
    WorkspacesModule,
    EventsModule,
    InstancesModule,
    AccountsModule,
    MessagesModule,
    // Counted for routes with its guard only.
    ThrottlerModule.forRoot({
      throttlers: [{ ttl: 60_000, limit: 10 }],
      errorMessage: 'Too many attempts to log in. Wait a minute and try again.',
    }),
  ],
  controllers: [
    HealthController,
    WorkspacesController,
    ApiKeysController,
    OwnWorkspaceController,
    OwnApiKeysController,
    AccountsController,
    MessagesController,
    EventsController,
    AdminController,
    AdminLoginController,
    QueuesController,
    MetricsController,
    ServersController,
    LogsController,
    LoadBalancingController,
  ],
  providers: [
    { provide: APP_GUARD, useClass: AuthGuard },
    AuditService,
    { provide: APP_INTERCEPTOR, useExisting: AuditService },
    HealthService,
    BacklogService,
    MetricsService,
    AdminSession,
    AdminGuard,
    QueueBoard,
  ],
})
export class ApiModule {}
