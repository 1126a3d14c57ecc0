import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { OutcomesService } from './outcomes.service.js';

/** Starts the search for the outcomes of `unknown` messages once a minute. */
@Injectable()
export class OutcomesTask implements ScheduledTask {
  readonly name = 'outcomes';
  readonly everyMs = 60_000;

  constructor(private readonly outcomes: OutcomesService) {}

  run(): Promise<number> {
    return this.outcomes.put();
  }
}
