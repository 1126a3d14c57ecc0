import type { INestApplicationContext } from '@nestjs/common';
import { type Job, Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import type { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { tcpProxy } from '../../setup/tcp-proxy.mjs';
import { FailedJobsService } from '../../src/queues/failed-jobs.service.js';
import type { JobContext, QueueProcessor } from '../../src/queues/job-runner.js';
import type { QueueName } from '../../src/queues/queue-policies.js';
import { REDIS } from '../../src/platform/queues/redis.js';
import { QueueStates } from '../../src/queues/queue-states.js';
import type { QueueWorker } from '../../src/queues/queue-worker.js';
import { QueuesService } from '../../src/queues/queues.service.js';
import {
  defaultWorkerOptions,
  type StopReason,
  type WorkerOptions,
} from '../../src/queues/worker-options.js';
import { WorkersService } from '../../src/queues/workers.service.js';
import { eventually } from '../support/eventually.js';
import { type QueueSystem, queueSystem, workerContext } from '../support/queues.js';

const all: QueueName[] = [
  'messaging',
  'campaign-stats',
  'whatsapp-urgent',
  'whatsapp-high',
  'whatsapp-normal',
  'whatsapp-campaign',
  'webhooks',
];

/** Does with a job what the test says, and remembers it. */
class Recorder implements QueueProcessor {
  readonly queues = all;
  readonly seen: string[] = [];
  does: (job: Job, context: JobContext) => Promise<unknown> = () => Promise.resolve();

  process(job: Job, context: JobContext): Promise<unknown> {
    this.seen.push(job.id!);
    return this.does(job, context);
  }
}

let system: QueueSystem;
let context: INestApplicationContext;
let worker: QueueWorker;
let database: DataSource;
let queues: QueuesService;
let recorder: Recorder;

beforeAll(async () => {
  system = await queueSystem(1);
});
afterAll(() => system?.drop());
beforeEach(async () => {
  recorder = new Recorder();
  await system.redis.flushdb();
  // One at a time: then the order can be seen.
  ({ context, worker, database } = await workerContext(withConcurrency(1), [recorder]));
  queues = context.get(QueuesService);
  await queues.assertReady();
  await database.query('truncate failed_jobs, workers, queues, worker_restarts');
});
afterEach(() => context.close());

function withConcurrency(concurrency: number) {
  return { ...system.config, worker: { ...system.config.worker, concurrency } };
}

async function put(queue: QueueName, ...ids: string[]): Promise<void> {
  for (const id of ids) expect(await queues.put([{ queue, id, data: { id } }])).toBe(true);
}

function work(options: Partial<WorkerOptions> = {}): Promise<StopReason> {
  return worker.work({ ...defaultWorkerOptions, sleepMs: 100, queues: all, ...options });
}

describe('a worker', () => {
  it('takes jobs in the order of its queues, and ends when they are empty', async () => {
    await put('whatsapp-campaign', 'c');
    await put('whatsapp-urgent', 'u1', 'u2');
    await put('messaging', 'm');
    expect(await work({ stopWhenEmpty: true })).toBe('empty');
    expect(recorder.seen).toEqual(['m', 'u1', 'u2', 'c']);
  });

  it('serves only the queues that it is given, in the order in which it is given them', async () => {
    await put('whatsapp-urgent', 'u');
    await put('whatsapp-high', 'h');
    await put('whatsapp-normal', 'n');
    await work({ queues: ['whatsapp-normal', 'whatsapp-urgent'], stopWhenEmpty: true });
    expect(recorder.seen).toEqual(['n', 'u']);
    expect((await queues.counts('whatsapp-high'))?.waiting).toBe(1);
  });

  it('with --once takes one job, and takes no job from an empty queue', async () => {
    await put('messaging', 'm1', 'm2');
    expect(await work({ once: true })).toBe('max_jobs');
    expect(recorder.seen).toEqual(['m1']);
  });

  it('ends without a job with once when nothing comes', async () => {
    expect(await work({ once: true })).toBe('empty');
  });

  it('never takes more jobs than its limit, also when more would fit at once', async () => {
    await context.close();
    ({ context, worker, database } = await workerContext(withConcurrency(8), [recorder]));
    queues = context.get(QueuesService);
    await queues.assertReady();
    await put('messaging', 'a', 'b', 'c', 'd', 'e');
    recorder.does = (_job, { hasJobLimit }) => Promise.resolve(expect(hasJobLimit).toBe(true));
    expect(await work({ maxJobs: 3 })).toBe('max_jobs');
    expect(recorder.seen).toHaveLength(3);
    expect(await context.get(FailedJobsService).count()).toEqual(new Map());
  });

  it('ends after its time', async () => {
    expect(await work({ maxTimeMs: 50 })).toBe('max_time');
  });

  it('ends when it needs more memory than it may', async () => {
    expect(await work({ maxMemoryBytes: 1 })).toBe('memory');
  });

  it('ends when a restart is asked for, not for one of the past', async () => {
    await context.get(QueueStates).requestRestart();
    const working = work();
    const workers = context.get(WorkersService);
    await eventually('it works', async () => (await workers.listAlive()).length === 1);
    await context.get(QueueStates).requestRestart();
    expect(await working).toBe('restart');
    expect(await workers.listAlive()).toEqual([]);
  });

  it('lets its job finish when it is stopped, and takes no other', async () => {
    await put('messaging', 'm1', 'm2');
    let finish!: () => void;
    recorder.does = () => new Promise<void>((resolve) => (finish = resolve));
    const working = work();
    await eventually('it is at its job', () => Promise.resolve(recorder.seen.length === 1));
    worker.stop();
    finish();
    expect(await working).toBe('signal');
    expect(recorder.seen).toEqual(['m1']);
    expect(await queues.counts('messaging')).toMatchObject({ waiting: 1, active: 0 });
  });

  it('leaves a paused queue alone, also a lane of it, and goes on when it is resumed', async () => {
    const states = context.get(QueueStates);
    await states.pause('whatsapp-high');
    await put('whatsapp-high', 'h');
    await put('whatsapp-normal', 'n');
    const served: (readonly QueueName[])[] = [];
    recorder.does = (_job, { servedQueues }) => Promise.resolve(served.push(servedQueues()));
    const working = work();
    await eventually('the other is served', () => Promise.resolve(recorder.seen.length === 1));
    expect(recorder.seen).toEqual(['n']);
    expect(served[0]).toEqual(all.filter((queue) => queue !== 'whatsapp-high'));
    await states.resume('whatsapp-high');
    await eventually('it is served', () => Promise.resolve(recorder.seen.length === 2));
    worker.stop();
    await working;
  });

  it('takes nothing while it is paused', async () => {
    const workers = context.get(WorkersService);
    worker.pause();
    const working = work();
    await put('messaging', 'm');
    await eventually('it says so', async () => (await workers.listAlive())[0]?.status === 'paused');
    expect(recorder.seen).toEqual([]);
    worker.continue();
    await eventually('it continues', () => Promise.resolve(recorder.seen.length === 1));
    worker.stop();
    await working;
  });
});

describe('jobs that take long', () => {
  /** Lets the jobs of messaging hang until they are told to finish, the oldest first. */
  async function hangMessaging(): Promise<(() => void)[]> {
    await context.close();
    ({ context, worker, database } = await workerContext(withConcurrency(8), [recorder]));
    queues = context.get(QueuesService);
    await queues.assertReady();
    const hanging: (() => void)[] = [];
    recorder.does = (job) =>
      job.id!.startsWith('m') ? new Promise<void>((resolve) => hanging.push(resolve)) : Promise.resolve();
    await put('messaging', ...Array.from({ length: 10 }, (_, number) => `m${number}`));
    return hanging;
  }

  it('of messaging leave slots to sends, although their queue comes first', async () => {
    const hanging = await hangMessaging();
    // What comes after a job has ended is not to wait until the worker looks again by itself.
    const working = work({ sleepMs: 20_000 });
    await eventually('a quarter of the slots is theirs', () => Promise.resolve(hanging.length === 2), 5_000);
    await put('whatsapp-campaign', 'c');
    await eventually('a send is run', () => Promise.resolve(recorder.seen.includes('c')), 5_000);
    expect(hanging).toHaveLength(2);
    hanging[0]!();
    await eventually('the next one has its slot', () => Promise.resolve(hanging.length === 3), 5_000);
    worker.stop();
    for (const finish of hanging) finish();
    await working;
    expect(recorder.seen).toEqual(['m0', 'm1', 'c', 'm2']);
  });

  it('of messaging get all slots of a worker that serves nothing else', async () => {
    const hanging = await hangMessaging();
    const working = work({ queues: ['messaging', 'campaign-stats'] });
    await eventually('all slots are theirs', () => Promise.resolve(hanging.length === 8));
    worker.stop();
    for (const finish of hanging) finish();
    await working;
  });
});

describe('a job that fails', () => {
  it('is tried again after its waits, and recorded once when its tries are used up', async () => {
    await put('messaging', 'm');
    const triedAt: number[] = [];
    recorder.does = () => {
      triedAt.push(performance.now());
      return Promise.reject(new Error('not today'));
    };
    const working = work({ policy: { attempts: 3, backoffMs: [100, 300] } });
    const [job] = await eventually('it has failed', async () => {
      const jobs = await context.get(FailedJobsService).list(10);
      return jobs.length > 0 && jobs;
    });
    worker.stop();
    await working;
    expect(job).toMatchObject({ queue: 'messaging', jobId: 'm', data: { id: 'm' }, attempts: 3 });
    expect(job!.exception).toContain('not today');
    expect(triedAt).toHaveLength(3);
    expect(triedAt[1]! - triedAt[0]!).toBeGreaterThanOrEqual(99);
    expect(triedAt[2]! - triedAt[1]!).toBeGreaterThanOrEqual(299);
    expect(await system.redis.exists('bull:messaging:m')).toBe(0);
  });

  it('is tried without end when its tries are 0', async () => {
    await put('messaging', 'm');
    recorder.does = () =>
      recorder.seen.length < 6 ? Promise.reject(new Error('not yet')) : Promise.resolve();
    const working = work({ policy: { attempts: 0, backoffMs: [1] } });
    await eventually('it succeeds at last', () => Promise.resolve(recorder.seen.length === 6));
    worker.stop();
    await working;
    expect(await context.get(FailedJobsService).list(1)).toEqual([]);
  });

  it('is not tried for ever when every try kills its worker', async () => {
    await put('messaging', 'm');
    // What a killed worker leaves behind: the job is active, and its lock runs out.
    const queue = queues.queue('messaging');
    await system.redis.lmove(queue.toKey('wait'), queue.toKey('active'), 'RIGHT', 'LEFT');
    await system.redis.hset(queue.toKey('m'), 'ats', 3);
    const working = work({ queues: ['messaging'], policy: { attempts: 3 } });
    const [job] = await eventually('it is recorded', async () => {
      const jobs = await context.get(FailedJobsService).list(10);
      return jobs.length > 0 && jobs;
    });
    worker.stop();
    await working;
    expect(job!.exception).toMatch(/^job\.tried_too_often: .*started 3 times/);
    expect(recorder.seen).toEqual([]);
  });

  it('of a lane leaves no record: its message is what counts', async () => {
    await put('whatsapp-normal', 'message-1');
    recorder.does = () => Promise.reject(new Error('PostgreSQL is away'));
    expect(await work({ stopWhenEmpty: true })).toBe('empty');
    expect(await context.get(FailedJobsService).list(1)).toEqual([]);
  });
});

describe('a job that runs past its time', () => {
  it('is recorded, and its worker ends when the others have finished', async () => {
    await context.close();
    ({ context, worker, database } = await workerContext(withConcurrency(2), [recorder]));
    queues = context.get(QueuesService);
    await queues.assertReady();
    let hangsSince = Infinity;
    let finish!: () => void;
    recorder.does = (job) =>
      job.id === 'hangs'
        ? new Promise(() => (hangsSince = performance.now()))
        : new Promise<void>((resolve) => (finish = resolve));
    const working = work({ queues: ['messaging'], policy: { timeoutMs: 2_000 } });
    await put('messaging', 'hangs');
    // The other begins later, and so has time left when this one has none.
    await eventually('some of its time is over', () => Promise.resolve(performance.now() - hangsSince > 500));
    await put('messaging', 'works', 'never taken');
    await eventually('both are taken', () => Promise.resolve(recorder.seen.length === 2));
    const [job] = await eventually('it is recorded', async () => {
      const jobs = await context.get(FailedJobsService).list(10);
      return jobs.length > 0 && jobs;
    });
    finish();
    expect(await working).toBe('timeout');
    expect(job).toMatchObject({ jobId: 'hangs', queue: 'messaging' });
    expect(job!.exception).toMatch(/^job\.timed_out: /);
    expect(recorder.seen).not.toContain('never taken');
    expect(await queues.counts('messaging')).toMatchObject({ waiting: 1, delayed: 0 });
  });
});

describe('a network that drops packets', () => {
  it('keeps a worker from its jobs for some seconds only', { timeout: 60_000 }, async () => {
    await context.close();
    const cable = await tcpProxy(system.config.redis.url);
    try {
      ({ context, worker, database } = await workerContext(
        { ...withConcurrency(1), redis: { ...system.config.redis, url: cable.url } },
        [recorder],
      ));
      const working = work({ sleepMs: 1_000 });
      const queue = new Queue('whatsapp-urgent', { connection: system.redis });
      await queue.add('u', {}, { jobId: 'before' });
      await eventually('it works', () => Promise.resolve(recorder.seen.includes('before')));
      // They bear as much silence as they do otherwise, but for a fifth of the time.
      const connections = [context.get<Redis>(REDIS), worker['sources']!['blockingConnection']];
      for (const { options } of connections) options.socketTimeout! /= 5;
      await queue.add('u', {}, { jobId: 'between' });
      await eventually('it works with them', () => recorder.seen.includes('between'));
      // Both connections of the worker are open and silent from now on, the one that waits for jobs too.
      cable.drop();
      await queue.add('u', {}, { jobId: 'meanwhile' });
      await eventually('it works again', () => Promise.resolve(recorder.seen.includes('meanwhile')), 20_000);
      worker.stop();
      expect(await working).toBe('signal');
      await queue.close();
    } finally {
      await context.close();
      await cable.close();
    }
  });
});

describe('campaigns', () => {
  it('get their share although others wait all the time, and strict order holds otherwise', async () => {
    await context.close();
    const config = withConcurrency(1);
    config.worker.campaignShare = 0.25;
    ({ context, worker, database } = await workerContext(config, [recorder]));
    queues = context.get(QueuesService);
    await queues.assertReady();
    await put('whatsapp-high', ...Array.from({ length: 8 }, (_, n) => `h${n}`));
    await put('whatsapp-campaign', 'c0', 'c1', 'c2');
    await work({ stopWhenEmpty: true });
    expect(recorder.seen).toEqual(['h0', 'h1', 'h2', 'c0', 'h3', 'h4', 'h5', 'c1', 'h6', 'h7', 'c2']);
  });
});
