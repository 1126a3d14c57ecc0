import type { Client } from 'pg';

/**
 * What Flotilla uses of `pg` beyond its documented interface. An upgrade may change it, which
 * test/platform/pg-internals.spec.ts tells.
 */

/** Ends a connection without waiting for the other side. Queries that wait for an answer fail. */
export function destroyConnection(client: Client): void {
  (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
}

/** Whether a query failed because no answer came within its `query_timeout`: only the text of the error says so. */
export function isQueryTimeout(error: unknown): boolean {
  return error instanceof Error && error.message === 'Query read timeout';
}
