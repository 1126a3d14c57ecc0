import { createServer, type Server } from 'node:net';
import type { AddressInfo } from 'node:net';
import { Queue } from 'bullmq';
import { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { dataSourceOptions } from '../../src/platform/database/data-source.js';
import { FailedJobsService } from '../../src/queues/failed-jobs.service.js';
import { FailedJobsTask } from '../../src/queues/failed-jobs.task.js';
import { insertAccount, insertInstance, insertServer, insertWorkspace, ready } from '../support/factories.js';
import { eventually } from '../support/eventually.js';
import { Cli, type Ended, runCli, runCommand } from '../support/commands.js';
import { type QueueSystem, queueSystem } from '../support/queues.js';

// Each command starts a process of its own.
vi.setConfig({ testTimeout: 60_000 });

/** The commands as users type them, on a real PostgreSQL and Redis. */
let system: QueueSystem;
let database: DataSource;
let accountId: string;
let workspaceId: string;
const queues: Queue[] = [];

beforeAll(async () => {
  system = await queueSystem(2);
  database = new DataSource(dataSourceOptions(system.config));
  await database.initialize();
});
afterAll(async () => {
  await Promise.all(queues.map((queue) => queue.close()));
  await database?.destroy();
  await system?.drop();
});
beforeEach(async () => {
  await system.redis.flushdb();
  await database.query('truncate workspaces, failed_jobs, workers, queues, worker_restarts cascade');
  workspaceId = await insertWorkspace(database);
  accountId = await insertAccount(database, workspaceId, ready);
});

/** Runs a command; a worker, which has signals and memory to itself, as a process of its own. */
function flotilla(...args: string[]): Promise<Ended> {
  const run = args[0] === 'queue:work' && !args.includes('--help') ? runCli : runCommand;
  return run(args, system.env);
}

/** A worker that runs until it is stopped. */
async function startWorker(args: string[] = [], env: NodeJS.ProcessEnv = {}): Promise<Cli> {
  const worker = new Cli(['queue:work', '--name', 'w', ...args], { ...system.env, ...env });
  await eventually('the worker works', async () => {
    const [row] = await database.query('select status from workers where pid = $1', [worker.pid]);
    return row?.status === 'running';
  });
  return worker;
}

/** Jobs of messages that no longer exist: they have no work. */
async function put(name: string, ...ids: string[]): Promise<Queue> {
  const queue = new Queue(name, { connection: system.redis });
  queues.push(queue);
  for (const id of ids) await queue.add(name, { id: uuidv7() }, { jobId: id, removeOnComplete: true });
  return queue;
}

async function insertMessages(count: number, status: string, priority = 0): Promise<string[]> {
  const ids = Array.from({ length: count }, () => uuidv7());
  await database.query(
    `insert into messages (id, workspace_id, account_id, direction, priority, type, chat_id, recipient, text, status, whatsapp_id,
       scheduled_for)
     select id, $2, $3, 'outgoing', $4, 'text', '1@c.us', '1', 'a secret text', $5, id::text,
       case when $5 = 'scheduled' then now() + interval '1 hour' end
     from unnest($1::uuid[]) as id`,
    [ids, workspaceId, accountId, priority, status],
  );
  return ids;
}

async function statuses(): Promise<Record<string, number>> {
  const rows: { status: string; count: number }[] = await database.query(
    'select status, count(*)::int as count from messages group by status',
  );
  return Object.fromEntries(rows.map(({ status, count }) => [status, count]));
}

async function fail(id: string, status: 'failed' | 'unknown', code: string): Promise<void> {
  await database.query(
    `update messages set status = $2, error_code = $3, error_message = 'Because.', attempts = 2 where id = $1`,
    [id, status, code],
  );
}

describe('queue:work', () => {
  it('prints its jobs in the order of its queues, and ends with 0 when nothing waits', async () => {
    await put('whatsapp-campaign', 'message-c');
    await put('whatsapp-urgent', 'message-u');
    const { code, stdout, stderr } = await flotilla(
      'queue:work',
      '--queue=messaging,campaign-stats,whatsapp-urgent,whatsapp-high,whatsapp-normal,whatsapp-campaign',
      '--tries=3',
      '--timeout=300',
      '--stop-when-empty',
    );
    expect([code, stderr]).toEqual([0, '']);
    const lines = stdout.trim().split('\n');
    expect(lines[0]).toContain('Processing jobs from messaging, campaign-stats, whatsapp-urgent');
    const time = String.raw`\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]`;
    expect(lines[1]).toMatch(new RegExp(String.raw`^${time}\[message-u\] Processing: whatsapp-urgent$`));
    expect(
      lines
        .slice(1)
        .map((line) => line.slice(21).replace(/\(\d+ ms\)/, '(… ms)'))
        .sort(),
    ).toEqual([
      '[message-c] Processed:  whatsapp-campaign (… ms)',
      '[message-c] Processing: whatsapp-campaign',
      '[message-u] Processed:  whatsapp-urgent (… ms)',
      '[message-u] Processing: whatsapp-urgent',
    ]);
  });

  it('prints one JSON object per line with --json, nothing with --quiet, and nothing under supervisord', async () => {
    await put('whatsapp-high', 'message-1', 'message-2', 'message-3', 'message-4');
    const { code, stdout } = await flotilla('queue:work', '--once', '--json');
    expect(code).toBe(0);
    const [starting, done] = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as object);
    expect(starting).toEqual({
      level: 'info',
      id: 'message-1',
      queue: 'whatsapp-high',
      job: 'whatsapp-high',
      status: 'starting',
      attempts: 1,
      timestamp: expect.any(String),
    });
    expect(done).toMatchObject({ status: 'success', result: 'deleted', durationMs: expect.any(Number) });
    expect(done).toMatchObject({ duration: expect.any(Number) });
    expect((await flotilla('queue:work', '--once', '--quiet')).stdout).toBe('');
    const supervised = { ...system.env, SUPERVISOR_ENABLED: '1', LOG_LEVEL: 'warn' };
    expect((await runCli(['queue:work', '--once'], supervised)).stdout).toBe('');
    const asked = await runCli(['queue:work', '--once', '-v'], supervised);
    expect(asked.stdout).toContain('Processed: ');
  });

  it.each([['SIGTERM'], ['SIGINT'], ['SIGQUIT']] as const)('ends with 0 on %s', async (signal) => {
    const worker = await startWorker();
    worker.signal(signal);
    expect(await worker.ended).toMatchObject({ code: 0, signal: null });
    expect(await database.query('select name from workers')).toEqual([]);
  });

  it('pauses on SIGUSR2 and resumes on SIGCONT, and queue:status shows it', async () => {
    expect((await flotilla('queue:status')).code).toBe(2);
    const worker = await startWorker();
    const running = await flotilla('queue:status');
    expect([running.code, running.stdout]).toEqual([0, expect.stringContaining(`${worker.pid}`)]);
    expect(running.stdout).not.toContain('No worker serves');
    worker.signal('SIGUSR2');
    await eventually('it is paused', async () => (await flotilla('queue:status')).code === 1);
    const queue = await put('whatsapp-normal', 'message-1');
    const { status, workers } = JSON.parse((await flotilla('queue:status', '--json')).stdout) as {
      status: string;
      workers: { pid: number }[];
    };
    expect([status, workers[0]?.pid]).toEqual(['paused', worker.pid]);
    expect(await queue.getWaitingCount()).toBe(1);
    worker.signal('SIGCONT');
    await eventually('it is done', async () => (await queue.getWaitingCount()) === 0);
    worker.signal('SIGTERM');
    expect((await worker.ended).code).toBe(0);
  });

  it('serves some queues only: queue:status names the other queues', async () => {
    const worker = await startWorker(['--queue=messaging,whatsapp-urgent,whatsapp-high,whatsapp-normal']);
    const { code, stdout } = await flotilla('queue:status');
    expect(code).toBe(0);
    expect(stdout).toMatch(/No worker serves: .*webhooks/);
    expect(stdout).toContain('whatsapp-campaign');
    worker.signal('SIGTERM');
    await worker.ended;
  });

  it('ends with 12 when it uses more memory than its limit', async () => {
    expect((await flotilla('queue:work', '--memory=10')).code).toBe(12);
  });

  it('ends with 0 after its jobs, after its time, and for queue:restart', async () => {
    const queue = await put('whatsapp-normal', 'message-1', 'message-2', 'message-3');
    expect((await flotilla('queue:work', '--max-jobs=2')).code).toBe(0);
    expect(await queue.getWaitingCount()).toBe(1);
    expect((await flotilla('queue:work', '--max-time=1')).code).toBe(0);
    const worker = await startWorker();
    expect((await flotilla('queue:restart')).code).toBe(0);
    expect((await worker.ended).code).toBe(0);
  });

  it('rests after each job with --rest', async () => {
    await put('whatsapp-normal', 'message-1', 'message-2');
    const { stdout } = await runCli(['queue:work', '--rest=2', '--max-jobs=2', '--json'], {
      ...system.env,
      WORKER_CONCURRENCY: '1',
    });
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { status: string; timestamp: string });
    expect(lines.map(({ status }) => status)).toEqual(['starting', 'success', 'starting', 'success']);
    const [, done, next] = lines.map(({ timestamp }) => Date.parse(timestamp));
    expect(next! - done!).toBeGreaterThan(1_950);
  });

  it('ends with 1 when a job times out, and the message stays', async () => {
    // An instance that takes the call and never answers.
    const deaf: Server = createServer(() => undefined);
    await new Promise<void>((resolve) => deaf.listen(0, '127.0.0.1', resolve));
    try {
      const { port } = deaf.address() as AddressInfo;
      await insertServer(database, 'server');
      await insertInstance(database, 'server.i', { url: `http://127.0.0.1:${port}` });
      await database.query(`update accounts set instance_id = 'server.i' where id = $1`, [accountId]);
      const [id] = await insertMessages(1, 'queued', 1);
      const queue = new Queue('whatsapp-normal', { connection: system.redis });
      queues.push(queue);
      await queue.add('whatsapp-normal', { id }, { jobId: `message-${id}` });
      const { code, stdout } = await flotilla('queue:work', '--timeout=1');
      expect(code).toBe(1);
      expect(stdout).toContain('Failed:     whatsapp-normal');
      expect(await statuses()).toEqual({ queued: 1 });
      const [failed] = JSON.parse((await flotilla('queue:failed', '--json')).stdout) as object[];
      expect(failed).toMatchObject({
        id,
        messageId: id,
        exception: expect.stringMatching(/^job\.timed_out: /),
      });
      // The record is useful until the message has moved on.
      const task = new FailedJobsTask(new FailedJobsService(database));
      await task.run();
      expect((await flotilla('queue:failed')).stdout).toContain(id!);
      await database.query(`update messages set status = 'sent' where id = $1`, [id]);
      await task.run();
      expect((await flotilla('queue:failed')).stdout).toBe('No failed jobs.\n');
    } finally {
      deaf.close();
    }
  });

  it.each([
    [['--queue=whatsapp-urgnt'], 'There is no queue "whatsapp-urgnt". The queues are messaging,'],
    [['--tries=three'], 'It must be a whole number from 0 to'],
    [['--backoff=1,x'], 'It must be a number of seconds from 0 to'],
    [['--name=a b'], 'Use 1 to 100 letters'],
    [['--tris=3'], '--tries'],
  ])('refuses %j, and says what would be right', async (args, cure) => {
    const { code, stderr } = await flotilla('queue:work', ...args);
    expect(code).toBe(1);
    expect(stderr).toContain(cure);
  });

  it('has examples in its help', async () => {
    const { code, stdout } = await flotilla('queue:work', '--help');
    expect([code, stdout]).toEqual([0, expect.stringContaining('--tries=3 --timeout=300')]);
  });
});

describe('queue:pause and queue:resume', () => {
  it('stop and start the serving of a queue, also after a flush of Redis', async () => {
    expect((await flotilla('queue:pause', 'whatsapp-high')).code).toBe(0);
    await system.redis.flushdb();
    const queue = await put('whatsapp-high', 'message-1');
    expect((await flotilla('queue:work', '--stop-when-empty')).code).toBe(0);
    expect(await queue.getWaitingCount()).toBe(1);
    expect((await flotilla('queue:resume', 'whatsapp-high')).code).toBe(0);
    await flotilla('queue:work', '--stop-when-empty');
    expect(await queue.getWaitingCount()).toBe(0);
  });

  it('know the queues', async () => {
    const { code, stderr } = await flotilla('queue:pause', 'emails');
    expect([code, stderr]).toEqual([1, expect.stringContaining('The queues are messaging')]);
  });
});

describe('failed jobs', () => {
  it('include the messages that are failed or unknown, until they move on', async () => {
    expect((await flotilla('queue:failed')).stdout).toBe('No failed jobs.\n');
    const [refused] = await insertMessages(1, 'sending', 2);
    const [lost] = await insertMessages(1, 'queued', 0);
    await fail(refused!, 'failed', 'whatsapp.refused');
    await fail(lost!, 'unknown', 'send.failed');
    const { stdout } = await flotilla('queue:failed');
    for (const text of [refused!, lost!, 'whatsapp.refused: Because.', 'send.failed: Because.']) {
      expect(stdout).toContain(text);
    }
    expect(stdout).not.toContain('a secret text');
    const ofHigh = JSON.parse(
      (await flotilla('queue:failed', '--queue=whatsapp-high', '--json')).stdout,
    ) as object[];
    expect(ofHigh).toEqual([
      expect.objectContaining({
        id: refused,
        queue: 'whatsapp-high',
        attempts: 2,
        messageId: refused,
        workspaceId,
      }),
    ]);
    await database.query(`update messages set status = 'sent' where id = $1`, [lost]);
    expect((await flotilla('queue:failed')).stdout).not.toContain(lost!);
  });

  it('are shown in pages, with a hint that there are more', async () => {
    for (const id of await insertMessages(3, 'queued')) await fail(id, 'failed', 'x');
    const { stdout, stderr } = await flotilla('queue:failed', '--limit=2');
    expect(stdout.match(/whatsapp-campaign/g)).toHaveLength(2);
    expect(stderr).toContain('There are more.');
  });

  it('are sent again by queue:retry: by id, or all of a queue', async () => {
    const [first, second] = await insertMessages(2, 'queued');
    const [other] = await insertMessages(1, 'queued', 1);
    for (const id of [first!, second!, other!]) await fail(id, 'failed', 'whatsapp.refused');
    const before = await database.query('select whatsapp_id from messages where id = $1', [first]);
    expect((await flotilla('queue:retry', first!)).stdout).toContain(`${first}  queued again`);
    expect(await database.query('select whatsapp_id from messages where id = $1', [first])).not.toEqual(
      before,
    );
    expect(await statuses()).toEqual({ queued: 1, failed: 2 });
    expect((await flotilla('queue:retry')).stderr).toContain('Name what to retry');
    await flotilla('queue:retry', '--queue=whatsapp-campaign');
    expect(await statuses()).toEqual({ queued: 2, failed: 1 });
    await flotilla('queue:retry', 'all');
    expect(await statuses()).toEqual({ queued: 3 });
    expect((await flotilla('queue:retry', 'all')).stdout).toBe('No failed jobs.\n');
  });

  it('of other queues are put back into their queues', async () => {
    const id = uuidv7();
    await database.query(
      `insert into failed_jobs (id, queue, job_id, name, data, exception, attempts) values ($1, 'messaging', 'ack-1', 'ack', '{"id": 7}', 'x', 3)`,
      [id],
    );
    expect((await flotilla('queue:retry', id)).code).toBe(0);
    const queue = new Queue('messaging', { connection: system.redis });
    queues.push(queue);
    expect(await queue.getJob('ack-1')).toMatchObject({ name: 'ack', data: { id: 7 } });
    expect((await flotilla('queue:failed')).stdout).toBe('No failed jobs.\n');
  });

  it('are not lost when Redis does not run', async () => {
    const id = uuidv7();
    await database.query(
      `insert into failed_jobs (id, queue, job_id, name, data, exception, attempts) values ($1, 'messaging', 'ack-1', 'ack', '{}', 'x', 3)`,
      [id],
    );
    const { code, stderr } = await runCli(['queue:retry', id], {
      ...system.env,
      REDIS_URL: 'redis://127.0.0.1:1',
    });
    expect([code, stderr]).toEqual([1, expect.stringContaining('Redis does not answer')]);
    expect((await flotilla('queue:failed')).stdout).toContain(id);
  });

  it('are forgotten by id, by age, and all at once', async () => {
    const ids = await insertMessages(4, 'queued');
    for (const id of ids) await fail(id, 'failed', 'x');
    expect((await flotilla('queue:forget', ids[0]!)).code).toBe(0);
    const again = await flotilla('queue:forget', ids[0]!);
    expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('queue:failed')]);
    await database.query(`update failed_jobs set failed_at = now() - interval '25 hours' where id = $1`, [
      ids[1],
    ]);
    expect((await flotilla('queue:prune-failed')).stdout).toBe('1 failed jobs are forgotten.\n');
    expect((await flotilla('queue:flush', '--hours=1')).stdout).toBe('No failed jobs to forget.\n');
    expect((await flotilla('queue:flush')).stdout).toBe('2 failed jobs are forgotten.\n');
    expect(await statuses()).toEqual({ failed: 4 });
  });
});

describe('queue:clear', () => {
  it('cancels the waiting messages of a queue, in batches, and nothing else', async () => {
    await insertMessages(4_500, 'queued');
    await insertMessages(2_500, 'scheduled');
    const [tried] = await insertMessages(1, 'queued');
    await database.query('update messages set attempts = 1 where id = $1', [tried]);
    await insertMessages(3, 'queued', 1);
    await insertMessages(1, 'sending');
    const refused = await flotilla('queue:clear', 'whatsapp-campaign');
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('--force')]);
    const { code, stdout } = await flotilla('queue:clear', '--queue=whatsapp-campaign', '--force');
    expect([code, stdout]).toEqual([0, 'whatsapp-campaign is cleared: 7000 messages cancelled.\n']);
    expect(await statuses()).toEqual({ cancelled: 7_000, queued: 4, sending: 1 });
    const again = await flotilla('queue:clear', 'whatsapp-campaign', '--force');
    expect(again.stdout).toBe('Nothing waits in whatsapp-campaign.\n');
  });

  it('removes the jobs of a queue that is not a lane queue', async () => {
    const queue = await put('messaging', 'ack-1', 'ack-2');
    expect((await flotilla('queue:clear', 'messaging', '--force')).stdout).toContain('2 jobs removed');
    expect(await queue.getWaitingCount()).toBe(0);
  });

  it('refuses webhooks, because the sweep would put the jobs again from PostgreSQL', async () => {
    const { code, stdout, stderr } = await flotilla('queue:clear', 'webhooks', '--force');
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toContain('queue:pause webhooks');
  });

  it('needs the name of a queue', async () => {
    const { code, stderr } = await flotilla('queue:clear', '--force');
    expect([code, stderr]).toEqual([1, expect.stringContaining('Name the queue to clear: messaging')]);
  });
});

describe('queue:monitor', () => {
  it('counts in PostgreSQL, and marks the queues that are too long', async () => {
    await insertMessages(3, 'queued');
    await insertMessages(2, 'scheduled');
    await database.query(`update messages set created_at = now() - interval '90 seconds'`);
    const { code, stdout } = await flotilla(
      'queue:monitor',
      'whatsapp-campaign,whatsapp-high',
      '--max=2',
      '--json',
    );
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual([
      {
        name: 'whatsapp-campaign',
        waiting: 3,
        delayed: 2,
        active: 0,
        failed: 0,
        oldestSeconds: expect.any(Number),
        backlog: 5,
        pausedAt: null,
        status: 'ALERT',
      },
      expect.objectContaining({ name: 'whatsapp-high', waiting: 0, oldestSeconds: 0, status: 'OK' }),
    ]);
    const table = await flotilla('queue:monitor', '--max=2', '--fail');
    expect([table.code, table.stdout]).toEqual([1, expect.stringContaining('ALERT')]);
    expect((await flotilla('queue:monitor', '--max=3', '--fail')).code).toBe(0);
    expect((await flotilla('queue:monitor', '--max-wait=60', '--fail')).code).toBe(1);
    // Each message has waited since it was due.
    for (const change of [
      `scheduled_for = now()`,
      `scheduled_for = null, resends = 1, next_attempt_at = now()`,
    ]) {
      await database.query(`update messages set ${change} where status = 'queued'`);
      expect((await flotilla('queue:monitor', '--max-wait=60', '--fail')).code).toBe(0);
    }
  });
});

describe('a command', () => {
  it('names the cure when PostgreSQL does not run, or its schema is old', async () => {
    const away = await runCli(['queue:failed'], {
      ...system.env,
      DATABASE_URL: 'postgresql://x:y@127.0.0.1:1/x',
    });
    expect([away.code, away.stderr]).toEqual([1, expect.stringContaining('is DATABASE_URL right?')]);
    const old = await queueSystem(3);
    const previous = new DataSource(dataSourceOptions(old.config));
    await previous.initialize();
    await previous.query('drop table failed_jobs cascade');
    await previous.destroy();
    const { code, stderr } = await runCli(['queue:failed'], old.env);
    await old.drop();
    expect([code, stderr]).toEqual([1, expect.stringContaining('run flotilla migrate')]);
  });
});
