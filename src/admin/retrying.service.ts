import { Injectable } from '@nestjs/common';
import { AcceptService, MessageNotResendable } from '../messages/accept.service.js';
import { MessageNotFound } from '../messages/messages.service.js';
import { type FailedJob, FailedJobsService } from '../queues/failed-jobs.service.js';
import { isLaneQueue, type QueueName } from '../queues/queue-policies.js';
import { QueuesService, RedisUnreachable } from '../queues/queues.service.js';

/** The outcome of a retry. `obsolete` means that its message no longer needs the job. */
export type RetryOutcome = 'queued' | 'obsolete';

const pageSize = 500;

/** Retries failed jobs. */
@Injectable()
export class RetryingService {
  constructor(
    private readonly failedJobs: FailedJobsService,
    private readonly accepting: AcceptService,
    private readonly queues: QueuesService,
  ) {}

  /**
   * Sends a message again, or puts another job back into its queue, and forgets the failed job. A `failed` message gets a new
   * WhatsApp id, an `unknown` message keeps its own.
   * @throws FailedJobNotFound, RedisUnreachable. In both cases nothing has changed.
   */
  async retry(id: string): Promise<RetryOutcome> {
    const job = await this.failedJobs.get(id);
    if (isLaneQueue(job.queue)) return this.resend(job);
    await this.queues.assertReady();
    const isPut = await this.queues.put([
      { queue: job.queue, id: job.jobId, name: job.name, data: job.data },
    ]);
    if (!isPut) throw new RedisUnreachable();
    await this.failedJobs.forget(id);
    return 'queued';
  }

  /** The ids of all failed jobs, newest first, read in pages. Jobs that fail during the iteration are left out. */
  async *ids(queue?: QueueName): AsyncGenerator<string> {
    for (let after: FailedJob | undefined; ;) {
      const page = await this.failedJobs.list(pageSize, { queue, after });
      for (const { id } of page) yield id;
      after = page.at(-1);
      if (page.length < pageSize) return;
    }
  }

  private async resend({ id, messageId, workspaceId }: FailedJob): Promise<RetryOutcome> {
    try {
      // A trigger forgets the failed job in the same transaction.
      await this.accepting.resend(workspaceId!, messageId!);
      return 'queued';
    } catch (error) {
      if (!(error instanceof MessageNotResendable || error instanceof MessageNotFound)) throw error;
      await this.failedJobs.forget(id);
      return 'obsolete';
    }
  }
}
