import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import type { ConnectionLogEntry } from './accounts.dto.js';
import { AccountsService } from './accounts.service.js';

/** The public type of an event of the log. Every other event is a change of the status. */
const publicTypes: Record<string, string> = {
  qr_generated: 'account.qr',
  pairing_code_generated: 'account.pairing_code',
  claimed: 'account.claimed',
  released: 'account.released',
};

const pruneBatchSize = 10_000;

/** The log of the connections of accounts. PostgreSQL writes it, in the transaction of each change. */
@Injectable()
export class ConnectionLogsService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly accounts: AccountsService,
  ) {}

  /**
   * Up to `limit + 1` entries of one account, newest first.
   * @param before the id of an entry: only older entries are returned
   * @throws AccountNotFound
   */
  async list(
    workspaceId: string,
    accountId: string,
    limit: number,
    before?: string,
  ): Promise<ConnectionLogEntry[]> {
    await this.accounts.get(workspaceId, accountId);
    const rows: (Omit<ConnectionLogEntry, 'type' | 'createdAt'> & { createdAt: Date })[] =
      await this.database.query(
        `select id::text, event_type as event, reason, instance_id as "instanceId", epoch, details as data,
         created_at as "createdAt" from connection_logs
       where account_id = $1 and ($3::bigint is null or id < $3) order by connection_logs.id desc limit $2`,
        [accountId, limit + 1, before ?? null],
      );
    return rows.map((row) => ({
      ...row,
      type: publicTypes[row.event] ?? 'account.status',
      createdAt: row.createdAt.toISOString(),
    }));
  }

  /** Deletes entries older than thirty days, in short transactions. */
  async prune(): Promise<void> {
    let deleted: number;
    do {
      [, deleted] = await this.database.query(
        `with oldest as (select id from connection_logs order by id limit ${pruneBatchSize})
         delete from connection_logs l using oldest where l.id = oldest.id and l.created_at < now() - interval '30 days'`,
      );
    } while (deleted === pruneBatchSize);
  }
}
