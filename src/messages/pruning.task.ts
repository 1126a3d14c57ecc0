import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { DataSource } from 'typeorm';

const eventsAtOnce = 10_000;

/** Forgets idempotency keys after two days, and events after thirty. */
@Injectable()
export class PruningTask implements ScheduledTask {
  readonly name = 'pruning';
  readonly everyMs = 3_600_000;

  constructor(@InjectDataSource() private readonly database: DataSource) {}

  async run(): Promise<void> {
    await this.database.query(`delete from idempotency_keys where created_at < now() - interval '2 days'`);
    // In short transactions, oldest first: readers of the log stop at the oldest one that runs.
    let deleted: number;
    do {
      [, deleted] = await this.database.query(
        `with oldest as (select id from events order by id limit ${eventsAtOnce})
         delete from events using oldest where events.id = oldest.id and events.created_at < now() - interval '30 days'`,
      );
    } while (deleted === eventsAtOnce);
  }
}
