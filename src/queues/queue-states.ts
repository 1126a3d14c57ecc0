import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import type { QueueName } from './queue-policies.js';

/** What operators want of the workers. */
export interface WorkerOrders {
  /** When all workers were last asked to start anew, as text that only changes with the next request; null when never. */
  restartRequested: string | null;
  paused: ReadonlySet<string>;
}

export interface QueueState {
  name: QueueName;
  pausedAt: Date | null;
}

/** Pauses queues and has workers start anew. It is written in PostgreSQL, so that a flushed Redis resumes nothing. */
@Injectable()
export class QueueStates {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /** Workers take no more jobs of this queue, and send none of its messages, from a second later. Twice changes nothing. */
  async pause(name: QueueName): Promise<QueueState> {
    const [row] = await this.database.query(
      `insert into queues (name, paused_at) values ($1, now())
       on conflict (name) do update set paused_at = coalesce(queues.paused_at, now()) returning paused_at`,
      [name],
    );
    return { name, pausedAt: row.paused_at };
  }

  async resume(name: QueueName): Promise<QueueState> {
    await this.database.query('update queues set paused_at = null where name = $1', [name]);
    return { name, pausedAt: null };
  }

  /** Since when queues are paused; those that are served are not in it. */
  async pausedSince(): Promise<Map<string, Date>> {
    const rows: { name: string; paused_at: Date }[] = await this.database.query(
      'select name, paused_at from queues where paused_at is not null',
    );
    return new Map(rows.map(({ name, paused_at: pausedAt }) => [name, pausedAt]));
  }

  /** Every worker ends after its present jobs, and is started anew by what supervises it. */
  async requestRestart(): Promise<void> {
    await this.database.query(
      `insert into worker_restarts (requested_at) values (clock_timestamp())
       on conflict (is_only) do update set requested_at = excluded.requested_at`,
    );
  }

  async orders(): Promise<WorkerOrders> {
    const [row] = await this.database.query(
      `select (select requested_at::text from worker_restarts) as restart,
         array(select name from queues where paused_at is not null) as paused`,
    );
    return { restartRequested: row.restart, paused: new Set(row.paused) };
  }
}
