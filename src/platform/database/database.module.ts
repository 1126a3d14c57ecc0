import { Module } from '@nestjs/common';
import { connection } from './connection.js';

/** The PostgreSQL connection pool. At boot, a role waits up to a minute for the database, which avoids a crash loop. */
@Module({ imports: [connection({ retryAttempts: 60 })] })
export class DatabaseModule {}
