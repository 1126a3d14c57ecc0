import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { StatsService } from './stats.service.js';

/** Deletes old statistics and logs. */
@Injectable()
export class StatsTask implements ScheduledTask {
  readonly name = 'stats-pruning';
  readonly everyMs = 3_600_000;

  constructor(private readonly stats: StatsService) {}

  run(): Promise<void> {
    return this.stats.prune();
  }
}
