import { Injectable } from '@nestjs/common';
import type { Job } from 'bullmq';
import type { QueueProcessor } from '../queues/job-runner.js';
import { OutcomesService } from './outcomes.service.js';

/** Finds the outcomes of the unknown messages of the job's account. */
@Injectable()
export class OutcomesProcessor implements QueueProcessor<void> {
  readonly queues = ['messaging'] as const;

  constructor(private readonly outcomes: OutcomesService) {}

  process(job: Job<{ accountId: string }>): Promise<void> {
    return this.outcomes.find(job.data.accountId);
  }
}
