import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import type { ListStatsQuery, StatsResponse } from './logs.dto.js';

/** The tables whose rows are kept for thirty days, and the column of their age. */
const ageColumns = {
  server_stats: 'at',
  server_logs: 'created_at',
  audit_log: 'created_at',
};
const pruneBatchSize = 10_000;

/** The time series of the instances and their machines. */
@Injectable()
export class StatsService {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /** Records a sample of an instance. */
  async record(sample: Omit<StatsResponse, 'at'>): Promise<void> {
    await this.database.query(
      `insert into server_stats (server_id, instance_id, cpu, memory, memory_bytes, accounts, connected,
         messages_per_minute, error_rate, average_response_time_ms, p95_response_time_ms, p99_response_time_ms,
         uptime_seconds)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
      [
        sample.serverId,
        sample.instanceId,
        sample.cpu,
        sample.memory,
        sample.memoryBytes,
        sample.accounts,
        sample.connected,
        sample.messagesPerMinute,
        sample.errorRate,
        sample.averageResponseTimeMs,
        sample.p95ResponseTimeMs,
        sample.p99ResponseTimeMs,
        sample.uptimeSeconds,
      ],
    );
  }

  /** Up to `limit + 1` samples, newest first. `id` is the value for `cursor`. */
  async list(query: ListStatsQuery): Promise<(StatsResponse & { id: string })[]> {
    const rows: (Omit<StatsResponse, 'at' | 'memoryBytes'> & {
      id: string;
      at: Date;
      memoryBytes: string;
    })[] = await this.database.query(
      `select id::text, at, server_id as "serverId", instance_id as "instanceId", cpu, memory,
         memory_bytes as "memoryBytes", accounts, connected, messages_per_minute as "messagesPerMinute",
         error_rate as "errorRate", average_response_time_ms as "averageResponseTimeMs",
         p95_response_time_ms as "p95ResponseTimeMs", p99_response_time_ms as "p99ResponseTimeMs",
         uptime_seconds as "uptimeSeconds"
       from server_stats
       where ($2::bigint is null or id < $2) and ($3::text is null or server_id = $3)
         and ($4::text is null or instance_id = $4) and ($5::timestamptz is null or at >= $5)
       order by server_stats.id desc limit $1`,
      [query.limit + 1, query.cursor, query.serverId, query.instanceId, query.since && new Date(query.since)],
    );
    return rows.map((row) => ({
      ...row,
      at: row.at.toISOString(),
      memoryBytes: Number(row.memoryBytes),
    }));
  }

  /** Deletes samples and the logs of the fleet after thirty days, in short transactions. */
  async prune(): Promise<void> {
    for (const [table, age] of Object.entries(ageColumns)) {
      let deleted: number;
      do {
        [, deleted] = await this.database.query(
          `with oldest as (select id from ${table} order by id limit ${pruneBatchSize})
           delete from ${table} t using oldest where t.id = oldest.id and t.${age} < now() - interval '30 days'`,
        );
      } while (deleted === pruneBatchSize);
    }
  }
}

export function toStatsResponse({ id: _id, ...sample }: StatsResponse & { id: string }): StatsResponse {
  return sample;
}
