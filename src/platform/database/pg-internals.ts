import type { Client } from 'pg';

/**
 * The parts of `pg` that Flotilla uses beyond its documented interface. An upgrade may change them.
 * test/platform/pg-internals.spec.ts then fails.
 */

/** Closes a connection without waiting for the server. Its pending queries fail. */
export function destroyConnection(client: Client): void {
  (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
}

/** Whether a query failed because no answer came within its `query_timeout`. Only the text of the error shows it. */
export function isQueryTimeout(error: unknown): boolean {
  return error instanceof Error && error.message === 'Query read timeout';
}
