import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { WebhookDeliveriesService } from './webhook-deliveries.service.js';
import { WebhookFanOut } from './webhook-fan-out.js';
import { WebhookSequences } from './webhook-sequences.js';

/** Creates deliveries of new events. */
@Injectable()
export class WebhookFanOutTask implements ScheduledTask {
  readonly name = 'webhook-fan-out';
  /** Also how late a delivery may start. */
  readonly everyMs = 100;

  constructor(private readonly fanOut: WebhookFanOut) {}

  run(): Promise<void> {
    return this.fanOut.run();
  }
}

/** Queues the sequences whose retry is due, and those that Redis has lost. */
@Injectable()
export class WebhookSequencesTask implements ScheduledTask {
  readonly name = 'webhook-lanes';
  readonly everyMs = 1_000;

  constructor(private readonly sequences: WebhookSequences) {}

  run(): Promise<number> {
    return this.sequences.sweep();
  }
}

/** Deletes old deliveries. */
@Injectable()
export class WebhookPruningTask implements ScheduledTask {
  readonly name = 'webhook-pruning';
  readonly everyMs = 3_600_000;

  constructor(private readonly deliveries: WebhookDeliveriesService) {}

  run(): Promise<void> {
    return this.deliveries.prune();
  }
}
