import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import type { ListLogsQuery, LogResponse } from './logs.dto.js';

/**
 * The log of changes of servers, instances and assignments. Triggers write it in the transaction of each change, so it also
 * has changes by SQL.
 */
@Injectable()
export class LogsService {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /** Up to `limit + 1` entries, newest first. */
  async list(query: ListLogsQuery): Promise<LogResponse[]> {
    const rows: (Omit<LogResponse, 'createdAt'> & { createdAt: Date })[] = await this.database.query(
      `select id::text, server_id as "serverId", instance_id as "instanceId", workspace_id as "workspaceId",
         account_id as "accountId", log_type as type, message, details, created_at as "createdAt"
       from server_logs
       where ($2::bigint is null or id < $2) and ($3::text is null or server_id = $3)
         and ($4::text is null or instance_id = $4) and ($5::uuid is null or account_id = $5)
         and ($6::text is null or log_type = $6) and ($7::timestamptz is null or created_at >= $7)
         and ($8::uuid is null or workspace_id = $8)
       order by server_logs.id desc limit $1`,
      [
        query.limit + 1,
        query.cursor,
        query.serverId,
        query.instanceId,
        query.accountId,
        query.type,
        query.since && new Date(query.since),
        query.workspaceId,
      ],
    );
    return rows.map((row) => ({ ...row, createdAt: row.createdAt.toISOString() }));
  }
}
