import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.module.js';
import { dataSourceOptions } from './data-source.js';

function connecting(retryAttempts: number) {
  return TypeOrmModule.forRootAsync({
    inject: [CONFIG],
    useFactory: (config: Config) => ({
      ...dataSourceOptions(config),
      autoLoadEntities: true,
      retryAttempts,
      retryDelay: 1000,
    }),
  });
}

/** The PostgreSQL connection pool. A role waits for the database at boot, a minute at most, rather than crash-loop. */
@Module({ imports: [connecting(60)] })
export class DatabaseModule {}

/** The same for a command that somebody has typed: it says at once that the database is away. */
@Module({ imports: [connecting(0)] })
export class CommandDatabaseModule {}
