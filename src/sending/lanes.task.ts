import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { LanesService } from './lanes.service.js';

/** Puts the lane heads that Redis has lost. */
@Injectable()
export class LanesTask implements ScheduledTask {
  readonly name = 'lanes';
  readonly everyMs = 700;

  constructor(private readonly lanes: LanesService) {}

  run(): Promise<number> {
    return this.lanes.sweep();
  }
}

/** Queues due scheduled messages, so that each leaves within a second of its time. */
@Injectable()
export class DueTask implements ScheduledTask {
  readonly name = 'due';
  readonly everyMs = 250;

  constructor(private readonly lanes: LanesService) {}

  async run(): Promise<void> {
    while (await this.lanes.promote());
  }
}
