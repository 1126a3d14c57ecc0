import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { InstancesModule } from '../instances/instances.module.js';
import { PacingModule } from '../pacing/pacing.module.js';
import { WorkspacesModule } from '../workspaces/workspaces.module.js';
import { Account } from './account.entity.js';
import { AccountProxies } from './account-proxies.js';
import { AccountsService } from './accounts.service.js';
import { AssignmentsService } from './assignments.service.js';
import { ConnectionLogsService } from './connection-logs.service.js';
import { SandboxClient } from './sandbox-client.js';
import { WebVersionPolicyService } from './web-version-policy.service.js';
import { WebVersionsService } from './web-versions.service.js';

@Module({
  imports: [TypeOrmModule.forFeature([Account]), InstancesModule, PacingModule, WorkspacesModule],
  providers: [
    AccountProxies,
    AccountsService,
    AssignmentsService,
    ConnectionLogsService,
    SandboxClient,
    WebVersionsService,
    WebVersionPolicyService,
  ],
  exports: [
    TypeOrmModule,
    AccountProxies,
    AccountsService,
    AssignmentsService,
    ConnectionLogsService,
    PacingModule,
    SandboxClient,
    WebVersionsService,
    WebVersionPolicyService,
  ],
})
export class AccountsModule {}
