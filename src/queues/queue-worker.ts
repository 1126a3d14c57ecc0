import { Inject, Injectable, type OnModuleDestroy } from '@nestjs/common';
import type { Job } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { withDeadline } from '../platform/deadline.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { REDIS } from '../platform/queues/redis.js';
import { WorkerCampaignShare } from './worker-campaign-share.js';
import { type JobContext, JobRunner, QUEUE_PROCESSORS, type QueueProcessor } from './job-runner.js';
import { isLaneQueue, queuePolicies, unfilledQueues, type QueueName } from './queue-policies.js';
import { QueueSources, type Source } from './queue-sources.js';
import { QueueStates, type WorkerOrders } from './queue-states.js';
import { defaultWorkerOptions, type StopReason, type WorkerOptions } from './worker-options.js';
import { silentReport, type WorkerReport } from './worker-report.js';
import { WorkersService, type WorkerStatus } from './workers.service.js';

const renewMs = 1_500;
/** How often a worker looks for orders and at itself; every fifth time it gives a sign of life. */
const lookMs = 1_000;
const looksPerSign = 5;
/** A worker that hears nothing of PostgreSQL or Redis for so long gives up: a new process may reach them. */
const lostAfterMs = 60_000;
const retryMs = 200;
/** How long the other jobs of a worker may go on when one of them ran past its time. */
const replaceGraceMs = 30_000;
/** Queues whose jobs may wait long for an answer. Those of webhooks do so in slots of their own: beside sends they end at once. */
const patientQueues: ReadonlySet<string> = new Set<QueueName>(['messaging', 'campaign-stats']);
/** Beside sends they have so much of the slots, and one at the least: a send finds a slot however long they take. */
const patientShare = 0.25;

/**
 * Laravel's `queue:work` on BullMQ: one loop takes jobs in strict queue order, so that a job of a later queue starts
 * only when every earlier queue is empty or has its share of the slots, and up to `WORKER_CONCURRENCY` of them run at the
 * same time.
 */
@Injectable()
export class QueueWorker implements OnModuleDestroy {
  private options: WorkerOptions = defaultWorkerOptions;
  private report: WorkerReport = silentReport;
  private sources: QueueSources | null = null;
  private readonly running = new Map<Job, Promise<void>>();
  /** Queues that have jobs for which there is no slot before another of their kind has ended. */
  private heldBack: ReadonlySet<QueueName> = new Set();
  private resting = 0;
  private taken = 0;
  private processed = 0;
  private failed = 0;
  private isPaused = false;
  /** Every queue was found empty while there were slots. */
  private isWaitingForJobs = false;
  private orders: WorkerOrders = { restartRequested: null, paused: new Set() };
  private readonly startedAt = new Date();
  /** What speaks for an end, as far as it is noticed beside the loop. */
  private readonly noticed = new Set<StopReason>();
  private silentSince: number | null = null;
  private wakeLoop: (() => void) | null = null;
  private working: Promise<StopReason> | null = null;
  private readonly campaigns: WorkerCampaignShare;
  private readonly token: string;

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
    @Inject(REDIS) private readonly redis: Redis,
    @Inject(QUEUE_PROCESSORS) private readonly processors: QueueProcessor[],
    private readonly runner: JobRunner,
    private readonly states: QueueStates,
    private readonly workers: WorkersService,
  ) {
    this.token = `${config.worker.name}:${process.pid}`;
    this.campaigns = new WorkerCampaignShare(config.worker.campaignShare);
  }

  /** Consumes queues until something speaks for an end, lets the running jobs finish, and tells why it ended. */
  work(options: WorkerOptions, report: WorkerReport = silentReport): Promise<StopReason> {
    this.options = options;
    this.report = report;
    this.working = this.workToTheEnd();
    return this.working;
  }

  /** Takes no more jobs, and ends when the running ones have. */
  stop(): void {
    this.notice('signal');
  }

  /** Takes no jobs until it continues; the running ones go on. */
  pause(): void {
    this.isPaused = true;
    this.logger.info('worker paused');
    void this.writeSignOfLife();
  }

  continue(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    this.logger.info('worker continues');
    this.wakeLoop?.();
    void this.writeSignOfLife();
  }

  async onModuleDestroy(): Promise<void> {
    this.stop();
    await this.working;
  }

  private async workToTheEnd(): Promise<StopReason> {
    const { queues, sleepMs } = this.options;
    this.sources = new QueueSources(
      queues.flatMap((name) => {
        const processor = this.processorOf(name);
        return processor ? [{ name, processor }] : [];
      }),
      sleepMs,
      this.redis,
      this.logger,
    );
    await this.sources.open();
    this.orders = await this.states.orders();
    await this.writeSignOfLife();
    const renewal = setInterval(() => this.renewLocks(), renewMs);
    const looking = this.keepLooking(this.orders.restartRequested);
    this.logger.info({ queues, concurrency: this.config.worker.concurrency }, 'worker consumes');
    const reason = await this.consume();
    this.logger.info({ reason, running: this.running.size }, 'worker ends');
    await this.letJobsFinish(reason);
    clearInterval(renewal);
    looking.stop();
    await this.sources.close();
    await this.workers
      .remove(this.config.worker.name)
      .catch((error: unknown) => this.logger.debug({ err: error }, 'the worker is still listed'));
    return reason;
  }

  private processorOf(queue: QueueName): QueueProcessor | undefined {
    const processor = this.processors.find(({ queues }) => queues.includes(queue));
    if (!processor) {
      if (!unfilledQueues.has(queue))
        throw new Error(`No processor of this worker consumes the queue ${queue}.`);
      this.logger.info({ queue }, 'nothing fills this queue yet');
    }
    return processor;
  }

  private async consume(): Promise<StopReason> {
    const startedAt = performance.now();
    const { maxTimeMs, once, stopWhenEmpty, sleepMs } = this.options;
    let isEmpty = false;
    let waits = 0;
    for (;;) {
      const timeLeft = maxTimeMs === 0 ? Infinity : maxTimeMs - (performance.now() - startedAt);
      if (isEmpty) this.notice('empty');
      if (timeLeft <= 0) this.notice('max_time');
      if (this.jobsLeft() <= 0) this.notice('max_jobs');
      const reason = stopOrder.find((candidate) => this.noticed.has(candidate));
      if (reason) return reason;
      try {
        if (this.isPaused || this.freeSlots() <= 0) await this.woken(Math.min(lookMs, timeLeft));
        else if (await this.takeNext()) waits = 0;
        else if ((stopWhenEmpty && this.running.size === 0) || (once && waits > 0)) isEmpty = true;
        else {
          waits += 1;
          await this.untilJobsArrive(Math.min(sleepMs, timeLeft));
        }
      } catch (error) {
        if (this.noticed.size > 0) continue;
        this.logger.warn({ err: error }, 'could not take a job; trying again');
        await this.woken(retryMs);
      }
    }
  }

  /** Remembers a reason to end, and has the loop see it at once. */
  private notice(reason: StopReason): void {
    this.noticed.add(reason);
    this.wakeLoop?.();
    this.sources?.interrupt();
    // Without Redis no command ends: what it holds are hints, which the sweep puts again.
    if (this.redis.status !== 'ready') this.redis.disconnect();
  }

  private woken(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wakeLoop = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  private jobsLeft(): number {
    const { maxJobs, once } = this.options;
    return (once ? 1 : maxJobs || Infinity) - this.taken;
  }

  private freeSlots(): number {
    return Math.min(this.slots() - this.running.size - this.resting, this.jobsLeft());
  }

  private slots(): number {
    return this.options.once ? 1 : this.config.worker.concurrency;
  }

  /** How many more jobs of a queue may run, as far as others need the slots. */
  private share(queue: QueueName): number {
    if (!patientQueues.has(queue) || !this.options.queues.some(isLaneQueue)) return Infinity;
    const most = Math.max(1, Math.floor(this.slots() * patientShare));
    return most - [...this.running.keys()].filter(({ queueName }) => patientQueues.has(queueName)).length;
  }

  private served(): Source[] {
    return this.sources!.all.filter(({ name }) => !this.orders.paused.has(name));
  }

  /**
   * Takes jobs of the first queue that has any, as many as there are slots for, and of that queue alone: before the next
   * ones it looks at the more urgent queues again. A queue that has its share of the slots counts as empty.
   * @returns whether there was a job
   */
  private async takeNext(): Promise<boolean> {
    const served = this.served();
    if (served.length === 0) return false;
    const waiting = await this.sources!.waiting(served);
    const order = this.campaigns.order(
      served.map(({ name }) => name),
      waiting,
    );
    const isWaiting = (name: QueueName) => (waiting.get(name) ?? 0) > 0;
    this.heldBack = new Set(order.filter((name) => isWaiting(name) && this.share(name) <= 0));
    for (const name of order) {
      if (!isWaiting(name) || this.heldBack.has(name)) continue;
      const source = served.find((candidate) => candidate.name === name)!;
      const wanted = Math.min(
        waiting.get(name)!,
        this.freeSlots(),
        this.share(name),
        this.campaigns.most(name, waiting),
      );
      const jobs = await Promise.all(
        Array.from({ length: wanted }, () => source.worker.getNextJob(this.token, { block: false })),
      );
      const taken = jobs.filter((job): job is Job => Boolean(job));
      for (const job of taken) this.running.set(job, this.runJob(job, source));
      this.taken += taken.length;
      this.campaigns.note(name, taken.length, waiting);
      // None from a queue that has some: another worker was faster, and the later ones are served.
      if (taken.length > 0) return true;
    }
    return false;
  }

  private async untilJobsArrive(ms: number): Promise<void> {
    const served = this.served();
    this.isWaitingForJobs = true;
    try {
      if (served.length === 0) await this.woken(ms);
      else await this.sources!.untilJobsArrive(served, ms);
    } finally {
      this.isWaitingForJobs = false;
    }
  }

  private async runJob(job: Job, source: Source): Promise<void> {
    const { name, processor } = source;
    const started = performance.now();
    this.report.processing(job, name);
    const outcome = await this.runner.run(job, name, processor, this.contextOf(name), this.token);
    this.report.ended(job, name, outcome, performance.now() - started);
    if (outcome.kind === 'processed') this.processed += 1;
    else if (outcome.kind !== 'released') this.failed += 1;
    this.running.delete(job);
    // The loop may wait for a job to be put, and there has been one all the while.
    if (this.heldBack.size > 0 && patientQueues.has(name)) this.sources?.announce(source);
    // What hangs in it cannot be ended, so its process has to be.
    if (outcome.kind === 'timed_out') this.notice('timeout');
    this.rest();
    this.wakeLoop?.();
  }

  private rest(): void {
    if (this.options.restMs === 0) return;
    this.resting += 1;
    setTimeout(() => {
      this.resting -= 1;
      this.wakeLoop?.();
    }, this.options.restMs).unref();
  }

  private contextOf(queue: QueueName): JobContext {
    return {
      hasSpareSlot: () =>
        // A slot that is free for a moment only is the next job's.
        this.isWaitingForJobs && this.noticed.size === 0 && !this.isPaused,
      isCounted: this.options.once || this.options.maxJobs > 0,
      servedQueues: () => this.options.queues.filter((name) => !this.orders.paused.has(name)),
      policy: { ...queuePolicies[queue], ...this.options.policy },
    };
  }

  private async letJobsFinish(reason: StopReason): Promise<void> {
    // Each ends in time: the runner gives up on one that does not.
    const finished = Promise.all([
      ...this.running.values(),
      ...this.sources!.all.map(({ processor }) => processor.stop?.()),
    ]);
    await this.writeSignOfLife('stopping');
    if (reason !== 'timeout') {
      await finished;
      return;
    }
    try {
      await withDeadline(finished, replaceGraceMs, () => new Error(`not within ${replaceGraceMs} ms`));
    } catch (error) {
      this.logger.error(
        { err: error, running: this.running.size },
        'jobs are left behind; others take them over',
      );
    }
  }

  private renewLocks(): void {
    for (const job of this.running.keys()) this.sources?.renew(job, this.token);
  }

  /** Looks for orders once a second, one look at a time. */
  private keepLooking(restartKnown: string | null): { stop(): void } {
    let looks = 0;
    let isLooking = false;
    const look = async () => {
      if (isLooking) return;
      isLooking = true;
      const { maxMemoryBytes } = this.options;
      if (maxMemoryBytes > 0 && process.memoryUsage.rss() > maxMemoryBytes) this.notice('memory');
      try {
        this.orders = await this.states.orders();
        if (this.orders.restartRequested !== restartKnown) this.notice('restart');
        looks += 1;
        if (looks % looksPerSign === 0) await this.writeSignOfLife();
        this.heardOf(this.redis.status === 'ready');
      } catch (error) {
        this.logger.debug({ err: error }, 'PostgreSQL does not answer the worker');
        this.heardOf(false);
      }
      isLooking = false;
    };
    const timer = setInterval(() => void look(), lookMs);
    return { stop: () => clearInterval(timer) };
  }

  private heardOf(everybody: boolean): void {
    if (everybody) this.silentSince = null;
    else this.silentSince ??= performance.now();
    if (this.silentSince !== null && performance.now() - this.silentSince > lostAfterMs) {
      this.logger.error('PostgreSQL or Redis has not answered for a minute');
      this.notice('lost_connection');
    }
  }

  private async writeSignOfLife(status: WorkerStatus = this.isPaused ? 'paused' : 'running'): Promise<void> {
    try {
      await this.workers.write({
        name: this.config.worker.name,
        startedAt: this.startedAt,
        queues: this.options.queues,
        status,
        running: this.running.size,
        concurrency: this.slots(),
        processed: this.processed,
        failed: this.failed,
      });
    } catch (error) {
      this.logger.debug({ err: error }, 'the sign of life was not written; the next one will be');
    }
  }
}

/** What a worker looks at first when several things speak for its end. */
const stopOrder: readonly StopReason[] = [
  'lost_connection',
  'signal',
  'timeout',
  'memory',
  'restart',
  'empty',
  'max_time',
  'max_jobs',
];
