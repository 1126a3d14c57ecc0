import { type BeforeApplicationShutdown, Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { priorities, queueOf } from '../messages/message.entity.js';
import { asPlatform } from '../platform/context.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { FailedJobsService } from '../queues/failed-jobs.service.js';
import { isLaneQueue, type QueueName, queueNames } from '../queues/queue-policies.js';
import { QueueStates } from '../queues/queue-states.js';
import { type JobCounts, QueuesService } from '../queues/queues.service.js';
import { WebhookDeliveriesService } from '../webhooks/webhook-deliveries.service.js';
import type { QueueBacklog } from './backlog.dto.js';

/** Counting more messages than this takes longer than a caller should wait: a million take about 0.2 s. */
const manyMessages = 50_000;
/** How long a count of many messages is as good as a new one, in milliseconds. */
const freshMs = 2_000;
/** How long it is shown at all. */
const keptMs = 60_000;
/** How often the API counts although nobody asks, so that no caller waits for a count of many messages. */
const regularMs = 45_000;

interface Counted {
  lanes: Map<QueueName, JobCounts>;
  at: number;
  isLarge: boolean;
}

/** Reads the backlog of every queue. */
@Injectable()
export class BacklogService implements BeforeApplicationShutdown {
  private known: Counted | null = null;
  /** The count that runs in the background. */
  private counting: Promise<Counted> | null = null;
  private again: NodeJS.Timeout | undefined;
  private isStopped = false;

  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly queues: QueuesService,
    private readonly states: QueueStates,
    private readonly failedJobs: FailedJobsService,
    private readonly webhooks: WebhookDeliveriesService,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  async beforeApplicationShutdown(): Promise<void> {
    this.isStopped = true;
    clearTimeout(this.again);
    await this.counting?.catch(() => undefined);
  }

  /** Counts now, and from now on regularly. */
  async countRegularly(): Promise<void> {
    await this.countBehind();
    if (!this.isStopped) this.again = setTimeout(() => void this.countRegularly(), regularMs).unref();
  }

  /**
   * Every queue, in the order in which workers serve them. Above {@link manyMessages}, the numbers of the lanes may be up to a minute
   * old.
   */
  async read(): Promise<QueueBacklog[]> {
    // Redis holds only hints of the other queues.
    const redisQueues: readonly QueueName[] = queueNames.filter(
      (name) => !isLaneQueue(name) && name !== 'webhooks',
    );
    const [lanes, webhooks, paused, failed, ...counts] = await Promise.all([
      this.lanes(),
      this.webhooks.backlog(),
      this.states.pausedSince(),
      this.failedJobs.count(),
      ...redisQueues.map((name) => this.queues.counts(name)),
    ]);
    const inDatabase = new Map([...lanes, ['webhooks', webhooks] as const]);
    return queueNames.map((name) => {
      const known = redisQueues.includes(name)
        ? counts[redisQueues.indexOf(name)]!
        : (inDatabase.get(name) ?? noJobs);
      return {
        name,
        waiting: known?.waiting ?? null,
        delayed: known?.delayed ?? null,
        active: known?.active ?? null,
        failed: (failed.get(name) ?? 0) + (name === 'webhooks' ? webhooks.dead : 0),
        oldestSeconds: known?.oldestSeconds ?? null,
        backlog: known ? known.waiting + known.delayed + known.active : null,
        pausedAt: paused.get(name)?.toISOString() ?? null,
      };
    });
  }

  /** The lanes: counted now, or with many messages as they were counted a moment ago, so that no caller waits for the count. */
  private async lanes(): Promise<Map<QueueName, JobCounts>> {
    const known = this.known;
    const age = performance.now() - (known?.at ?? 0);
    if (!known?.isLarge || age > keptMs) return (await this.count()).lanes;
    if (age > freshMs) void this.countBehind();
    return known.lanes;
  }

  private async countBehind(): Promise<void> {
    try {
      // The count is not a part of the request that happens to start it.
      await asPlatform(() => (this.counting ??= this.count().finally(() => (this.counting = null))));
    } catch (error) {
      this.logger.warn({ err: error }, 'the backlog cannot be counted');
    }
  }

  private async count(): Promise<Counted> {
    const lanes = await this.readLanes();
    const total = [...lanes.values()].reduce((sum, { waiting, delayed }) => sum + waiting + delayed, 0);
    return (this.known = { lanes, at: performance.now(), isLarge: total > manyMessages });
  }

  /**
   * Reads each part from its own index, without reading rows. The oldest message of a priority is the oldest of the first
   * messages of its lanes. It has waited since it was accepted, since its scheduled time, or since it was put up for a resend.
   */
  private async readLanes(): Promise<Map<QueueName, JobCounts>> {
    const rows: ({ priority: number } & JobCounts)[] = await this.database.query(
      `select wanted.priority, coalesce(queued.count, 0)::int as waiting, coalesce(scheduled.count, 0)::int as delayed,
         coalesce(sending.count, 0)::int as active,
         greatest(0, round(extract(epoch from now() - oldest.due_since)))::int as "oldestSeconds"
       from generate_series(0, ${priorities.length - 1}) as wanted (priority)
       left join (select priority, count(*) from messages where stage = 'queued' group by priority) queued using (priority)
       left join (select priority, count(*) from messages where stage = 'scheduled' group by priority) scheduled using (priority)
       left join (select priority, count(*) from messages where stage = 'sending' group by priority) sending using (priority)
       left join lateral (select min(first.due_since) as due_since from accounts a
         cross join lateral (select case when m.resends > 0 then m.next_attempt_at
             else greatest(m.created_at, m.scheduled_for) end as due_since from messages m
           where m.account_id = a.id and m.stage = 'queued' and m.priority = wanted.priority order by m.seq limit 1) first
       ) oldest on queued.count > 0`,
    );
    return new Map(
      rows.map(({ priority, ...counts }) => [
        queueOf(priority),
        { ...counts, oldestSeconds: counts.oldestSeconds ?? 0 },
      ]),
    );
  }
}

const noJobs: JobCounts = { waiting: 0, delayed: 0, active: 0, oldestSeconds: 0 };
