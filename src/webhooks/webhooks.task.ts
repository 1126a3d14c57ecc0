import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { WebhookDeliveriesService } from './webhook-deliveries.service.js';
import { WebhookFanOut } from './webhook-fan-out.js';
import { WebhookSequences } from './webhook-sequences.js';

/** Makes deliveries of what happens: also how late they may be. */
@Injectable()
export class WebhookFanOutTask implements ScheduledTask {
  readonly name = 'webhook-fan-out';
  readonly everyMs = 100;

  constructor(private readonly fanOut: WebhookFanOut) {}

  run(): Promise<void> {
    return this.fanOut.run();
  }
}

/** Puts again whatever is due and Redis has lost, and what is to be tried again. */
@Injectable()
export class WebhookLanesTask implements ScheduledTask {
  readonly name = 'webhook-lanes';
  readonly everyMs = 1_000;

  constructor(private readonly lanes: WebhookSequences) {}

  run(): Promise<number> {
    return this.lanes.sweep();
  }
}

/** Forgets old deliveries. */
@Injectable()
export class WebhookPruningTask implements ScheduledTask {
  readonly name = 'webhook-pruning';
  readonly everyMs = 3_600_000;

  constructor(private readonly deliveries: WebhookDeliveriesService) {}

  run(): Promise<void> {
    return this.deliveries.prune();
  }
}
