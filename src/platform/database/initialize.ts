import { connectionError } from '../errors/connection-error.js';
import type { DataSource, QueryRunner } from 'typeorm';

/** How often the connections take turns. Connections of other clients may hide what one turn would show. */
const turns = 2;

/** A pooler gives every transaction another session. */
export class SharedSessions extends Error {
  override name = 'SharedSessions';

  constructor() {
    super(
      'DATABASE_URL leads to a pooler that gives every transaction another session of PostgreSQL, as PgBouncer does with pool_mode = transaction. Flotilla needs its sessions: LISTEN, advisory locks and settings end with them. Set pool_mode = session for this database in pgbouncer.ini, or let DATABASE_URL lead to PostgreSQL itself.',
    );
  }
}

/**
 * Connects the pool, and checks that each connection has a session of PostgreSQL for itself. On failure the pool is closed.
 * @throws SharedSessions
 */
export async function initialize(database: DataSource): Promise<void> {
  await database.initialize().catch((error: unknown) => {
    throw connectionError(error as Error, 'DATABASE_URL');
  });
  try {
    if (await sharesSessions(database)) throw new SharedSessions();
  } catch (error) {
    await database.destroy();
    throw error;
  }
}

/**
 * A pooler that shares sessions gives an idle connection the same one again and again. So two connections hold one each at the same
 * time, and give them back in both orders: whichever of its free sessions a pooler takes next, the first or the last, one of the
 * connections gets another one.
 */
async function sharesSessions(database: DataSource): Promise<boolean> {
  const [one, other] = [database.createQueryRunner(), database.createQueryRunner()];
  const session = async (connection: QueryRunner) => {
    const rows = (await connection.query('select pg_backend_pid() as pid')) as { pid: number }[];
    return rows[0]!.pid;
  };
  try {
    const [ofOne, ofOther] = [await session(one), await session(other)];
    if (ofOne === ofOther) return true;
    const haveTheirs = async () => (await session(one)) === ofOne && (await session(other)) === ofOther;
    for (let turn = 0; turn < turns; turn += 1) {
      for (const order of [
        [one, other],
        [other, one],
      ]) {
        await Promise.all([one.query('begin'), other.query('begin')]);
        if (!(await haveTheirs())) return true;
        for (const connection of order) await connection.query('commit');
        if (!(await haveTheirs())) return true;
      }
    }
    return false;
  } catch (error) {
    // PgBouncer's words for pool_mode = statement.
    if (/transaction blocks not allowed/.test((error as Error).message)) return true;
    throw error;
  } finally {
    await Promise.all([one.release(), other.release()]);
  }
}
