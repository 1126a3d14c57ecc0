import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import type { QueueName } from './queue-policies.js';

/** The requests of operators to the workers. */
export interface WorkerControl {
  /** The time of the last restart request, as text that changes with each request. Null if there was no request. */
  restartRequested: string | null;
  paused: ReadonlySet<string>;
}

export interface QueueState {
  name: QueueName;
  pausedAt: Date | null;
}

/** Pauses queues and restarts workers. PostgreSQL holds this state, so that a flush of Redis resumes nothing. */
@Injectable()
export class QueueStates {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /**
   * Pauses a queue: within a second, workers take no more of its jobs and send none of its messages. Pausing a paused queue
   * changes nothing.
   */
  async pause(name: QueueName): Promise<QueueState> {
    const [row]: [{ paused_at: Date }] = await this.database.query(
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

  /** The paused queues and the time of each pause. */
  async pausedSince(): Promise<Map<string, Date>> {
    const rows: { name: string; paused_at: Date }[] = await this.database.query(
      'select name, paused_at from queues where paused_at is not null',
    );
    return new Map(rows.map(({ name, paused_at: pausedAt }) => [name, pausedAt]));
  }

  /** Asks every worker to end after its running jobs. Its supervisor restarts it. */
  async requestRestart(): Promise<void> {
    await this.database.query(
      `insert into worker_restarts (requested_at) values (clock_timestamp())
       on conflict (is_only) do update set requested_at = excluded.requested_at`,
    );
  }

  async readControl(): Promise<WorkerControl> {
    const [row]: [{ restart: string | null; paused: string[] }] = await this.database.query(
      `select (select requested_at::text from worker_restarts) as restart,
         array(select name from queues where paused_at is not null) as paused`,
    );
    return { restartRequested: row.restart, paused: new Set(row.paused) };
  }
}
