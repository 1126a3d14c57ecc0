import { ApiPropertyOptional } from '@nestjs/swagger';
import { IsIn, IsOptional, IsString, IsUUID, Length } from 'class-validator';
import { LogPageQuery } from '../platform/http/pagination.js';
import { IsTime } from '../platform/http/time.js';

export const logTypes = ['debug', 'info', 'warning', 'error', 'critical'] as const;
export type LogType = (typeof logTypes)[number];
/** The types that a query may name: `audit` is the log of changes and refusals. */
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

  /** Only entries of this workspace. */
  @ApiPropertyOptional({ format: 'uuid' })
  @IsOptional()
  @IsUUID()
  declare workspaceId?: string;

  /** `audit`: who changed what through the API, and who was refused. `serverId`, `instanceId` or `accountId` then names the changed object. */
  @IsOptional()
  @IsIn(listedTypes)
  type?: (typeof listedTypes)[number];

  /** Only entries from this time on. */
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
  /** The change: old and new values, and the reason. */
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
  /** Who (`actor`, `keyId`, `keyPrefix`, `ip`), what (`method`, `route`, `targetId`), and the outcome (`status`, `requestId`). */
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

  /** Only samples from this time on. */
  @IsOptional()
  @IsTime()
  since?: string;
}

/** The load of an instance and its machine in one interval. */
export class StatsResponse {
  at!: string;
  serverId!: string;
  instanceId!: string;
  /** Percent of the machine's processors. */
  cpu!: number;
  /** Percent of the machine's memory. */
  memory!: number;
  /** The memory of the instance and its browsers. */
  memoryBytes!: number;
  /** Accounts that the instance should drive. */
  accounts!: number;
  /** Accounts that are ready. */
  connected!: number;
  messagesPerMinute!: number;
  /** The share of failed sends among all sends that ended, from 0 to 1. */
  errorRate!: number;
  /** The mean time of a send; null without sends. */
  averageResponseTimeMs!: number | null;
  p95ResponseTimeMs!: number | null;
  p99ResponseTimeMs!: number | null;
  uptimeSeconds!: number;
}
