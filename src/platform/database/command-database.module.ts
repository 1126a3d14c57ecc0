import { Module } from '@nestjs/common';
import { connection } from './connection.js';

/** The connection pool of a CLI command. Without retries, a command reports at once that the database is down. */
@Module({ imports: [connection({ retryAttempts: 0 })] })
export class CommandDatabaseModule {}
