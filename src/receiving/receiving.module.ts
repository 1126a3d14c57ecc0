import { Module } from '@nestjs/common';
import { InstancesModule } from '../instances/instances.module.js';
import { QueuesModule } from '../queues/queues.module.js';
import { OutcomesService } from './outcomes.service.js';

/** The outcomes for the worker and the scheduler. The instance role itself lists what an instance needs. */
@Module({
  imports: [InstancesModule, QueuesModule],
  providers: [OutcomesService],
  exports: [OutcomesService],
})
export class ReceivingModule {}
