import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { EventsService } from './events.service.js';

/** Deletes old events. */
@Injectable()
export class EventsTask implements ScheduledTask {
  readonly name = 'events-pruning';
  readonly everyMs = 3_600_000;

  constructor(private readonly events: EventsService) {}

  run(): Promise<void> {
    return this.events.prune();
  }
}
