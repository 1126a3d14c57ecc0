import { Inject, Injectable, type OnModuleDestroy } from '@nestjs/common';
import { type Job, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { REDIS } from '../platform/queues/redis.js';
import { queuePolicies, type QueueName } from './queue-policies.js';

/** What a job may know of the worker that runs it. */
export interface WorkerSlots {
  /** Whether a further job would start at once: then nobody waits for this one to end. */
  hasSpare(): boolean;
}

/** What consumes one or more queues. A role module lists its processors; a queue has exactly one. */
export interface QueueProcessor<Result = unknown> {
  readonly queues: readonly QueueName[];
  /** Does the work of one job; an error makes the job fail. */
  process(job: Job, slots: WorkerSlots): Promise<Result>;
  /** Called once the job has left its queue, so that a job of the same id can be put again. */
  completed?(result: Result): Promise<void>;
}

/** Injection token of the {@link QueueProcessor}s of this process. */
export const QUEUE_PROCESSORS = Symbol('QUEUE_PROCESSORS');

/** A job whose worker died is taken again after this; a live worker renews well before. */
const lockMs = 5_000;
const renewMs = 1_500;
const stalledCheckMs = 2_500;
/** How long empty queues are waited for before they are looked at again: covers a marker that was lost. */
const longestWaitSeconds = 1;
const retryMs = 200;

interface Source {
  name: QueueName;
  worker: Worker;
  processor: QueueProcessor;
  waitKey: string;
  markerKey: string;
}

/**
 * Laravel's `queue:work` on BullMQ: one loop takes jobs in strict queue order, so that a job of a later queue starts
 * only when every earlier queue is empty, and up to `WORKER_CONCURRENCY` of them run at the same time.
 */
@Injectable()
export class QueueWorker implements OnModuleDestroy {
  private readonly sources: Source[] = [];
  /** A connection of its own, since it blocks. */
  private readonly waiting: Redis;
  private readonly running = new Map<Job, Promise<void>>();
  private stopping = false;
  private loop: Promise<void> | null = null;
  private renewal: NodeJS.Timeout | null = null;
  private wakeSlot: (() => void) | null = null;
  private readonly token: string;
  private readonly slots: WorkerSlots = {
    hasSpare: () => this.running.size < this.config.worker.concurrency,
  };

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
    @Inject(REDIS) private readonly redis: Redis,
    @Inject(QUEUE_PROCESSORS) private readonly processors: QueueProcessor[],
  ) {
    this.token = `${config.worker.name}:${process.pid}`;
    this.waiting = redis.duplicate();
    this.waiting.on('error', (error) =>
      logger.debug({ err: error }, 'the waiting connection broke; reconnecting'),
    );
  }

  /** Starts to consume `queues`, the most important first. */
  async start(queues: readonly QueueName[]): Promise<void> {
    for (const name of queues) {
      const processor = this.processors.find((candidate) => candidate.queues.includes(name));
      if (!processor) throw new Error(`No processor of this worker consumes the queue ${name}.`);
      // No processor function: jobs are taken by hand, in order across queues.
      const worker = new Worker(name, undefined, {
        connection: this.redis,
        lockDuration: lockMs,
        stalledInterval: stalledCheckMs,
        // The message in PostgreSQL counts its own attempts.
        maxStalledCount: Number.MAX_SAFE_INTEGER,
        removeOnComplete: { count: 0 },
        removeOnFail: { count: 0 },
      });
      worker.on('error', (error) =>
        this.logger.warn({ err: error, queue: name }, 'Redis does not answer the worker'),
      );
      this.sources.push({
        name,
        worker,
        processor,
        waitKey: worker.toKey('wait'),
        markerKey: worker.toKey('marker'),
      });
      await worker.startStalledCheckTimer();
    }
    this.renewal = setInterval(() => this.renewLocks(), renewMs);
    this.loop = this.run();
    this.logger.info({ queues, concurrency: this.config.worker.concurrency }, 'worker consumes');
  }

  /** Takes no more jobs, lets the running ones finish, and closes its connections. */
  async onModuleDestroy(): Promise<void> {
    this.stopping = true;
    this.wakeSlot?.();
    this.waiting.disconnect();
    // Without Redis no command ends: what it holds are hints, which the sweep puts again.
    if (this.redis.status !== 'ready') this.redis.disconnect();
    await this.loop;
    await Promise.all(this.running.values());
    if (this.renewal) clearInterval(this.renewal);
    await Promise.all(this.sources.map(({ worker }) => worker.close()));
  }

  private async run(): Promise<void> {
    while (!this.stopping) {
      try {
        if (this.running.size >= this.config.worker.concurrency) await this.slot();
        else if (!(await this.takeNext())) await this.untilJobsArrive();
      } catch (error) {
        if (this.stopping) return;
        this.logger.warn({ err: error }, 'could not take a job; trying again');
        await delay(retryMs);
      }
    }
  }

  private slot(): Promise<void> {
    return new Promise((resolve) => {
      this.wakeSlot = resolve;
    });
  }

  /**
   * Takes jobs of the first queue that has any, as many as there are slots for, and of that queue alone: before the next
   * ones it looks at the more urgent queues again.
   * @returns whether there was a job
   */
  private async takeNext(): Promise<boolean> {
    const lengths = this.redis.pipeline();
    for (const { waitKey } of this.sources) lengths.llen(waitKey);
    const replies = (await lengths.exec()) ?? [];
    for (const [index, source] of this.sources.entries()) {
      const waiting = Number(replies[index]?.[1]);
      if (!(waiting > 0)) continue;
      const wanted = Math.min(waiting, this.config.worker.concurrency - this.running.size);
      const jobs = await Promise.all(
        Array.from({ length: wanted }, () => source.worker.getNextJob(this.token, { block: false })),
      );
      for (const job of jobs) {
        if (job) this.running.set(job, this.work(job, source.processor, source.name));
      }
      // None from a queue that has some: it is paused, and the later ones are served.
      if (jobs.some(Boolean)) return true;
    }
    return false;
  }

  /** Blocks on the markers that BullMQ sets when a job is added to a queue, as its own workers do, on all of them at once. */
  private async untilJobsArrive(): Promise<void> {
    await this.waiting.bzpopmin(...this.sources.map(({ markerKey }) => markerKey), longestWaitSeconds);
  }

  private async work(job: Job, processor: QueueProcessor, queue: QueueName): Promise<void> {
    try {
      const result = await withTimeout(processor.process(job, this.slots), queuePolicies[queue].timeoutMs);
      // After a FLUSHALL the job is gone: what it stood for is done all the same.
      await job.moveToCompleted(null, this.token, false).catch((error: unknown) => {
        this.logger.debug({ err: error, job: job.id }, 'the job is no longer in Redis');
      });
      await processor.completed?.(result);
    } catch (error) {
      this.logger.error({ err: error, job: job.id, queue }, 'job failed');
      await job.moveToFailed(asError(error), this.token, false).catch((inner: unknown) => {
        this.logger.debug({ err: inner, job: job.id }, 'the job is no longer in Redis');
      });
    } finally {
      this.running.delete(job);
      this.wakeSlot?.();
    }
  }

  private renewLocks(): void {
    for (const job of this.running.keys()) {
      job.extendLock(this.token, lockMs).catch((error: unknown) => {
        // Another worker may take the job now. That is safe: a message is claimed in PostgreSQL, and sent under one id.
        this.logger.debug({ err: error, job: job.id }, 'the lock of a job was lost');
      });
    }
  }
}

async function withTimeout<Result>(work: Promise<Result>, ms: number): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`The job took longer than ${ms} ms.`)), ms);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
