import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { AccountsService } from './accounts.service.js';

/** Places accounts that found no room when they were connected. */
@Injectable()
export class PlacementTask implements ScheduledTask {
  readonly name = 'placement';
  readonly everyMs = 1_000;

  constructor(private readonly accounts: AccountsService) {}

  run(): Promise<number> {
    return this.accounts.placeWaiting();
  }
}
