import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { ApiKey } from './api-key.entity.js';
import { AuthenticationService } from './authentication.service.js';
import { RateLimits } from './rate-limits.service.js';
import { Workspace } from './workspace.entity.js';
import { WorkspacesService } from './workspaces.service.js';

@Module({
  imports: [TypeOrmModule.forFeature([Workspace, ApiKey])],
  providers: [WorkspacesService, AuthenticationService, RateLimits],
  exports: [WorkspacesService, AuthenticationService, RateLimits],
})
export class WorkspacesModule {}
