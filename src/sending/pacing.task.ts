import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { PacingService } from '../pacing/pacing.service.js';
import { PacingReservations } from './pacing-reservations.js';

/** Ends cool-downs, and marks the cold ones among the messages that waited when pacing was turned on. */
@Injectable()
export class PacingTask implements ScheduledTask {
  readonly name = 'pacing';
  readonly everyMs = 1_000;

  constructor(
    private readonly pacing: PacingService,
    private readonly reservations: PacingReservations,
  ) {}

  async run(): Promise<void> {
    await this.pacing.endCoolDowns();
    await this.reservations.markWaiting();
  }
}
