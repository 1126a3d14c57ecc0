import { Module } from '@nestjs/common';
import { InstancesModule } from '../instances/instances.module.js';
import { QueuesModule } from '../queues/queues.module.js';
import { OutcomesService } from './outcomes.service.js';

/** Outcomes as the worker and the scheduler see them. What an instance receives, its role lists. */
@Module({
  imports: [InstancesModule, QueuesModule],
  providers: [OutcomesService],
  exports: [OutcomesService],
})
export class ReceivingModule {}
