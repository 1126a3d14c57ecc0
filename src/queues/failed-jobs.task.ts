import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { FailedJobsService } from './failed-jobs.service.js';

const retentionMs = 30 * 24 * 3_600_000;

/** Forgets failed jobs after thirty days, and failed jobs whose message has moved on. */
@Injectable()
export class FailedJobsTask implements ScheduledTask {
  readonly name = 'failed-jobs';
  readonly everyMs = 60_000;

  constructor(private readonly failedJobs: FailedJobsService) {}

  async run(): Promise<void> {
    await this.failedJobs.forgetSettled();
    await this.failedJobs.prune(retentionMs);
  }
}
