import { Client, type ClientConfig } from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { destroyConnection, isQueryTimeout } from '../../src/platform/database/pg-internals.js';
import { scratchDatabase } from '../support/scratch-database.js';

/* What Flotilla uses of pg beyond its documented interface: an upgrade that breaks it fails here. */

let database: Awaited<ReturnType<typeof scratchDatabase>>;

beforeAll(async () => {
  database = await scratchDatabase({ migrated: false });
});
afterAll(() => database?.drop());

/** Runs some work with a connection, then destroys it. */
async function connected(options: ClientConfig, work: (client: Client) => Promise<void>): Promise<void> {
  const client = new Client({ connectionString: database.config.database.url, ...options });
  client.on('error', () => undefined);
  await client.connect();
  try {
    await work(client);
  } finally {
    destroyConnection(client);
  }
}

it('a destroyed connection ends at once, and its query fails', async () => {
  await connected({}, async (client) => {
    const ended = new Promise<void>((resolve) => client.once('end', resolve));
    const failed = expect(client.query('select pg_sleep(60)')).rejects.toThrow('Connection terminated');
    destroyConnection(client);
    await ended;
    await failed;
  });
});

it('a query timeout is distinguished from other errors', async () => {
  await connected({ query_timeout: 100 }, async (client) => {
    const error: unknown = await client.query('select 1 / 0').catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: '22012' });
    expect(isQueryTimeout(error)).toBe(false);
    const late: unknown = await client.query('select pg_sleep(60)').catch((reason: unknown) => reason);
    expect(late).toBeInstanceOf(Error);
    expect(isQueryTimeout(late)).toBe(true);
  });
});
