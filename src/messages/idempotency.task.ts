import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { MessagesService } from './messages.service.js';

/** Deletes old idempotency keys. */
@Injectable()
export class IdempotencyTask implements ScheduledTask {
  readonly name = 'idempotency-pruning';
  readonly everyMs = 3_600_000;

  constructor(private readonly messages: MessagesService) {}

  run(): Promise<void> {
    return this.messages.forgetIdempotencyKeys();
  }
}
