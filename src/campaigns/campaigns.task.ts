import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { CampaignStatsService } from './campaign-stats.service.js';
import { CampaignsService } from './campaigns.service.js';
import { DealingService } from './dealing.service.js';

/** Starts campaigns whose time has come, and deals recipients to accounts. */
@Injectable()
export class DealingTask implements ScheduledTask {
  readonly name = 'campaigns';
  readonly everyMs = 400;

  constructor(
    private readonly campaigns: CampaignsService,
    private readonly dealing: DealingService,
  ) {}

  async run(): Promise<void> {
    if (!(await this.campaigns.hasActive())) return;
    await this.campaigns.startDue();
    await this.dealing.deal();
  }
}

/** Puts a job for each campaign whose counts have changed. */
@Injectable()
export class CampaignStatsTask implements ScheduledTask {
  readonly name = 'campaign-stats';
  readonly everyMs = 1_000;

  constructor(private readonly stats: CampaignStatsService) {}

  run(): Promise<void> {
    return this.stats.put();
  }
}
