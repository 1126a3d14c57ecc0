import { type Job, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Logger } from '../platform/logging/logger.js';
import { blockingRedis } from '../platform/queues/redis.js';
import type { QueueProcessor } from './job-runner.js';
import { isLaneQueue, type QueueName } from './queue-policies.js';

/** A job whose worker died is taken again after this; a live worker renews well before. */
const lockMs = 5_000;
const stalledCheckMs = 2_500;
const shortestWaitMs = 10;
/** BullMQ keeps the time of a delayed job in the upper bits of its score. */
const scoresPerMs = 0x1000;

/** One queue as a worker reads it. */
export interface Source {
  name: QueueName;
  worker: Worker;
  processor: QueueProcessor;
}

/** The queues of one worker in Redis, taken from by hand, in order across queues. */
export class QueueSources {
  readonly all: Source[];
  /** A connection of its own, since it blocks. */
  private readonly waitingConnection: Redis;
  /** When the first of the jobs that wait for their next try is due, in milliseconds since 1970. */
  private nextDueAt = Infinity;

  /** @param longestWaitMs how long jobs are waited for at the most, in milliseconds */
  constructor(
    queues: { name: QueueName; processor: QueueProcessor }[],
    longestWaitMs: number,
    private readonly redis: Redis,
    private readonly logger: Logger,
  ) {
    this.waitingConnection = blockingRedis(redis, longestWaitMs);
    this.waitingConnection.on('error', (error) =>
      logger.debug({ err: error }, 'the waiting connection broke; reconnecting'),
    );
    this.all = queues.map(({ name, processor }) => ({ name, processor, worker: this.newWorker(name) }));
  }

  /** From now on jobs of dead workers come back. */
  async open(): Promise<void> {
    for (const { worker } of this.all) await worker.startStalledCheckTimer();
  }

  async close(): Promise<void> {
    this.interrupt();
    if (this.redis.status !== 'ready') this.redis.disconnect();
    await Promise.all(this.all.map(({ worker }) => worker.close()));
  }

  /** Ends a wait for jobs. There is none after it. */
  interrupt(): void {
    this.waitingConnection.disconnect();
  }

  /** How many jobs of each of these queues could be taken now. */
  async waiting(sources: Source[]): Promise<Map<QueueName, number>> {
    const questions = this.redis.pipeline();
    for (const { name, worker } of sources) {
      questions.llen(worker.toKey('wait'));
      // The heads of lanes have no priority of BullMQ's, and wait in PostgreSQL.
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
   * Blocks on the markers that BullMQ sets when a job is added to a queue, as its own workers do, on all of them at once.
   * @param ms the longest wait, in milliseconds: covers a marker that was lost
   */
  async untilJobsArrive(sources: Source[], ms: number): Promise<void> {
    const wait = Math.max(shortestWaitMs, Math.min(ms, this.nextDueAt - Date.now()));
    await this.waitingConnection.bzpopmin(
      ...sources.map(({ worker }) => worker.toKey('marker')),
      wait / 1000,
    );
  }

  /** Tells those who wait for jobs that a queue has some, as BullMQ does when one is added. */
  announce({ name, worker }: Source): void {
    this.redis
      .zadd(worker.toKey('marker'), 0, '0')
      .catch((error: unknown) =>
        this.logger.debug({ err: error, queue: name }, 'a wait for jobs is not cut short'),
      );
  }

  renew(job: Job, token: string): void {
    job.extendLock(token, lockMs).catch((error: unknown) => {
      // Another worker may take the job now. That is safe: a message is claimed in PostgreSQL, and sent under one id.
      this.logger.debug({ err: error, job: job.id }, 'the lock of a job was lost');
    });
  }

  private newWorker(name: QueueName): Worker {
    // No processor function: jobs are taken by hand.
    const worker = new Worker(name, undefined, {
      connection: this.redis,
      lockDuration: lockMs,
      stalledInterval: stalledCheckMs,
      // How often a job is begun is counted where it is run, and a message counts its own attempts.
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
