import { createHash } from 'node:crypto';
import type { Pool } from 'pg';
import type { DataSource } from 'typeorm';

/** Runs one statement: on the pool, or inside a transaction. @returns its rows */
export type RunSql = (text: string, values: unknown[]) => Promise<Record<string, unknown>[]>;

const names = new Map<string, string>();

/**
 * Runs a statement that PostgreSQL parses and plans once a connection, not once a call: for the few that every message
 * runs, planning costs more than running. The text must be constant, since each distinct one is kept for ever.
 * @returns the rows, also of an `update … returning`
 */
export async function prepared<Row extends object>(
  database: DataSource,
  text: string,
  values: unknown[],
): Promise<Row[]> {
  let name = names.get(text);
  if (name === undefined) {
    name = createHash('sha1').update(text).digest('hex').slice(0, 20);
    names.set(text, name);
  }
  const pool = (database.driver as unknown as { master: Pool }).master;
  return (await pool.query<Row>({ name, text, values })).rows;
}
