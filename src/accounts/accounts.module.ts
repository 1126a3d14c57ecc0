import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { InstancesModule } from '../instances/instances.module.js';
import { WorkspacesModule } from '../workspaces/workspaces.module.js';
import { Account } from './account.entity.js';
import { AccountsService } from './accounts.service.js';
import { AssignmentsService } from './assignments.service.js';
import { ConnectionLogsService } from './connection-logs.service.js';
import { PacingReservations } from '../pacing/pacing-reservations.js';
import { PacingService } from '../pacing/pacing.service.js';
import { SandboxClient } from './sandbox-client.js';

@Module({
  imports: [TypeOrmModule.forFeature([Account]), InstancesModule, WorkspacesModule],
  providers: [
    AccountsService,
    AssignmentsService,
    ConnectionLogsService,
    PacingService,
    PacingReservations,
    SandboxClient,
  ],
  exports: [
    TypeOrmModule,
    AccountsService,
    AssignmentsService,
    ConnectionLogsService,
    PacingService,
    PacingReservations,
    SandboxClient,
  ],
})
export class AccountsModule {}
