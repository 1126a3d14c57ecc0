import { Client } from 'pg';
import { expect, it } from 'vitest';
import { migrate } from '../../src/platform/database/migrate.js';
import { scratchDatabase } from '../support/scratch-database.js';

it('three concurrent migrate commands run one after the other, and each migration runs once', async () => {
  const { config, drop } = await scratchDatabase({ migrated: false });
  try {
    const runs = await Promise.all([migrate(config), migrate(config), migrate(config)]);
    expect(runs.filter((names) => names.length > 0)).toHaveLength(1);
    const client = new Client({ connectionString: config.database.url });
    await client.connect();
    const { rows } = await client.query(
      'select count(*)::int as tables from information_schema.tables where table_name = $1',
      ['messages'],
    );
    await client.end();
    expect(rows[0].tables).toBe(1);
    expect(await migrate(config)).toEqual([]);
  } finally {
    await drop();
  }
});
