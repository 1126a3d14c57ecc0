import { Module } from '@nestjs/common';
import { connection } from './connection.js';

/** The connection pool of a command that somebody has typed: it says at once that the database is away. */
@Module({ imports: [connection({ retryAttempts: 0 })] })
export class CommandDatabaseModule {}
