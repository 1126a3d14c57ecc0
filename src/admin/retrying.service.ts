import { Injectable } from '@nestjs/common';
import { MessageNotFound, MessageNotResendable, MessagesService } from '../messages/messages.service.js';
import { type FailedJob, FailedJobsService } from '../queues/failed-jobs.service.js';
import { isLaneQueue, type QueueName } from '../queues/queue-policies.js';
import { QueuesService, RedisUnreachable } from '../queues/queues.service.js';

/** What became of a failed job that was to be tried again. `obsolete`: its message needs it no more. */
export type Retried = 'queued' | 'obsolete';

const listedAtOnce = 500;

/** Tries failed jobs again. */
@Injectable()
export class RetryingService {
  constructor(
    private readonly failedJobs: FailedJobsService,
    private readonly messages: MessagesService,
    private readonly queues: QueuesService,
  ) {}

  /**
   * Sends a message again (under a new WhatsApp id when it failed, under its own when nobody can tell), or puts another job
   * into its queue; then the failed job is forgotten.
   * @throws FailedJobNotFound, RedisUnreachable: it stays as it was
   */
  async retry(id: string): Promise<Retried> {
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

  /** The ids of all jobs that have failed by now, newest first, read in pages; those that fail meanwhile are not in it. */
  async *ids(queue?: QueueName): AsyncGenerator<string> {
    for (let after: FailedJob | undefined; ;) {
      const page = await this.failedJobs.list(listedAtOnce, { queue, after });
      for (const { id } of page) yield id;
      after = page.at(-1);
      if (page.length < listedAtOnce) return;
    }
  }

  private async resend({ id, messageId, workspaceId }: FailedJob): Promise<Retried> {
    try {
      // A trigger forgets the failed job with it.
      await this.messages.resend(workspaceId!, messageId!);
      return 'queued';
    } catch (error) {
      if (!(error instanceof MessageNotResendable || error instanceof MessageNotFound)) throw error;
      await this.failedJobs.forget(id);
      return 'obsolete';
    }
  }
}
