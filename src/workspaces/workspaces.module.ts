import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { ApiKey } from './api-key.entity.js';
import { ApiKeysService } from './api-keys.service.js';
import { AuditLog } from './audit-log.js';
import { AuthenticationService } from './authentication.service.js';
import { LimitsService } from './limits.service.js';
import { RateLimits } from './rate-limits.js';
import { Workspace } from './workspace.entity.js';
import { WorkspacesService } from './workspaces.service.js';

@Module({
  imports: [TypeOrmModule.forFeature([Workspace, ApiKey])],
  providers: [WorkspacesService, ApiKeysService, LimitsService, AuthenticationService, RateLimits, AuditLog],
  exports: [WorkspacesService, ApiKeysService, LimitsService, AuthenticationService, RateLimits, AuditLog],
})
export class WorkspacesModule {}
