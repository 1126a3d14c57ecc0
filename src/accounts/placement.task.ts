import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { AccountsService } from './accounts.service.js';

/** Notices accounts whose instance has died, and places those that found no room when they were connected. */
@Injectable()
export class PlacementTask implements ScheduledTask {
  readonly name = 'placement';
  readonly everyMs = 1_000;

  constructor(private readonly accounts: AccountsService) {}

  async run(): Promise<void> {
    await this.accounts.markOrphans();
    await this.accounts.placeWaiting();
  }
}
