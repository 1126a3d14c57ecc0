import { DataSource } from 'typeorm';
import type { Config } from '../config/config.js';
import { dataSourceOptions, loadMigrations } from './data-source.js';

/** Any number that nothing else in this database locks; two `migrate` at once then run one after the other. */
const migrationLock = 7_218_305_544;

/**
 * Brings the schema up to date, holding an advisory lock for as long as it takes.
 * @returns the names of the migrations that ran, oldest first; empty when there was nothing to do.
 */
export async function migrate(config: Config): Promise<string[]> {
  const dataSource = new DataSource({
    ...dataSourceOptions(config),
    poolSize: 2,
    migrations: await loadMigrations(),
  });
  await dataSource.initialize();
  const lockHolder = dataSource.createQueryRunner();
  try {
    await lockHolder.query('select pg_advisory_lock($1)', [migrationLock]);
    const done = await dataSource.runMigrations({ transaction: 'each' });
    return done.map((migration) => migration.name);
  } finally {
    // Closing the pool ends the lock's session, and with it the lock.
    await lockHolder.release();
    await dataSource.destroy();
  }
}
