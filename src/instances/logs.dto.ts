import { IsIn, IsISO8601, IsOptional, IsString, IsUUID, Length, Matches } from 'class-validator';
import { FleetPageQuery } from './servers.dto.js';

export const logTypes = ['debug', 'info', 'warning', 'error', 'critical'] as const;
export type LogType = (typeof logTypes)[number];

const isRowId = { message: 'must be the nextCursor of the page before' };

export class ListLogsQuery extends FleetPageQuery {
  @IsOptional()
  @Length(1, 200)
  @IsString()
  serverId?: string;

  @IsOptional()
  @Length(1, 200)
  @IsString()
  instanceId?: string;

  @IsOptional()
  @IsUUID()
  accountId?: string;

  @IsOptional()
  @IsIn(logTypes)
  type?: LogType;

  /** Only what was written at this time or later. */
  @IsOptional()
  @IsISO8601({ strict: true })
  since?: string;

  /** `nextCursor` of the page before. */
  @IsOptional()
  @Matches(/^\d{1,18}$/, isRowId)
  cursor?: string;
}

export class LogResponse {
  id!: string;
  serverId!: string | null;
  instanceId!: string | null;
  workspaceId!: string | null;
  accountId!: string | null;
  type!: LogType;
  /** @example Device assignment changed */
  message!: string;
  /** What changed, from what, to what, and why. */
  details!: Record<string, unknown>;
  createdAt!: string;
}

export class ListStatsQuery extends FleetPageQuery {
  @IsOptional()
  @Length(1, 200)
  @IsString()
  serverId?: string;

  @IsOptional()
  @Length(1, 200)
  @IsString()
  instanceId?: string;

  /** Only samples that were taken at this time or later. */
  @IsOptional()
  @IsISO8601({ strict: true })
  since?: string;

  /** `nextCursor` of the page before. */
  @IsOptional()
  @Matches(/^\d{1,18}$/, isRowId)
  cursor?: string;
}

/** How an instance and its machine did in one interval. */
export class StatsResponse {
  at!: string;
  serverId!: string;
  instanceId!: string;
  /** Percent of the machine's processors. */
  cpu!: number;
  /** Percent of the machine's memory. */
  memory!: number;
  /** The instance with its browsers. */
  memoryBytes!: number;
  /** Accounts that it is to drive. */
  accounts!: number;
  /** Accounts that are ready. */
  connected!: number;
  messagesPerMinute!: number;
  /** Sends that failed, of all that ended, from 0 to 1. */
  errorRate!: number;
  /** Of sends; null when there were none. */
  averageResponseTimeMs!: number | null;
  p95ResponseTimeMs!: number | null;
  p99ResponseTimeMs!: number | null;
  uptimeSeconds!: number;
}
