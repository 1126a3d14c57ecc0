import { getQueueToken } from '@nestjs/bullmq';
import { Inject, Injectable } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import type { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { REDIS } from '../platform/queues/redis.js';
import type { QueueName } from './queue-policies.js';

/** A job to be added: its id makes adding it twice the same as adding it once. */
export interface JobHint {
  queue: QueueName;
  id: string;
  data: Record<string, unknown>;
}

/** Puts jobs into the queues. Redis only holds hints, so a put that fails is not an error: the sweep puts again. */
@Injectable()
export class QueuesService {
  private readonly queues = new Map<QueueName, Queue>();

  constructor(
    private readonly modules: ModuleRef,
    @Inject(REDIS) private readonly redis: Redis,
  ) {}

  /** The BullMQ queue of that name. */
  queue(name: QueueName): Queue {
    let queue = this.queues.get(name);
    if (!queue) {
      queue = this.modules.get<Queue>(getQueueToken(name), { strict: false });
      this.queues.set(name, queue);
    }
    return queue;
  }

  /**
   * Puts hints into their queues, one round trip a queue.
   * @returns whether Redis took them; when it did not, the sweep will find the work in PostgreSQL
   */
  async put(hints: JobHint[]): Promise<boolean> {
    // While Redis is away nothing is put, so that nothing piles up in this process.
    if (this.redis.status !== 'ready') return false;
    for (const [name, ofQueue] of groupBy(hints)) {
      const jobs = ofQueue.map((hint) => ({
        name: name as string,
        data: hint.data,
        opts: { jobId: hint.id, removeOnComplete: true, removeOnFail: true },
      }));
      const [first] = jobs;
      if (jobs.length === 1 && first) await this.queue(name).add(first.name, first.data, first.opts);
      else await this.queue(name).addBulk(jobs);
    }
    return true;
  }
}

function groupBy(hints: JobHint[]): Map<QueueName, JobHint[]> {
  const groups = new Map<QueueName, JobHint[]>();
  for (const hint of hints) {
    const group = groups.get(hint.queue);
    if (group) group.push(hint);
    else groups.set(hint.queue, [hint]);
  }
  return groups;
}
