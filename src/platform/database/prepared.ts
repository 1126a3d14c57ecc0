import { createHash } from 'node:crypto';
import type { DataSource, EntityManager } from 'typeorm';
import { clientOf, poolOf } from './typeorm-internals.js';

/** Runs one statement: on the pool, or inside a transaction. @returns its rows */
export type RunSql = (text: string, values: unknown[]) => Promise<Record<string, unknown>[]>;

const names = new Map<string, string>();

/**
 * Runs a prepared statement: PostgreSQL parses and plans it once per connection, not once per call. It is for the few
 * statements that run for every message, whose planning costs more than their execution. The text must be constant, because
 * each distinct text is kept for ever.
 * @returns the rows, also of an `update … returning`
 */
export async function prepared<Row extends object>(
  database: DataSource,
  text: string,
  values: unknown[],
): Promise<Row[]> {
  return (await poolOf(database).query<Row>(named(text, values))).rows;
}

/** Like {@link prepared}, inside a transaction. */
export async function preparedIn<Row extends object>(
  manager: EntityManager,
  text: string,
  values: unknown[],
): Promise<Row[]> {
  const client = await clientOf(manager);
  return (await client.query<Row>(named(text, values))).rows;
}

function named(text: string, values: unknown[]): { name: string; text: string; values: unknown[] } {
  let name = names.get(text);
  if (name === undefined) {
    name = createHash('sha1').update(text).digest('hex').slice(0, 20);
    names.set(text, name);
  }
  return { name, text, values };
}
