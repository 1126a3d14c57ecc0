import { DataSource } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Server } from '../../src/instances/server.entity.js';
import { ServersService } from '../../src/instances/servers.service.js';
import {
  type InstanceReading,
  MachineCpu,
  SendMeter,
  StatsSampler,
} from '../../src/instances/stats-sampler.js';
import { StatsService } from '../../src/instances/stats.service.js';
import type { Config } from '../../src/platform/config/config.js';
import { dataSourceOptions } from '../../src/platform/database/data-source.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import { eventually } from '../support/eventually.js';
import { scratchDatabase } from '../support/scratch-database.js';

let config: Config;
let drop: () => Promise<void>;
let database: DataSource;

beforeAll(async () => {
  ({ config, drop } = await scratchDatabase());
  database = new DataSource({ ...dataSourceOptions(config), entities: [Server] });
  await database.initialize();
});
afterAll(async () => {
  await database?.destroy();
  await drop?.();
});
beforeEach(() => database.query('truncate servers, server_logs, server_stats cascade'));

/** A server whose environment sets only its name. */
const server = { id: 'server-1' } as Config['server'];

/** The registry in a process with these settings of its server. */
function registry(settings: Partial<Config['server']> = {}): ServersService {
  const instance = { ...config.instance, count: 4, maxAccounts: 25 };
  return new ServersService(database.getRepository(Server), database, {
    ...config,
    instance,
    server: { ...server, ...settings },
  });
}

describe('a server registers itself', () => {
  it('with defaults for everything that its environment leaves out', async () => {
    await registry().register();
    expect(await registry().get('server-1')).toMatchObject({
      name: 'server-1',
      url: null,
      type: 'vps',
      environment: 'production',
      tags: [],
      maxCapacity: 100,
      priority: 0,
      weight: 1,
      isEnabled: true,
      isHealthy: true,
    });
  });

  it('and changes only the fields of its environment: an operator may have set the others', async () => {
    await registry({ name: 'One', tags: ['a'] }).register();
    await registry().update('server-1', { maxCapacity: 7, region: 'SG', isEnabled: false });
    await database.query('update servers set is_healthy = false, health_check_failures = 3');
    await registry({ priority: 5, tags: [] }).register();
    expect(await registry().get('server-1')).toMatchObject({
      name: 'One',
      tags: [],
      maxCapacity: 7,
      region: 'SG',
      priority: 5,
      isEnabled: false,
      isHealthy: true,
      healthCheckFailures: 0,
    });
    await registry({ maxCapacity: 9 }).register();
    expect((await registry().get('server-1')).maxCapacity).toBe(9);
  });

  it('in the transaction of the caller, if there is one', async () => {
    await database
      .transaction(async (manager) => {
        await registry().register(manager);
        throw new Error('undone');
      })
      .catch(() => undefined);
    await expect(registry().get('server-1')).rejects.toMatchObject({ code: 'server.not_found' });
  });
});

describe('the samples of an instance', () => {
  it('hold the sends since the last sample', async () => {
    const meter = new SendMeter();
    for (let duration = 1; duration <= 100; duration += 1)
      meter.count(duration <= 10 ? 'failed' : 'ok', duration);
    const stats = new StatsService(database);
    const sampler = new StatsSampler(
      stats,
      { ...config, statsIntervalMs: 50, server: { ...server, id: 'server-1' } },
      createLogger('test', 'silent'),
    );
    const read = (): InstanceReading => ({
      accounts: 3,
      connected: 2,
      memoryBytes: 5_000_000_000,
      sends: meter.read(),
    });
    sampler.start(read);
    try {
      await eventually('two samples', async () => (await stats.list({ limit: 10 })).length > 1);
    } finally {
      sampler.onModuleDestroy();
    }
    const [first, second] = (await stats.list({ limit: 10, serverId: 'server-1' })).reverse();
    expect(first).toMatchObject({
      accounts: 3,
      connected: 2,
      memoryBytes: 5_000_000_000,
      errorRate: 0.1,
      averageResponseTimeMs: 50.5,
      p95ResponseTimeMs: 95,
      p99ResponseTimeMs: 99,
    });
    expect(first!.messagesPerMinute).toBeGreaterThan(100);
    expect(first!.memory).toBeGreaterThan(0);
    expect(first!.memory).toBeLessThan(100);
    expect(second).toMatchObject({ messagesPerMinute: 0, errorRate: 0, p95ResponseTimeMs: null });
  });

  it('keep the latest durations if there are very many', () => {
    const meter = new SendMeter();
    for (let count = 0; count < 25_000; count += 1) meter.count('ok', count);
    const { ok, durationsMs } = meter.read();
    expect(ok).toBe(25_000);
    expect(durationsMs).toHaveLength(10_000);
    expect(Math.min(...durationsMs)).toBe(15_000);
    expect(meter.read()).toEqual({ ok: 0, failed: 0, durationsMs: [] });
  });

  it('tell how busy the machine is', () => {
    const cpu = new MachineCpu();
    const until = performance.now() + 100;
    while (performance.now() < until);
    expect(cpu.percent()).toBeGreaterThan(0);
    expect(cpu.percent()).toBeLessThanOrEqual(100);
  });
});

it('deletes samples and logs after thirty days', async () => {
  for (const age of ['31 days', '29 days']) {
    await database.query(
      `insert into server_stats (server_id, instance_id, at, cpu, memory, memory_bytes, accounts, connected,
         messages_per_minute, error_rate, uptime_seconds) values ('s', 'i', now() - $1::interval, 0, 0, 0, 0, 0, 0, 0, 0)`,
      [age],
    );
    await database.query(
      `insert into server_logs (log_type, message, created_at) values ('info', 'x', now() - $1::interval)`,
      [age],
    );
  }
  await new StatsService(database).prune();
  const [counts] = await database.query(
    `select (select count(*)::int from server_stats) as stats, (select count(*)::int from server_logs) as logs`,
  );
  expect(counts).toEqual({ stats: 1, logs: 1 });
});
