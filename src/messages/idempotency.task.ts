import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { AcceptService } from './accept.service.js';

/** Deletes old idempotency keys. */
@Injectable()
export class IdempotencyTask implements ScheduledTask {
  readonly name = 'idempotency-pruning';
  readonly everyMs = 3_600_000;

  constructor(private readonly accepting: AcceptService) {}

  run(): Promise<void> {
    return this.accepting.forgetIdempotencyKeys();
  }
}
