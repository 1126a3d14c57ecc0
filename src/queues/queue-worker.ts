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
import { isLaneQueue, queuePolicies, type QueueName } from './queue-policies.js';
import { QueueSources, type Source } from './queue-sources.js';
import { QueueStates, type WorkerControl } from './queue-states.js';
import { defaultWorkerOptions, type StopReason, type WorkerOptions } from './worker-options.js';
import { silentReport, type WorkerReport } from './worker-report.js';
import { WorkersService, type WorkerStatus } from './workers.service.js';

const renewMs = 1_500;
/** How often a worker reads the requests of operators and checks its memory. Every fifth poll writes a heartbeat. */
const pollMs = 1_000;
const pollsPerHeartbeat = 5;
/** A worker that cannot reach PostgreSQL or Redis for this time ends: a new process may reach them. */
const connectionTimeoutMs = 60_000;
const retryMs = 200;
/** After a job has timed out, the other jobs of its worker may run this long. */
const replaceGraceMs = 30_000;
/** Queues whose jobs may wait long for an answer. Jobs of `webhooks` wait in slots of their own; beside sends they end at once. */
const slowQueues: ReadonlySet<string> = new Set<QueueName>(['messaging', 'campaign-stats']);
/** The share of the slots for jobs of slow queues beside sends, at least one slot. The other slots stay free for sends. */
const slowShare = 0.25;

/**
 * Laravel's `queue:work` on BullMQ. One loop takes jobs in strict queue order: a job of a later queue starts only when every
 * earlier queue is empty or has used up its share of the slots. Up to `WORKER_CONCURRENCY` jobs run at the same time.
 */
@Injectable()
export class QueueWorker implements OnModuleDestroy {
  private options: WorkerOptions = defaultWorkerOptions;
  private report: WorkerReport = silentReport;
  private sources: QueueSources | null = null;
  private readonly running = new Map<Job, Promise<void>>();
  /** Slow queues with waiting jobs that have used up their share of the slots. */
  private queuesAtShare: ReadonlySet<QueueName> = new Set();
  private resting = 0;
  private taken = 0;
  private processed = 0;
  private failed = 0;
  private isPaused = false;
  /** Slots are free and every queue is empty. */
  private isWaitingForJobs = false;
  private control: WorkerControl = { restartRequested: null, paused: new Set() };
  private readonly startedAt = new Date();
  /** The reasons to stop. The loop ends when there is one. */
  private readonly stopReasons = new Set<StopReason>();
  private disconnectedSince: number | null = null;
  private wakeLoop: (() => void) | null = null;
  private stopped: Promise<StopReason> | null = null;
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

  /** Consumes queues until there is a reason to stop, then lets the running jobs finish. @returns the reason */
  work(options: WorkerOptions, report: WorkerReport = silentReport): Promise<StopReason> {
    this.options = options;
    this.report = report;
    this.stopped = this.runUntilStopped();
    return this.stopped;
  }

  /** Takes no more jobs, and ends after the running jobs. */
  stop(): void {
    this.requestStop('signal');
  }

  /** Takes no jobs until {@link continue} is called. The running jobs go on. */
  pause(): void {
    this.isPaused = true;
    this.logger.info('worker paused');
    void this.writeHeartbeat();
  }

  continue(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    this.logger.info('worker resumed');
    this.wakeLoop?.();
    void this.writeHeartbeat();
  }

  async onModuleDestroy(): Promise<void> {
    this.stop();
    await this.stopped;
  }

  private async runUntilStopped(): Promise<StopReason> {
    const { queues, sleepMs } = this.options;
    this.sources = new QueueSources(
      queues.map((name) => ({ name, processor: this.processorOf(name) })),
      sleepMs,
      this.redis,
      this.logger,
    );
    await this.sources.open();
    this.control = await this.states.readControl();
    await this.writeHeartbeat();
    const renewal = setInterval(() => this.renewLocks(), renewMs);
    const polling = this.startPolling(this.control.restartRequested);
    this.logger.info({ queues, concurrency: this.config.worker.concurrency }, 'worker started');
    const reason = await this.consume();
    this.logger.info({ reason, running: this.running.size }, 'worker stopping');
    await this.finishJobs(reason);
    clearInterval(renewal);
    polling.stop();
    await this.sources.close();
    await this.workers
      .remove(this.config.worker.name)
      .catch((error: unknown) =>
        this.logger.debug({ err: error }, 'could not remove the worker from the list'),
      );
    return reason;
  }

  private processorOf(queue: QueueName): QueueProcessor {
    const processor = this.processors.find(({ queues }) => queues.includes(queue));
    if (!processor) throw new Error(`No processor of this worker consumes the queue ${queue}.`);
    return processor;
  }

  private async consume(): Promise<StopReason> {
    const startedAt = performance.now();
    const { maxTimeMs, once, stopWhenEmpty, sleepMs } = this.options;
    let isEmpty = false;
    let waits = 0;
    for (;;) {
      const timeLeft = maxTimeMs === 0 ? Infinity : maxTimeMs - (performance.now() - startedAt);
      if (isEmpty) this.requestStop('empty');
      if (timeLeft <= 0) this.requestStop('max_time');
      if (this.jobsLeft() <= 0) this.requestStop('max_jobs');
      const reason = stopPriority.find((candidate) => this.stopReasons.has(candidate));
      if (reason) return reason;
      try {
        if (this.isPaused || this.freeSlots() <= 0) await this.waitForWakeUp(Math.min(pollMs, timeLeft));
        else if (await this.takeNext()) waits = 0;
        else if ((stopWhenEmpty && this.running.size === 0) || (once && waits > 0)) isEmpty = true;
        else {
          waits += 1;
          await this.waitForJobs(Math.min(sleepMs, timeLeft));
        }
      } catch (error) {
        if (this.stopReasons.size > 0) continue;
        this.logger.warn({ err: error }, 'could not take a job; retrying');
        await this.waitForWakeUp(retryMs);
      }
    }
  }

  /** Records a reason to stop, and wakes the loop. */
  private requestStop(reason: StopReason): void {
    this.stopReasons.add(reason);
    this.wakeLoop?.();
    this.sources?.interrupt();
    // Without Redis no command would end. The lost commands are only about hints, which the sweep puts again.
    if (this.redis.status !== 'ready') this.redis.disconnect();
  }

  private waitForWakeUp(ms: number): Promise<void> {
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

  /** How many more jobs of a queue may start within its share of the slots. */
  private remainingShare(queue: QueueName): number {
    if (!slowQueues.has(queue) || !this.options.queues.some(isLaneQueue)) return Infinity;
    const max = Math.max(1, Math.floor(this.slots() * slowShare));
    return max - [...this.running.keys()].filter(({ queueName }) => slowQueues.has(queueName)).length;
  }

  private servedSources(): Source[] {
    return this.sources!.all.filter(({ name }) => !this.control.paused.has(name));
  }

  /**
   * Takes jobs of the first queue that has jobs, at most one for each free slot. It takes jobs of this queue only, because it
   * must check the more urgent queues again before it takes more. A queue that has used up its share counts as empty.
   * @returns whether there was a job
   */
  private async takeNext(): Promise<boolean> {
    const served = this.servedSources();
    if (served.length === 0) return false;
    const waiting = await this.sources!.countWaiting(served);
    const order = this.campaigns.order(
      served.map(({ name }) => name),
      waiting,
    );
    const isWaiting = (name: QueueName) => (waiting.get(name) ?? 0) > 0;
    this.queuesAtShare = new Set(order.filter((name) => isWaiting(name) && this.remainingShare(name) <= 0));
    for (const name of order) {
      if (!isWaiting(name) || this.queuesAtShare.has(name)) continue;
      const source = served.find((candidate) => candidate.name === name)!;
      const wanted = Math.min(
        waiting.get(name)!,
        this.freeSlots(),
        this.remainingShare(name),
        this.campaigns.maxBatch(name, waiting),
      );
      const jobs = await Promise.all(
        Array.from({ length: wanted }, () => source.worker.getNextJob(this.token, { block: false })),
      );
      const taken = jobs.filter((job): job is Job => Boolean(job));
      for (const job of taken) this.running.set(job, this.runJob(job, source));
      this.taken += taken.length;
      this.campaigns.record(name, taken.length, waiting);
      // Without a job, another worker was faster: try the next queue.
      if (taken.length > 0) return true;
    }
    return false;
  }

  private async waitForJobs(ms: number): Promise<void> {
    const served = this.servedSources();
    this.isWaitingForJobs = true;
    try {
      if (served.length === 0) await this.waitForWakeUp(ms);
      else await this.sources!.waitForJobs(served, ms);
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
    // The loop may wait for a new job although this queue had a job all the time. Now there is a slot for it.
    if (this.queuesAtShare.size > 0 && slowQueues.has(name)) this.sources?.announce(source);
    // A job that hangs cannot be cancelled, so its process must end.
    if (outcome.kind === 'timed_out') this.requestStop('timeout');
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
      hasIdleSlot: () =>
        // A free slot is not enough: the next waiting job may take it in a moment.
        this.isWaitingForJobs && this.stopReasons.size === 0 && !this.isPaused,
      hasJobLimit: this.options.once || this.options.maxJobs > 0,
      servedQueues: () => this.options.queues.filter((name) => !this.control.paused.has(name)),
      policy: { ...queuePolicies[queue], ...this.options.policy },
    };
  }

  private async finishJobs(reason: StopReason): Promise<void> {
    // Each job ends: the runner fails a job that exceeds its timeout.
    const finished = Promise.all([
      ...this.running.values(),
      ...this.sources!.all.map(({ processor }) => processor.stop?.()),
    ]);
    await this.writeHeartbeat('stopping');
    if (reason !== 'timeout') {
      await finished;
      return;
    }
    try {
      await withDeadline(finished, replaceGraceMs, () => new Error(`not within ${replaceGraceMs} ms`));
    } catch (error) {
      this.logger.error(
        { err: error, running: this.running.size },
        'jobs did not finish; other workers take over',
      );
    }
  }

  private renewLocks(): void {
    for (const job of this.running.keys()) this.sources?.renewLock(job, this.token);
  }

  /**
   * Polls the requests of operators once a second. A slow poll delays the next one.
   * @param knownRestart the restart request that this process has answered by starting
   */
  private startPolling(knownRestart: string | null): { stop(): void } {
    let polls = 0;
    let isPolling = false;
    const poll = async () => {
      if (isPolling) return;
      isPolling = true;
      const { maxMemoryBytes } = this.options;
      if (maxMemoryBytes > 0 && process.memoryUsage.rss() > maxMemoryBytes) this.requestStop('memory');
      try {
        this.control = await this.states.readControl();
        if (this.control.restartRequested !== knownRestart) this.requestStop('restart');
        polls += 1;
        if (polls % pollsPerHeartbeat === 0) await this.writeHeartbeat();
        this.recordConnections(this.redis.status === 'ready');
      } catch (error) {
        this.logger.debug({ err: error }, 'PostgreSQL does not answer the worker');
        this.recordConnections(false);
      }
      isPolling = false;
    };
    const timer = setInterval(() => void poll(), pollMs);
    return { stop: () => clearInterval(timer) };
  }

  /** @param areUp whether both PostgreSQL and Redis answer */
  private recordConnections(areUp: boolean): void {
    if (areUp) this.disconnectedSince = null;
    else this.disconnectedSince ??= performance.now();
    if (this.disconnectedSince !== null && performance.now() - this.disconnectedSince > connectionTimeoutMs) {
      this.logger.error('PostgreSQL or Redis has not answered for a minute');
      this.requestStop('lost_connection');
    }
  }

  private async writeHeartbeat(status: WorkerStatus = this.isPaused ? 'paused' : 'running'): Promise<void> {
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
      this.logger.debug({ err: error }, 'could not write the heartbeat; the next one will follow');
    }
  }
}

/** If there are several reasons to stop, the worker reports the first of this list. */
const stopPriority: readonly StopReason[] = [
  'lost_connection',
  'signal',
  'timeout',
  'memory',
  'restart',
  'empty',
  'max_time',
  'max_jobs',
];
