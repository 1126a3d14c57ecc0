import { type Job, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Logger } from '../platform/logging/logger.js';
import { blockingRedis } from '../platform/queues/redis.js';
import type { QueueProcessor } from './job-runner.js';
import { isLaneQueue, type QueueName } from './queue-policies.js';

/** After this time another worker takes the job of a dead worker. A live worker renews the lock well before. */
const lockMs = 5_000;
const stalledCheckMs = 2_500;
const minWaitMs = 10;
/** BullMQ stores the time of a delayed job in the upper bits of its score. */
const scoresPerMs = 0x1000;

/** One queue that a worker reads. */
export interface Source {
  name: QueueName;
  worker: Worker;
  processor: QueueProcessor;
}

/** The queues of one worker in Redis. The worker takes their jobs by hand, to keep the order across queues. */
export class QueueSources {
  readonly all: Source[];
  /** A separate connection, because its command blocks. */
  private readonly blockingConnection: Redis;
  /** When the first retry is due, in milliseconds since 1970. */
  private nextDueAt = Infinity;

  /** @param maxWaitMs the maximum time that {@link waitForJobs} waits, in milliseconds */
  constructor(
    queues: { name: QueueName; processor: QueueProcessor }[],
    maxWaitMs: number,
    private readonly redis: Redis,
    private readonly logger: Logger,
  ) {
    this.blockingConnection = blockingRedis(redis, maxWaitMs);
    this.blockingConnection.on('error', (error) =>
      logger.debug({ err: error }, 'blocking connection to Redis lost; reconnecting'),
    );
    this.all = queues.map(({ name, processor }) => ({ name, processor, worker: this.newWorker(name) }));
  }

  /** Starts the check that returns the jobs of dead workers to their queues. */
  async open(): Promise<void> {
    for (const { worker } of this.all) await worker.startStalledCheckTimer();
  }

  async close(): Promise<void> {
    this.interrupt();
    if (this.redis.status !== 'ready') this.redis.disconnect();
    await Promise.all(this.all.map(({ worker }) => worker.close()));
  }

  /** Ends the current wait for jobs. The worker cannot wait again after that. */
  interrupt(): void {
    this.blockingConnection.disconnect();
  }

  /** How many jobs of each of these queues could be taken now. */
  async countWaiting(sources: Source[]): Promise<Map<QueueName, number>> {
    const questions = this.redis.pipeline();
    for (const { name, worker } of sources) {
      questions.llen(worker.toKey('wait'));
      // Heads of lanes use no BullMQ priority and no delay: their times are in PostgreSQL.
      if (isLaneQueue(name)) continue;
      questions.zcard(worker.toKey('prioritized'));
      questions.zrange(worker.toKey('delayed'), 0, 0, 'WITHSCORES');
    }
    const answers = ((await questions.exec()) ?? []).map(([, answer]) => answer);
    this.nextDueAt = Infinity;
    return new Map(
      sources.map(({ name }) => {
        const waiting = Number(answers.shift());
        if (isLaneQueue(name)) return [name, waiting];
        const prioritized = Number(answers.shift());
        const score = (answers.shift() as string[] | undefined)?.[1];
        const dueAt = score === undefined ? Infinity : Number(score) / scoresPerMs;
        const isDue = dueAt <= Date.now();
        if (!isDue) this.nextDueAt = Math.min(this.nextDueAt, dueAt);
        return [name, waiting + prioritized + (isDue ? 1 : 0)];
      }),
    );
  }

  /**
   * Blocks on the markers that BullMQ sets when a job is added to a queue. The workers of BullMQ do the same, for one queue.
   * @param ms the maximum wait, in milliseconds. It covers a lost marker.
   */
  async waitForJobs(sources: Source[], ms: number): Promise<void> {
    const wait = Math.max(minWaitMs, Math.min(ms, this.nextDueAt - Date.now()));
    await this.blockingConnection.bzpopmin(
      ...sources.map(({ worker }) => worker.toKey('marker')),
      wait / 1000,
    );
  }

  /** Tells waiting workers that a queue has jobs, as BullMQ does when a job is added. */
  announce({ name, worker }: Source): void {
    this.redis
      .zadd(worker.toKey('marker'), 0, '0')
      .catch((error: unknown) =>
        this.logger.debug({ err: error, queue: name }, 'could not set the marker of the queue'),
      );
  }

  renewLock(job: Job, token: string): void {
    job.extendLock(token, lockMs).catch((error: unknown) => {
      // Another worker may take the job now. That is safe: PostgreSQL holds the claim of a message, and it has one WhatsApp id.
      this.logger.debug({ err: error, job: job.id }, 'lost the lock of a job');
    });
  }

  private newWorker(name: QueueName): Worker {
    // Without a processor function BullMQ takes no jobs by itself.
    const worker = new Worker(name, undefined, {
      connection: this.redis,
      lockDuration: lockMs,
      stalledInterval: stalledCheckMs,
      // The job runner counts the starts of a job, and a message counts its own attempts.
      maxStalledCount: Number.MAX_SAFE_INTEGER,
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
    });
    worker.on('error', (error) =>
      this.logger.warn({ err: error, queue: name }, 'Redis does not answer the worker'),
    );
    return worker;
  }
}
