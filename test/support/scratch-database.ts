import { randomBytes } from 'node:crypto';
import { Client } from 'pg';
import { dropDatabase } from '../../setup/connections.mjs';
import { type Config, loadConfig } from '../../src/platform/config/config.js';
import { migrate } from '../../src/platform/database/migrate.js';

/** Migrated once a run: each database of a test is a copy of it. */
const template = 'scratch_template';
const templateLock = 7_014;

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
  if (migrated) await makeTemplate(server);
  await onServer(server, `create database ${name}${migrated ? ` template ${template}` : ''}`);
  const config = loadConfig({ ...process.env, DATABASE_URL: url.href });
  return { config, drop: () => dropDatabase(server, name) };
}

/** Files run side by side: the first one makes the template, the others wait for it. */
async function makeTemplate(server: string): Promise<void> {
  const client = new Client({ connectionString: server });
  await client.connect();
  try {
    await client.query('select pg_advisory_lock($1)', [templateLock]);
    const made = await client.query('select from pg_database where datname = $1', [template]);
    if (made.rowCount) return;
    const url = new URL(server);
    url.pathname = `/${template}_new`;
    await client.query(`drop database if exists ${template}_new`);
    await client.query(`create database ${template}_new`);
    await migrate(loadConfig({ ...process.env, DATABASE_URL: url.href }));
    await client.query(`alter database ${template}_new rename to ${template}`);
  } finally {
    await client.end();
  }
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
