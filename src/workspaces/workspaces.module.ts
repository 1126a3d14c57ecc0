import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { ApiKey } from './api-key.entity.js';
import { ApiKeysService } from './api-keys.service.js';
import { SharedCountsModule } from '../platform/limits/shared-counts.module.js';
import { AuditLog } from './audit-log.js';
import { AuthenticationService } from './authentication.service.js';
import { KnownKeys } from './known-keys.js';
import { LimitsService } from './limits.service.js';
import { RateLimits } from './rate-limits.js';
import { Workspace } from './workspace.entity.js';
import { WorkspacesService } from './workspaces.service.js';

const services = [
  WorkspacesService,
  ApiKeysService,
  LimitsService,
  AuthenticationService,
  KnownKeys,
  RateLimits,
  AuditLog,
];

@Module({
  imports: [TypeOrmModule.forFeature([Workspace, ApiKey]), SharedCountsModule],
  providers: services,
  exports: [...services, SharedCountsModule],
})
export class WorkspacesModule {}
