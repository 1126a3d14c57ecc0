import { Module } from '@nestjs/common';
import { connection } from './connection.js';

/** The PostgreSQL connection pool. A role waits for the database at boot, a minute at most, rather than crash-loop. */
@Module({ imports: [connection({ retryAttempts: 60 })] })
export class DatabaseModule {}
