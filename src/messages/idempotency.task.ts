import { Injectable } from '@nestjs/common';
import { EventsService } from '../events/events.service.js';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { StatsService } from '../instances/stats.service.js';
import { MessagesService } from './messages.service.js';

/** Forgets what is kept for a time only: idempotency keys, old events, logs and statistics. */
@Injectable()
export class IdempotencyTask implements ScheduledTask {
  readonly name = 'pruning';
  readonly everyMs = 3_600_000;

  constructor(
    private readonly messages: MessagesService,
    private readonly events: EventsService,
    private readonly stats: StatsService,
  ) {}

  async run(): Promise<void> {
    await this.messages.forgetIdempotencyKeys();
    await this.events.prune();
    await this.stats.prune();
  }
}
