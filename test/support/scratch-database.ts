import { randomBytes } from 'node:crypto';
import { Client } from 'pg';
import { dropDatabase } from '../../setup/connections.mjs';
import { type Config, loadConfig } from '../../src/platform/config/config.js';
import { migrate } from '../../src/platform/database/migrate.js';

/** A migrated database of its own on the server that `npm test` started; `drop` removes it. */
export async function scratchDatabase({ migrated = true } = {}): Promise<{
  config: Config;
  drop: () => Promise<void>;
}> {
  const server = process.env.DATABASE_URL;
  if (!server) throw new Error('These tests need PostgreSQL: run them with npm test.');
  const name = `scratch_${randomBytes(6).toString('hex')}`;
  const url = new URL(server);
  url.pathname = `/${name}`;
  await onServer(server, `create database ${name}`);
  const config = loadConfig({ ...process.env, DATABASE_URL: url.href });
  if (migrated) await migrate(config);
  return { config, drop: () => dropDatabase(server, name) };
}

async function onServer(url: string, statement: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
