import { Module } from '@nestjs/common';
import { InstancesModule } from '../instances/instances.module.js';
import { QueuesModule } from '../queues/queues.module.js';
import { ClearingService } from './clearing.service.js';
import { LanesService } from './lanes.service.js';
import { PacingReservations } from './pacing-reservations.js';

/** Lanes as the worker, the scheduler and commands see them. What an instance does with its lanes, its role lists. */
@Module({
  imports: [InstancesModule, QueuesModule],
  providers: [LanesService, ClearingService, PacingReservations],
  exports: [LanesService, ClearingService, PacingReservations, QueuesModule],
})
export class SendingModule {}
