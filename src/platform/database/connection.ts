import type { DynamicModule } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.module.js';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { dataSourceOptions } from './data-source.js';
import { initialize, SharedSessions } from './initialize.js';

/**
 * TypeORM's module with the settings of this process.
 * @param retryAttempts how many times, once a second, the connection is retried at boot while the database is down
 */
export function connection({ retryAttempts }: { retryAttempts: number }): DynamicModule {
  return TypeOrmModule.forRootAsync({
    inject: [CONFIG],
    useFactory: (config: Config) => ({
      ...dataSourceOptions(config),
      autoLoadEntities: true,
      retryAttempts,
      retryDelay: 1000,
      // Waiting does not help against it.
      toRetry: (error: unknown) => !(error instanceof SharedSessions),
    }),
    dataSourceFactory: async (options) => {
      const database = new DataSource(options as DataSourceOptions);
      await initialize(database);
      return database;
    },
  });
}
