import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { isUUID } from 'class-validator';
import { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { Problem } from '../platform/errors/problem.js';
import { isLaneQueue, type QueueName } from './queue-policies.js';

export class FailedJobNotFound extends Problem {
  constructor(id: string) {
    super(404, 'failed_job.not_found', `There is no failed job ${id}. "flotilla queue:failed" lists them.`);
  }
}

export interface FailedJob {
  /** The id of the message when the job stands for a message. */
  id: string;
  queue: QueueName;
  jobId: string;
  name: string;
  data: Record<string, unknown>;
  /** What went wrong. It begins with the code of the error, if the error has a code. */
  exception: string;
  attempts: number;
  failedAt: Date;
  messageId: string | null;
  workspaceId: string | null;
}

/** The last failed job of the page before. */
export type FailedJobsCursor = Pick<FailedJob, 'id' | 'failedAt'>;

const deleteBatchSize = 5_000;
const columns = `id, queue, job_id as "jobId", name, data, exception, attempts, failed_at as "failedAt",
  message_id as "messageId", workspace_id as "workspaceId"`;

/**
 * The jobs that used up their tries or their time, and the messages that are `failed` or `unknown`. Triggers of the migration
 * write the messages, in the transaction that changes their status.
 */
@Injectable()
export class FailedJobsService {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /** Records a job that will not be retried. It replaces the record of an earlier failure of the same job. */
  async record(job: Pick<FailedJob, 'queue' | 'jobId' | 'name' | 'data' | 'exception' | 'attempts'>) {
    const { queue, jobId, name, data, exception, attempts } = job;
    if (isLaneQueue(queue)) {
      await this.database.query(
        `insert into failed_jobs (id, queue, job_id, name, data, exception, attempts, message_id, workspace_id)
         select m.id, $2, $3, $4, $5, $6, $7, m.id, m.workspace_id from messages m where m.id = $1
         on conflict (id) do update set queue = excluded.queue, exception = excluded.exception,
           attempts = excluded.attempts, failed_at = excluded.failed_at`,
        [data.id, queue, jobId, name, data, exception, attempts],
      );
      return;
    }
    await this.database.query(
      `insert into failed_jobs (id, queue, job_id, name, data, exception, attempts) values ($1, $2, $3, $4, $5, $6, $7)
       on conflict (queue, job_id) do update set name = excluded.name, data = excluded.data,
         exception = excluded.exception, attempts = excluded.attempts, failed_at = excluded.failed_at`,
      [uuidv7(), queue, jobId, name, data, exception, attempts],
    );
  }

  /** Up to `limit` failed jobs, newest first. */
  async list(
    limit: number,
    { queue, after }: { queue?: QueueName; after?: FailedJobsCursor } = {},
  ): Promise<FailedJob[]> {
    return this.database.query(
      `select ${columns} from failed_jobs
       where ($2::text is null or queue = $2)
         and ($3::timestamptz is null or (failed_at, id) < ($3, $4::uuid))
       order by failed_at desc, id desc limit $1`,
      [limit, queue ?? null, after?.failedAt ?? null, after?.id ?? null],
    );
  }

  /** @throws FailedJobNotFound */
  async get(id: string): Promise<FailedJob> {
    const [job]: FailedJob[] = isUUID(id)
      ? await this.database.query(`select ${columns} from failed_jobs where id = $1`, [id])
      : [];
    if (!job) throw new FailedJobNotFound(id);
    return job;
  }

  /** The number of failed jobs of each queue. */
  async count(): Promise<Map<string, number>> {
    const rows: { queue: string; failed: number }[] = await this.database.query(
      'select queue, count(*)::int as failed from failed_jobs group by queue',
    );
    return new Map(rows.map(({ queue, failed }) => [queue, failed]));
  }

  /** Forgets a failed job. The ledger keeps the status of its message. @returns whether the failed job existed */
  async forget(id: string): Promise<boolean> {
    if (!isUUID(id)) return false;
    const [, deleted]: [unknown, number] = await this.database.query(
      'delete from failed_jobs where id = $1',
      [id],
    );
    return deleted > 0;
  }

  /** Forgets the failed jobs that are older than this, in batches. @returns how many it forgot */
  async prune(olderThanMs: number): Promise<number> {
    // All batches use the same time, so that jobs that fail during the pruning stay.
    const [{ until }]: [{ until: string }] = await this.database.query(
      `select (now() - $1 * interval '1 millisecond')::text as until`,
      [olderThanMs],
    );
    for (let total = 0; ;) {
      const [, deleted]: [unknown, number] = await this.database.query(
        `delete from failed_jobs where id in (select id from failed_jobs where failed_at <= $1 limit ${deleteBatchSize})`,
        [until],
      );
      total += deleted;
      if (deleted < deleteBatchSize) return total;
    }
  }

  /**
   * Forgets jobs that timed out and whose message has moved on since, because another worker took over the lane. (A trigger
   * takes care of messages that failed themselves.)
   */
  async forgetSettled(): Promise<void> {
    await this.database.query(
      `delete from failed_jobs f using messages m
       where f.message_id is not null and f.exception like 'job.timed_out:%'
         and m.id = f.message_id and m.stage is null and m.status not in ('failed', 'unknown')`,
    );
  }
}
