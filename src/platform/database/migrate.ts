import { DataSource } from 'typeorm';
import type { Config } from '../config/config.js';
import { initialize } from './initialize.js';
import { dataSourceOptions, loadMigrations } from './data-source.js';

/** An arbitrary number that no other advisory lock in this database uses. With the lock, two `migrate` commands run one after the other. */
const migrationLock = 7_218_305_544;

/**
 * Migrates the schema to the newest version, under an advisory lock.
 * @returns the names of the migrations that ran, oldest first. Empty if the schema was up to date.
 */
export async function migrate(config: Config): Promise<string[]> {
  const dataSource = new DataSource({
    ...dataSourceOptions(config),
    poolSize: 2,
    migrations: await loadMigrations(),
  });
  await initialize(dataSource);
  const lockHolder = dataSource.createQueryRunner();
  try {
    await lockHolder.query('select pg_advisory_lock($1)', [migrationLock]);
    const done = await dataSource.runMigrations({ transaction: 'each' });
    return done.map((migration) => migration.name);
  } finally {
    // Closing the pool ends the session that holds the lock, and so releases the lock.
    await lockHolder.release();
    await dataSource.destroy();
  }
}
