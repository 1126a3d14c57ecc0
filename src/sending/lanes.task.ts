import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { LanesService } from './lanes.service.js';

/** Feeds again whatever Redis lost. */
@Injectable()
export class LanesTask implements ScheduledTask {
  readonly name = 'lanes';
  readonly everyMs = 700;

  constructor(private readonly lanes: LanesService) {}

  run(): Promise<number> {
    return this.lanes.sweep();
  }
}

/** Queues what is due: a scheduled message leaves within a second of its time. */
@Injectable()
export class DueTask implements ScheduledTask {
  readonly name = 'due';
  readonly everyMs = 250;

  constructor(private readonly lanes: LanesService) {}

  async run(): Promise<void> {
    while (await this.lanes.promote());
  }
}
