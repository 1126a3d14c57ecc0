import { Module } from '@nestjs/common';
import { WorkspacesModule } from '../workspaces/workspaces.module.js';
import { PacingService } from './pacing.service.js';

@Module({
  imports: [WorkspacesModule],
  providers: [PacingService],
  exports: [PacingService],
})
export class PacingModule {}
