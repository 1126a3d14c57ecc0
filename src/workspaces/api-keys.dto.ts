import { ApiProperty } from '@nestjs/swagger';
import {
  ArrayMaxSize,
  ArrayMinSize,
  IsArray,
  IsIn,
  IsInt,
  IsOptional,
  IsString,
  Length,
  Max,
  Min,
  registerDecorator,
  type ValidationOptions,
} from 'class-validator';
import { isAddressOrRange } from '../platform/http/public-address.js';
import { Optional } from '../platform/http/optional.js';
import { IsFutureTime, IsTime } from '../platform/http/time.js';
import { keyRoles, type ApiKey, type KeyRole } from './api-key.entity.js';
import type { NewApiKey } from './api-keys.service.js';

function IsIpRange(options: ValidationOptions) {
  return (target: object, propertyName: string) =>
    registerDecorator({
      name: 'isIpRange',
      target: target.constructor,
      propertyName,
      options,
      validator: {
        validate: (value: unknown) => typeof value === 'string' && isAddressOrRange(value),
        defaultMessage: () => 'each must be an IP address, or a CIDR range such as 10.0.0.0/8',
      },
    });
}

export class CreateApiKeyDto {
  /** @example backend */
  @IsString()
  @Length(1, 200)
  name!: string;

  @IsIn(keyRoles)
  role!: KeyRole;

  /** The time when the key expires. */
  @Optional()
  @IsFutureTime()
  @IsTime()
  expiresAt?: string;

  /** IP addresses or CIDR ranges that may use the key. */
  @Optional()
  @IsArray()
  @ArrayMinSize(1, { message: 'must not be empty: leave it out to allow every address' })
  @ArrayMaxSize(100)
  @IsIpRange({ each: true })
  allowedIps?: string[];
}

/** The maximum grace period of a rotated key: seven days. */
const maxGraceSeconds = 7 * 86_400;

export class RotateApiKeyDto {
  /** How long the old key still works, in seconds. 0 means that it stops at once. */
  @Optional()
  @Min(0)
  @Max(maxGraceSeconds)
  @IsInt()
  graceSeconds: number = 0;

  /** The time when the new key expires. Null means never. The default is the expiry time of the old key. */
  @ApiProperty({ type: String, required: false, nullable: true })
  @IsOptional()
  @IsFutureTime()
  @IsTime()
  expiresAt?: string | null;
}

export class ApiKeyResponse {
  id!: string;
  workspaceId!: string;
  name!: string;
  role!: KeyRole;
  /** The first characters of the key, so that a person recognises it. @example flk_Xy12Zw */
  prefix!: string;
  expiresAt!: string | null;
  allowedIps!: string[] | null;
  lastUsedAt!: string | null;
  /** The id of the new key if this key was rotated. */
  replacedBy!: string | null;
  createdAt!: string;
}

export class CreatedApiKeyResponse extends ApiKeyResponse {
  /** The key itself. Only this answer shows it. */
  key!: string;
}

export function toApiKeyResponse(key: ApiKey): ApiKeyResponse {
  return {
    id: key.id,
    workspaceId: key.workspaceId,
    name: key.name,
    role: key.role,
    prefix: key.prefix,
    expiresAt: key.expiresAt?.toISOString() ?? null,
    allowedIps: key.allowedIps,
    lastUsedAt: key.lastUsedAt?.toISOString() ?? null,
    replacedBy: key.replacedBy,
    createdAt: key.createdAt.toISOString(),
  };
}

export function toCreatedApiKeyResponse({ row, key }: NewApiKey): CreatedApiKeyResponse {
  return { ...toApiKeyResponse(row), key };
}
