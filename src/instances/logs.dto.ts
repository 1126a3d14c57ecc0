import { ApiPropertyOptional } from '@nestjs/swagger';
import { IsIn, IsOptional, IsString, IsUUID, Length } from 'class-validator';
import { LogPageQuery } from '../platform/http/pagination.js';
import { IsTime } from '../platform/http/time.js';

export const logTypes = ['debug', 'info', 'warning', 'error', 'critical'] as const;
export type LogType = (typeof logTypes)[number];
/** What one may ask for: also the log of who changed what, and who was refused. */
const listedTypes = [...logTypes, 'audit'] as const;

export class ListLogsQuery extends LogPageQuery {
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

  /** Only of this workspace. */
  @ApiPropertyOptional({ format: 'uuid' })
  @IsOptional()
  @IsUUID()
  declare workspaceId?: string;

  /** `audit`: who changed what through the API, and who was refused; an id of another thing then finds what was done to it. */
  @IsOptional()
  @IsIn(listedTypes)
  type?: (typeof listedTypes)[number];

  /** Only what was written at this time or later. */
  @IsOptional()
  @IsTime()
  since?: string;
}

export class LogResponse {
  id!: string;
  serverId!: string | null;
  instanceId!: string | null;
  workspaceId!: string | null;
  accountId!: string | null;
  type!: LogType;
  /** @example "Device assignment changed" */
  message!: string;
  /** What changed, from what, to what, and why. */
  details!: Record<string, unknown>;
  createdAt!: string;
}

/** An entry of `type=audit`. */
export class AuditLogResponse {
  id!: string;
  serverId!: string | null;
  instanceId!: string | null;
  workspaceId!: string | null;
  accountId!: string | null;
  type!: 'audit';
  /** @example "DELETE /api/v1/workspaces/:id/api-keys/:keyId" */
  message!: string;
  /** Who (`actor`, `keyId`, `keyPrefix`, `ip`), what (`method`, `route`, `targetId`), and what came of it (`status`, `requestId`). */
  details!: Record<string, unknown>;
  createdAt!: string;
}

export class ListStatsQuery extends LogPageQuery {
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
  @IsTime()
  since?: string;
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
