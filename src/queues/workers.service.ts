import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import type { QueueName } from './queue-policies.js';

export type WorkerStatus = 'running' | 'paused' | 'stopping';

/** What a worker reports about itself. */
export interface WorkerHeartbeat {
  name: string;
  startedAt: Date;
  queues: readonly QueueName[];
  status: WorkerStatus;
  /** How many jobs it runs now. */
  running: number;
  /** How many jobs it may run at the same time. */
  concurrency: number;
  processed: number;
  failed: number;
}

export interface WorkerRow extends WorkerHeartbeat {
  serverId: string;
  pid: number;
  memoryBytes: number;
  seenAt: Date;
}

/** A worker is alive if its last heartbeat is not older than this. Workers write a heartbeat every five seconds. */
const heartbeatTimeoutMs = 15_000;
const pruneAfterMs = 60_000;

/** The workers of all servers. Each worker writes its heartbeats into PostgreSQL. */
@Injectable()
export class WorkersService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  /** Writes a heartbeat of this process, and removes the workers whose last heartbeat is older than a minute. */
  async write(worker: WorkerHeartbeat): Promise<void> {
    await this.database.query(
      `with forgotten as (
         delete from workers where name <> $1 and seen_at < now() - ${pruneAfterMs} * interval '1 millisecond')
       insert into workers (name, server_id, pid, queues, status, running, concurrency, processed, failed, memory_bytes,
         started_at, seen_at)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, now())
       on conflict (name) do update set server_id = excluded.server_id, pid = excluded.pid, queues = excluded.queues,
         status = excluded.status, running = excluded.running, concurrency = excluded.concurrency,
         processed = excluded.processed, failed = excluded.failed, memory_bytes = excluded.memory_bytes,
         started_at = excluded.started_at, seen_at = excluded.seen_at`,
      [
        worker.name,
        this.config.server.id,
        process.pid,
        worker.queues,
        worker.status,
        worker.running,
        worker.concurrency,
        worker.processed,
        worker.failed,
        process.memoryUsage.rss(),
        worker.startedAt,
      ],
    );
  }

  /** Removes a worker that ends in good order. */
  async remove(name: string): Promise<void> {
    await this.database.query('delete from workers where name = $1 and pid = $2', [name, process.pid]);
  }

  /** The workers that are alive, sorted by name. */
  async listAlive(): Promise<WorkerRow[]> {
    const rows: (Omit<WorkerRow, 'processed' | 'failed' | 'memoryBytes'> & Record<string, unknown>)[] =
      await this.database.query(
        `select name, server_id as "serverId", pid, queues, status, running, concurrency, processed, failed,
           memory_bytes as "memoryBytes", started_at as "startedAt", seen_at as "seenAt"
         from workers where seen_at > now() - ${heartbeatTimeoutMs} * interval '1 millisecond' order by name`,
      );
    return rows.map((row) => ({
      ...row,
      processed: Number(row.processed),
      failed: Number(row.failed),
      memoryBytes: Number(row.memoryBytes),
    }));
  }
}
