import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { MigrationInterface } from 'typeorm';
import type { PostgresDataSourceOptions } from 'typeorm/driver/postgres/PostgresDataSourceOptions.js';
import { type Config, projectRoot } from '../config/config.js';
import { ImpatientClient, queryTimeoutMs } from './impatient-client.js';
import { isolatingDriver } from './isolation.js';

/** How every role connects to PostgreSQL. Only `flotilla migrate` runs migrations. The boot of a role never does. */
export function dataSourceOptions(config: Config): PostgresDataSourceOptions {
  return {
    type: 'postgres',
    driver: isolatingDriver,
    url: config.database.url,
    poolSize: config.database.poolSize,
    applicationName: `flotilla ${config.environment}`,
    connectTimeoutMS: 10_000,
    extra: {
      Client: ImpatientClient,
      query_timeout: queryTimeoutMs,
      keepAlive: true,
    },
    synchronize: false,
    logging: false,
  };
}

/** The migrations, oldest first: the exports of the compiled files of `migrations/`. */
export async function loadMigrations(): Promise<(new () => MigrationInterface)[]> {
  const folder = join(projectRoot, 'dist/migrations');
  const files = readdirSync(folder)
    .filter((name) => /^\d.*\.js$/.test(name))
    .sort();
  const modules = await Promise.all(
    files.map(
      (name) =>
        import(pathToFileURL(join(folder, name)).href) as Promise<
          Record<string, new () => MigrationInterface>
        >,
    ),
  );
  return modules.flatMap((module) => Object.values(module));
}
