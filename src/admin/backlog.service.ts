import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { priorities } from '../messages/message.entity.js';
import { type QueueName, queueNames } from '../queues/queue-policies.js';

export interface QueueBacklog {
  name: QueueName;
  /** Messages that are due and wait. */
  waiting: number;
  /** Messages whose time has not come. */
  delayed: number;
  /** Messages that are being sent. */
  active: number;
  /** Messages of the last day that failed. */
  failed: number;
  /** How long the oldest due message has waited, in seconds. */
  oldestSeconds: number;
  /** Everything that is still to be sent. */
  backlog: number;
}

/** Reads the backlog from PostgreSQL: Redis holds the heads only. */
@Injectable()
export class BacklogService {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  async read(): Promise<QueueBacklog[]> {
    const rows: ({ priority: number } & Omit<QueueBacklog, 'name'>)[] = await this.database.query(
      `select priority,
         count(*) filter (where status = 'queued')::int as waiting,
         count(*) filter (where status = 'scheduled')::int as delayed,
         count(*) filter (where status = 'sending')::int as active,
         count(*) filter (where status = 'failed' and failed_at > now() - interval '1 day')::int as failed,
         coalesce(extract(epoch from now() - min(created_at) filter (where status = 'queued')), 0)::float as "oldestSeconds",
         count(*) filter (where status in ('queued', 'scheduled', 'sending'))::int as backlog
       from messages where direction = 'outgoing' and status in ('queued', 'scheduled', 'sending', 'failed')
       group by priority`,
    );
    return queueNames.map((name) => {
      const row = rows.find(({ priority }) => `whatsapp-${priorities[priority]}` === name);
      return {
        name,
        waiting: row?.waiting ?? 0,
        delayed: row?.delayed ?? 0,
        active: row?.active ?? 0,
        failed: row?.failed ?? 0,
        oldestSeconds: Math.round(row?.oldestSeconds ?? 0),
        backlog: row?.backlog ?? 0,
      };
    });
  }
}
