import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { RecipientIds } from './recipient-ids.service.js';

/** Deletes old answers of WhatsApp about numbers. */
@Injectable()
export class RecipientIdsTask implements ScheduledTask {
  readonly name = 'recipient-ids-pruning';
  readonly everyMs = 3_600_000;

  constructor(private readonly recipients: RecipientIds) {}

  run(): Promise<void> {
    return this.recipients.prune();
  }
}
