import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { DataSource } from 'typeorm';

/** Forgets idempotency keys after two days, and events after thirty. */
@Injectable()
export class PruningTask implements ScheduledTask {
  readonly name = 'pruning';
  readonly everyMs = 3_600_000;

  constructor(@InjectDataSource() private readonly database: DataSource) {}

  async run(): Promise<void> {
    await this.database.query(`delete from idempotency_keys where created_at < now() - interval '2 days'`);
    await this.database.query(`delete from events where created_at < now() - interval '30 days'`);
  }
}
