import { Inject, Injectable } from '@nestjs/common';
import type { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { once } from 'node:events';
import { withDeadline } from '../platform/deadline.js';
import { Problem } from '../platform/errors/problem.js';
import { REDIS } from '../platform/queues/redis.js';
import type { QueueName } from './queue-policies.js';

/** A job to add. Because it has a fixed id, adding it twice is the same as adding it once. */
export interface JobHint {
  queue: QueueName;
  id: string;
  data: Record<string, unknown>;
  /** The name of the queue by default. */
  name?: string;
}

/** What Redis holds of one queue. */
export interface JobCounts {
  waiting: number;
  delayed: number;
  active: number;
  /** How long the first waiting job has waited, in seconds. */
  oldestSeconds: number;
}

export class RedisUnreachable extends Problem {
  constructor() {
    super(
      503,
      'redis.unreachable',
      'Redis does not answer. Check that Redis is running and that REDIS_URL is right, then try again.',
    );
  }
}

const timeoutMs = 1_000;

/** Injection token of the BullMQ queues by name. */
export const QUEUES = Symbol('QUEUES');

/** Puts jobs into the queues. Redis only holds hints, so a failed put is not an error: the sweep puts the job again. */
@Injectable()
export class QueuesService {
  constructor(
    @Inject(QUEUES) private readonly queues: ReadonlyMap<QueueName, Queue>,
    @Inject(REDIS) private readonly redis: Redis,
  ) {}

  /** The BullMQ queue with this name. */
  queue(name: QueueName): Queue {
    return this.queues.get(name)!;
  }

  /**
   * Puts hints into their queues, with one round trip per queue.
   * @returns whether Redis took them. If not, the sweep finds the work in PostgreSQL.
   */
  async put(hints: JobHint[]): Promise<boolean> {
    // Without a connection the commands would pile up in this process.
    if (this.redis.status !== 'ready') return false;
    for (const [queue, group] of groupByQueue(hints)) {
      const jobs = group.map(({ id, data, name = queue }) => ({
        name,
        data,
        opts: { jobId: id, removeOnComplete: true, removeOnFail: true },
      }));
      const [first] = jobs;
      if (jobs.length === 1 && first) await this.queue(queue).add(first.name, first.data, first.opts);
      else await this.queue(queue).addBulk(jobs);
    }
    return true;
  }

  /** What Redis holds of a queue. Null if Redis does not answer within a second. */
  async counts(name: QueueName): Promise<JobCounts | null> {
    return this.ask(async () => {
      const queue = this.queue(name);
      const [{ wait = 0, prioritized = 0, delayed = 0, active = 0 }, [oldest]] = await Promise.all([
        queue.getJobCounts('wait', 'prioritized', 'delayed', 'active'),
        queue.getJobs('wait', 0, 0, true),
      ]);
      const oldestSeconds = oldest ? Math.max(0, Math.round((Date.now() - oldest.timestamp) / 1_000)) : 0;
      return { waiting: wait + prioritized, delayed, active, oldestSeconds };
    });
  }

  /**
   * Removes the waiting jobs of a queue and the jobs that wait for a retry.
   * @returns the number of these jobs
   * @throws RedisUnreachable
   */
  async clear(name: QueueName): Promise<number> {
    const counts = await this.counts(name);
    if (!counts) throw new RedisUnreachable();
    await this.queue(name).drain(true);
    return counts.waiting + counts.delayed;
  }

  /** Waits until Redis is connected. @throws RedisUnreachable after a second */
  async assertReady(): Promise<void> {
    if (this.redis.status === 'ready') return;
    try {
      await once(this.redis, 'ready', { signal: AbortSignal.timeout(timeoutMs) });
    } catch {
      // The connection failed, or Redis did not answer in time. The connection logs which.
      throw new RedisUnreachable();
    }
  }

  /** Asks Redis only when it is connected: without a connection the commands would pile up in this process. */
  private async ask<Answer>(question: () => Promise<Answer>): Promise<Answer | null> {
    try {
      await this.assertReady();
      return await withDeadline(question(), timeoutMs, () => new RedisUnreachable());
    } catch {
      return null;
    }
  }
}

function groupByQueue(hints: JobHint[]): Map<QueueName, JobHint[]> {
  const groups = new Map<QueueName, JobHint[]>();
  for (const hint of hints) {
    const group = groups.get(hint.queue);
    if (group) group.push(hint);
    else groups.set(hint.queue, [hint]);
  }
  return groups;
}
