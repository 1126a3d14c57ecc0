import { Type } from 'class-transformer';
import {
  IsIn,
  IsInt,
  IsObject,
  IsOptional,
  IsString,
  Length,
  Max,
  Min,
  ValidateNested,
} from 'class-validator';
import { Optional } from '../platform/http/optional.js';
import type { Limits, Usage } from './limits.service.js';
import { PacingDto } from './pacing-settings.dto.js';
import { unknownPolicies, type UnknownPolicy, type Workspace } from './workspace.entity.js';

export class CreateWorkspaceDto {
  /** @example "Acme Ltd" */
  @IsString()
  @Length(1, 200)
  name!: string;
}

/** What a workspace may use; null removes a limit, and what is left out stays as it is. */
export class LimitsDto {
  /** How many accounts it may have. */
  @IsOptional()
  @Min(0)
  @Max(1_000_000)
  @IsInt()
  maxAccounts?: number | null;

  /** How many messages it may post in a minute of the clock. */
  @IsOptional()
  @Min(0)
  @Max(10_000_000)
  @IsInt()
  messagesPerMinute?: number | null;

  /** How many bytes of media it may keep. */
  @IsOptional()
  @Min(0)
  @Max(Number.MAX_SAFE_INTEGER)
  @IsInt()
  maxStorageBytes?: number | null;
}

export class UpdateWorkspaceDto {
  @Optional()
  @IsString()
  @Length(1, 200)
  name?: string;

  /** How carefully its accounts send, where they do not say otherwise; replaces what was set before, null: the defaults. */
  @IsOptional()
  @ValidateNested()
  @Type(() => PacingDto)
  @IsObject()
  pacing?: PacingDto | null;

  /** What becomes of a message of which nobody can tell whether it was sent: it waits for a person, or is sent again under its one WhatsApp id. */
  @Optional()
  @IsIn(unknownPolicies)
  unknownPolicy?: UnknownPolicy;

  @Optional()
  @ValidateNested()
  @Type(() => LimitsDto)
  @IsObject()
  limits?: LimitsDto;
}

/** What a workspace may use; null is no limit. */
export class LimitsResponse implements Limits {
  maxAccounts!: number | null;
  messagesPerMinute!: number | null;
  maxStorageBytes!: number | null;
}

/** What a workspace uses now. */
export class UsageResponse implements Usage {
  accounts!: number;
  /** Messages that it posted in the last sixty seconds. */
  messagesLastMinute!: number;
  messagesLast24Hours!: number;
  storageBytes!: number;
}

export class WorkspaceResponse {
  id!: string;
  name!: string;
  pacing!: PacingDto | null;
  unknownPolicy!: UnknownPolicy;
  limits!: LimitsResponse;
  createdAt!: string;
  updatedAt!: string;
}

export class WorkspaceUsageResponse extends WorkspaceResponse {
  usage!: UsageResponse;
}

export function toWorkspaceResponse(workspace: Workspace): WorkspaceResponse {
  return {
    id: workspace.id,
    name: workspace.name,
    pacing: workspace.pacing,
    unknownPolicy: workspace.unknownPolicy,
    limits: {
      maxAccounts: workspace.maxAccounts,
      messagesPerMinute: workspace.messagesPerMinute,
      maxStorageBytes: workspace.maxStorageBytes,
    },
    createdAt: workspace.createdAt.toISOString(),
    updatedAt: workspace.updatedAt.toISOString(),
  };
}
