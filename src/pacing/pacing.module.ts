import { Module } from '@nestjs/common';
import { WorkspacesModule } from '../workspaces/workspaces.module.js';
import { PacingReservations } from './pacing-reservations.js';
import { PacingService } from './pacing.service.js';

@Module({
  imports: [WorkspacesModule],
  providers: [PacingService, PacingReservations],
  exports: [PacingService, PacingReservations],
})
export class PacingModule {}
