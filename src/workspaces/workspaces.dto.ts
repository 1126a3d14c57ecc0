import { isIP } from 'node:net';
import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  IsArray,
  IsIn,
  IsISO8601,
  IsObject,
  IsOptional,
  IsString,
  Length,
  registerDecorator,
  ValidateNested,
  type ValidationOptions,
} from 'class-validator';
import { Optional } from '../platform/http/optional.js';
import { keyRoles, type ApiKey, type KeyRole } from './api-key.entity.js';
import { PacingDto } from './pacing.dto.js';
import { unknownPolicies, type UnknownPolicy, type Workspace } from './workspace.entity.js';

export class CreateWorkspaceDto {
  /** @example "Acme Ltd" */
  @IsString()
  @Length(1, 200)
  name!: string;
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
}

function IsIpRange(options: ValidationOptions) {
  return (target: object, propertyName: string) =>
    registerDecorator({
      name: 'isIpRange',
      target: target.constructor,
      propertyName,
      options,
      validator: {
        validate: (value: unknown) => typeof value === 'string' && isIpRange(value),
        defaultMessage: () => 'each must be an IP address, or a range such as 10.0.0.0/8',
      },
    });
}

function isIpRange(text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/');
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 6 ? 128 : 32));
}

export class CreateApiKeyDto {
  /** @example backend */
  @IsString()
  @Length(1, 200)
  name!: string;

  @IsIn(keyRoles)
  role!: KeyRole;

  /** After this time the key is refused. */
  @IsOptional()
  @IsISO8601({ strict: true })
  expiresAt?: string;

  /** IP addresses or CIDR ranges that may use the key. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(100)
  @IsIpRange({ each: true })
  allowedIps?: string[];
}

export class WorkspaceResponse {
  id!: string;
  name!: string;
  pacing!: PacingDto | null;
  unknownPolicy!: UnknownPolicy;
  createdAt!: string;
  updatedAt!: string;
}

export class WorkspaceUsageResponse extends WorkspaceResponse {
  usage!: { accounts: number; messagesLast24Hours: number };
  limits!: { accounts: number | null };
}

export class ApiKeyResponse {
  id!: string;
  workspaceId!: string;
  name!: string;
  role!: KeyRole;
  prefix!: string;
  expiresAt!: string | null;
  allowedIps!: string[] | null;
  lastUsedAt!: string | null;
  createdAt!: string;
}

export class CreatedApiKeyResponse extends ApiKeyResponse {
  /** The key itself: shown here and never again. */
  key!: string;
}

export function toWorkspaceResponse(workspace: Workspace): WorkspaceResponse {
  return {
    id: workspace.id,
    name: workspace.name,
    pacing: workspace.pacing,
    unknownPolicy: workspace.unknownPolicy,
    createdAt: workspace.createdAt.toISOString(),
    updatedAt: workspace.updatedAt.toISOString(),
  };
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
    createdAt: key.createdAt.toISOString(),
  };
}
