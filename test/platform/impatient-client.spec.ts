import { DataSource } from 'typeorm';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { tcpProxy, type TcpProxy } from '../../setup/tcp-proxy.mjs';
import { dataSourceOptions } from '../../src/platform/database/data-source.js';
import { eventually } from '../support/eventually.js';
import { scratchDatabase } from '../support/scratch-database.js';

let database: Awaited<ReturnType<typeof scratchDatabase>>;
let cable: TcpProxy;

beforeAll(async () => {
  database = await scratchDatabase({ migrated: false });
  cable = await tcpProxy(database.config.database.url);
});
afterAll(async () => {
  await cable.close();
  await database.drop();
});

it('closes a silent connection, so that the next query uses another connection', async () => {
  const { config } = database;
  const options = dataSourceOptions({
    ...config,
    database: { ...config.database, url: cable.url, poolSize: 1 },
  });
  const source = new DataSource({ ...options, extra: { ...options.extra, query_timeout: 500 } });
  await source.initialize();
  try {
    expect(await source.query('select 1 as one')).toEqual([{ one: 1 }]);
    cable.drop();
    await expect(source.query('select 2 as two')).rejects.toThrow('Query read timeout');
    // The pool has only one connection. Without the close, every query would wait behind the lost answer.
    const rows = await eventually('another answer', () => source.query('select 3 as three'), 2_000);
    expect(rows).toEqual([{ three: 3 }]);
  } finally {
    await source.destroy();
  }
});

it('makes the server notice within seconds that this machine is dead', async () => {
  const source = new DataSource(dataSourceOptions(database.config));
  await source.initialize();
  try {
    const rows: { name: string; setting: string }[] = await source.query(
      `select name, setting from pg_settings where name like 'tcp_keepalives%' or name = 'idle_in_transaction_session_timeout'`,
    );
    const settings = Object.fromEntries(rows.map(({ name, setting }) => [name, Number(setting)]));
    expect(settings).toEqual({
      tcp_keepalives_idle: 5,
      tcp_keepalives_interval: 2,
      tcp_keepalives_count: 3,
      idle_in_transaction_session_timeout: 15_000,
    });
  } finally {
    await source.destroy();
  }
});
