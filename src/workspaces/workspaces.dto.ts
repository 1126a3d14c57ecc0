import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  IsArray,
  IsIn,
  IsInt,
  IsObject,
  IsOptional,
  IsString,
  Length,
  Max,
  Min,
  registerDecorator,
  ValidateNested,
} from 'class-validator';
import { Optional } from '../platform/http/optional.js';
import { isCountry } from '../platform/http/phone-number.js';
import type { Limits, Usage } from './limits.service.js';
import { PacingDto } from './pacing-settings.dto.js';
import { unknownPolicies, type UnknownPolicy, type Workspace } from './workspace.entity.js';

export function IsCountry(): PropertyDecorator {
  return (target, propertyName) =>
    registerDecorator({
      name: 'isCountry',
      target: target.constructor,
      propertyName: String(propertyName),
      validator: {
        validate: (value: unknown) => typeof value === 'string' && isCountry(value),
        defaultMessage: () =>
          'must be the ISO 3166 code of a country, in two capital letters, for example ID',
      },
    });
}

const maxOptOutWords = 100;
const maxOptOutWordLength = 60;

/** A message is compared by its letters and digits, so a word needs one of them. */
function IsOptOutWord(): PropertyDecorator {
  return (target, propertyName) =>
    registerDecorator({
      name: 'isOptOutWord',
      target: target.constructor,
      propertyName: String(propertyName),
      options: { each: true },
      validator: {
        validate: (value: unknown) =>
          typeof value === 'string' &&
          value.length <= maxOptOutWordLength &&
          /[\p{L}\p{N}]/u.test(value.normalize('NFKD').replace(/\p{Lm}/gu, '')),
        defaultMessage: () =>
          `must be a list of words or short sentences, each with a letter or a digit and at most ${maxOptOutWordLength} characters`,
      },
    });
}

/** Limits of a workspace. Null means no limit. A limit that is left out stays as it is; that of a new workspace has its default. */
export class LimitsDto {
  /** The maximum number of accounts. */
  @IsOptional()
  @Min(0)
  @Max(1_000_000)
  @IsInt()
  maxAccounts?: number | null;

  /** The maximum number of messages per minute of the clock. */
  @IsOptional()
  @Min(0)
  @Max(10_000_000)
  @IsInt()
  messagesPerMinute?: number | null;

  /** The maximum size of the stored media, in bytes. */
  @IsOptional()
  @Min(0)
  @Max(Number.MAX_SAFE_INTEGER)
  @IsInt()
  maxStorageBytes?: number | null;
}

export class CreateWorkspaceDto {
  /** @example "Acme Ltd" */
  @IsString()
  @Length(1, 200)
  name!: string;

  @Optional()
  @ValidateNested()
  @Type(() => LimitsDto)
  @IsObject()
  limits?: LimitsDto;
}

/** The settings that the owners of a workspace may change. Fields that are left out stay as they are. */
export class UpdateOwnWorkspaceDto {
  /**
   * The country of phone numbers that begin with 0 instead of a country code, for example `0812-3456-7890` with `ID`. Null: such
   * numbers are refused.
   * @example ID
   */
  @IsOptional()
  @IsCountry()
  defaultCountry?: string | null;

  /**
   * Words by which a person opts out of campaigns, beside the built-in ones such as STOP. Only a whole message counts. Null: the built-in
   * ones alone.
   * @example ["no more offers"]
   */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(maxOptOutWords)
  @IsOptOutWord()
  optOutWords?: string[] | null;
}

export class UpdateWorkspaceDto extends UpdateOwnWorkspaceDto {
  @Optional()
  @IsString()
  @Length(1, 200)
  name?: string;

  /** The pacing settings for all accounts that do not have their own. They replace the old settings as a whole. Null restores the defaults. */
  @IsOptional()
  @ValidateNested()
  @Type(() => PacingDto)
  @IsObject()
  pacing?: PacingDto | null;

  /** What Flotilla does with an `unknown` message. `hold`: the message waits for a person. `resend`: it is sent again under its WhatsApp id. */
  @Optional()
  @IsIn(unknownPolicies)
  unknownPolicy?: UnknownPolicy;

  @Optional()
  @ValidateNested()
  @Type(() => LimitsDto)
  @IsObject()
  limits?: LimitsDto;
}

/** The limits of a workspace. Null means no limit. */
export class LimitsResponse implements Limits {
  maxAccounts!: number | null;
  messagesPerMinute!: number | null;
  maxStorageBytes!: number | null;
}

/** The current usage of a workspace. */
export class UsageResponse implements Usage {
  accounts!: number;
  /** The number of messages that the workspace posted in the last sixty seconds. */
  messagesLastMinute!: number;
  messagesLast24Hours!: number;
  storageBytes!: number;
}

export class WorkspaceResponse {
  id!: string;
  name!: string;
  pacing!: PacingDto | null;
  unknownPolicy!: UnknownPolicy;
  /** The country of phone numbers that begin with 0 instead of a country code. */
  defaultCountry!: string | null;
  /** Words by which a person opts out of campaigns, beside the built-in ones. */
  optOutWords!: string[] | null;
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
    defaultCountry: workspace.defaultCountry,
    optOutWords: workspace.optOutWords,
    limits: {
      maxAccounts: workspace.maxAccounts,
      messagesPerMinute: workspace.messagesPerMinute,
      maxStorageBytes: workspace.maxStorageBytes,
    },
    createdAt: workspace.createdAt.toISOString(),
    updatedAt: workspace.updatedAt.toISOString(),
  };
}
