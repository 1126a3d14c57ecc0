import { Injectable, Inject } from '@nestjs/common';
import type { Job } from 'bullmq';
import { backoffAfter } from '../platform/backoff.js';
import { withDeadline } from '../platform/deadline.js';
import { Problem } from '../platform/errors/problem.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { FailedJobsService } from './failed-jobs.service.js';
import { isLaneQueue, type QueueName, type QueuePolicy } from './queue-policies.js';

/** What a job may know about the worker that runs it. */
export interface JobContext {
  /** Whether the worker would start another job at once. Then no job waits for a slot, and this one may go on. */
  hasIdleSlot(): boolean;
  /** Whether the number of jobs of the worker is limited (`--once`, `--max-jobs`). Then each job does as little as possible. */
  hasJobLimit: boolean;
  /** The queues that the worker serves now, the most important first, without the paused ones. */
  servedQueues(): readonly QueueName[];
  /** The policy of the queue, with the options of the worker applied. */
  policy: QueuePolicy;
}

/** Consumes one or more queues. A role module lists its processors. A queue has at most one processor. */
export interface QueueProcessor<Result = unknown> {
  readonly queues: readonly QueueName[];
  /** Does the work of one job. After an error the job is retried, or it fails. */
  process(job: Job, context: JobContext): Promise<Result>;
  /** Called after the job has left its queue, so that a job with the same id can be put again. */
  completed?(result: Result): Promise<void>;
  /** Called when the worker takes no more jobs. It starts nothing new, and waits a bounded time for work beside the jobs. */
  stop?(): Promise<void>;
}

/** Injection token of the {@link QueueProcessor}s of this process. */
export const QUEUE_PROCESSORS = Symbol('QUEUE_PROCESSORS');

export class JobTimedOut extends Problem {
  constructor(ms: number) {
    super(
      504,
      'job.timed_out',
      `The job took longer than ${ms / 1000} s. Its worker ends and is replaced. To allow more time, set --timeout.`,
    );
  }
}

export class JobTriedTooOften extends Problem {
  constructor(attempts: number) {
    super(
      500,
      'job.tried_too_often',
      `The job started ${attempts} times and never ended. It may have crashed its worker. To retry it: "flotilla queue:retry".`,
    );
  }
}

/** The outcome of a job. `released` means that it is retried later. */
export interface JobOutcome {
  kind: 'processed' | 'released' | 'failed' | 'timed_out';
  error?: Error;
  /** The time until the next try, in milliseconds. */
  retryInMs?: number;
}

/** Runs one job until it is done, released for a retry, or failed. */
@Injectable()
export class JobRunner {
  constructor(
    private readonly failedJobs: FailedJobsService,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  /** @param token the token with which the worker holds the lock of the job */
  async run(
    job: Job,
    queue: QueueName,
    processor: QueueProcessor,
    context: JobContext,
    token: string,
  ): Promise<JobOutcome> {
    const { policy } = context;
    const { timeoutMs } = policy;
    let result: unknown;
    try {
      // A crash raises only the number of starts. This check ends the retries of a job that crashes its worker.
      if (!isLaneQueue(queue) && policy.attempts > 0 && job.attemptsStarted > policy.attempts) {
        throw new JobTriedTooOften(job.attemptsStarted - 1);
      }
      result = await withDeadline(
        processor.process(job, context),
        timeoutMs,
        () => new JobTimedOut(timeoutMs),
      );
    } catch (error) {
      return this.fail(job, queue, policy, asError(error), token);
    }
    // After a FLUSHALL the job is no longer in Redis. Its work is done all the same.
    await this.settleJob(job, () => job.moveToCompleted(null, token, false));
    await this.afterCompletion(job, queue, processor, result);
    return { kind: 'processed' };
  }

  private async afterCompletion(
    job: Job,
    queue: QueueName,
    processor: QueueProcessor,
    result: unknown,
  ): Promise<void> {
    try {
      await processor.completed?.(result);
    } catch (error) {
      // The job is done. PostgreSQL holds the follow-up work, and the sweep finds it there.
      this.logger.warn({ err: error, job: job.id, queue }, 'follow-up job not put');
    }
  }

  private async fail(
    job: Job,
    queue: QueueName,
    policy: QueuePolicy,
    error: Error,
    token: string,
  ): Promise<JobOutcome> {
    const isTimeout = error instanceof JobTimedOut;
    const isOver =
      isTimeout ||
      error instanceof JobTriedTooOften ||
      (policy.attempts > 0 && job.attemptsStarted >= policy.attempts);
    if (!isLaneQueue(queue) && !isOver) {
      const retryInMs = backoffAfter(job.attemptsStarted, policy.backoffMs);
      this.logger.warn(
        { err: error, job: job.id, queue, attempt: job.attemptsStarted, retryInMs },
        'job failed; retrying',
      );
      job.opts.attempts = Number.MAX_SAFE_INTEGER;
      job.opts.backoff = { type: 'fixed', delay: retryInMs };
      await this.settleJob(job, () => job.moveToFailed(error, token, false));
      return { kind: 'released', error, retryInMs };
    }
    this.logger.error({ err: error, job: job.id, queue }, 'job failed');
    // The job of a lane is only a hint. Its message stays in PostgreSQL, and the sweep puts the job again.
    if (!isLaneQueue(queue) || isTimeout) {
      try {
        await this.failedJobs.record({
          queue,
          jobId: job.id!,
          name: job.name,
          data: job.data as Record<string, unknown>,
          exception: describe(error),
          attempts: job.attemptsStarted,
        });
      } catch (cause) {
        // The job stays in its queue. A worker takes it again when its lock ends, and records it then.
        this.logger.error({ err: cause, job: job.id, queue }, 'could not record the failed job');
        return { kind: isTimeout ? 'timed_out' : 'failed', error };
      }
    }
    job.opts.attempts = 0;
    job.opts.removeOnFail = true;
    await this.settleJob(job, () => job.moveToFailed(error, token, false));
    return { kind: isTimeout ? 'timed_out' : 'failed', error };
  }

  private async settleJob(job: Job, move: () => Promise<unknown>): Promise<void> {
    try {
      await move();
    } catch (error) {
      this.logger.debug({ err: error, job: job.id }, 'the job is no longer in Redis');
    }
  }
}

function describe(error: Error): string {
  const code = error instanceof Problem ? `${error.code}: ` : '';
  // Long enough for the message and the stack. The message of an error may hold a whole document.
  const cause = error.cause instanceof Error ? `\nCaused by: ${error.cause.message}` : '';
  return `${code}${error.stack ?? error.message}${cause}`.replaceAll('\u0000', '').slice(0, 8_000);
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
