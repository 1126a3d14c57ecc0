import { Injectable } from '@nestjs/common';
import type { Job } from 'bullmq';
import type { QueueProcessor } from '../queues/job-runner.js';
import { CampaignStatsService } from './campaign-stats.service.js';

/** Updates the counts of the job's campaign. */
@Injectable()
export class CampaignStatsProcessor implements QueueProcessor<void> {
  readonly queues = ['campaign-stats'] as const;

  constructor(private readonly stats: CampaignStatsService) {}

  process(job: Job<{ campaignId: string }>): Promise<void> {
    return this.stats.update(job.data.campaignId);
  }
}
