import { Injectable, Inject } from '@nestjs/common';
import type { Job } from 'bullmq';
import { backoffAfter } from '../platform/backoff.js';
import { withDeadline } from '../platform/deadline.js';
import { Problem } from '../platform/errors/problem.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { FailedJobsService } from './failed-jobs.service.js';
import { isLaneQueue, type QueueName, type QueuePolicy } from './queue-policies.js';

/** What a job may know of the worker that runs it. */
export interface JobContext {
  /** Whether a further job would start at once: then nobody waits for this one to end. */
  hasSpareSlot(): boolean;
  /** The worker may run so many jobs only: each is to stand for as little as it can. */
  isCounted: boolean;
  /** The queues that the worker serves now, the most important first, without those that are paused. */
  servedQueues(): readonly QueueName[];
  /** How the job is tried: that of its queue, but for what the worker was told. */
  policy: QueuePolicy;
}

/** What consumes one or more queues. A role module lists its processors; a queue has at most one. */
export interface QueueProcessor<Result = unknown> {
  readonly queues: readonly QueueName[];
  /** Does the work of one job; an error makes the job fail, or be tried again. */
  process(job: Job, context: JobContext): Promise<Result>;
  /** Called once the job has left its queue, so that a job of the same id can be put again. */
  completed?(result: Result): Promise<void>;
  /** Called when the worker takes no more jobs: begins nothing more, and lets end what goes on beside the jobs, in bounded time. */
  stop?(): Promise<void>;
}

/** Injection token of the {@link QueueProcessor}s of this process. */
export const QUEUE_PROCESSORS = Symbol('QUEUE_PROCESSORS');

export class JobTimedOut extends Problem {
  constructor(ms: number) {
    super(
      504,
      'job.timed_out',
      `It took longer than ${ms / 1000} s. Its worker is replaced; give it more time with --timeout.`,
    );
  }
}

export class JobTriedTooOften extends Problem {
  constructor(attempts: number) {
    super(
      500,
      'job.tried_too_often',
      `It was begun ${attempts} times and never ended: its worker may have died of it. "flotilla queue:retry" tries it anew.`,
    );
  }
}

/** What became of a job. `released`: it is tried again later. */
export interface JobOutcome {
  kind: 'processed' | 'released' | 'failed' | 'timed_out';
  error?: Error;
  /** When it is tried again, in milliseconds from now. */
  retryInMs?: number;
}

/** Runs one job to its end: done, tried again later, or failed for good. */
@Injectable()
export class JobRunner {
  constructor(
    private readonly failedJobs: FailedJobsService,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  /** @param token under which the worker holds the job's lock */
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
      // A crash raises the number of starts alone: a job that kills its worker is not tried for ever.
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
    // After a FLUSHALL the job is gone: what it stood for is done all the same.
    await this.settleJob(job, () => job.moveToCompleted(null, token, false));
    await this.follow(job, queue, processor, result);
    return { kind: 'processed' };
  }

  private async follow(
    job: Job,
    queue: QueueName,
    processor: QueueProcessor,
    result: unknown,
  ): Promise<void> {
    try {
      await processor.completed?.(result);
    } catch (error) {
      // The job is done. What should have followed it is in PostgreSQL, and found there.
      this.logger.warn({ err: error, job: job.id, queue }, 'what follows a job was not put');
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
        'job is tried again',
      );
      job.opts.attempts = Number.MAX_SAFE_INTEGER;
      job.opts.backoff = { type: 'fixed', delay: retryInMs };
      await this.settleJob(job, () => job.moveToFailed(error, token, false));
      return { kind: 'released', error, retryInMs };
    }
    this.logger.error({ err: error, job: job.id, queue }, 'job failed');
    // The job of a lane is a hint: its message stays, and the sweep puts it again.
    if (!isLaneQueue(queue) || isTimeout) {
      try {
        await this.failedJobs.record({
          queue,
          jobId: job.id!,
          name: job.name,
          data: job.data,
          exception: describe(error),
          attempts: job.attemptsStarted,
        });
      } catch (cause) {
        // It stays in its queue, is taken again when its lock ends, and is recorded then.
        this.logger.error({ err: cause, job: job.id, queue }, 'a failed job could not be recorded');
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
  // Long enough for what failed and where; an error may carry a whole document.
  return `${code}${error.stack ?? error.message}`.replaceAll('\u0000', '').slice(0, 8_000);
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
