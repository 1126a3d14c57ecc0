import { Module } from '@nestjs/common';
import { InstancesModule } from '../instances/instances.module.js';
import { QueuesModule } from '../queues/queues.module.js';
import { ClearingService } from './clearing.service.js';
import { LanesService } from './lanes.service.js';
import { PacingReservations } from './pacing-reservations.js';

/** The lanes for the worker, the scheduler and the commands. The instance role itself lists what an instance needs. */
@Module({
  imports: [InstancesModule, QueuesModule],
  providers: [LanesService, ClearingService, PacingReservations],
  exports: [LanesService, ClearingService, PacingReservations, QueuesModule],
})
export class SendingModule {}
