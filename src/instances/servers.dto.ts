import {
  ArrayMaxSize,
  IsArray,
  IsBoolean,
  IsInt,
  IsOptional,
  IsString,
  IsUrl,
  Length,
  Max,
  Min,
  registerDecorator,
} from 'class-validator';
import { serverIdProblem } from '../platform/config/server-id.js';
import { Optional } from '../platform/http/optional.js';
import { LimitedQuery } from '../platform/http/pagination.js';
import type { InstanceStatus } from './instance.entity.js';
import type { ServerWithLoad } from './servers.service.js';

function IsServerId() {
  return (target: object, propertyName: string) =>
    registerDecorator({
      name: 'isServerId',
      target: target.constructor,
      propertyName,
      validator: {
        validate: (value: unknown) => typeof value === 'string' && serverIdProblem(value) === undefined,
        defaultMessage: (given) =>
          `must be a server id: one ${typeof given?.value === 'string' ? serverIdProblem(given.value) : 'is a text'}`,
      },
    });
}

const IsHttpUrl = () =>
  IsUrl(
    { protocols: ['http', 'https'], require_protocol: true, require_tld: false },
    { message: 'must be an http or https URL, such as http://10.0.0.5:3000' },
  );

// class-validator checks the rule nearest to the field first. So the rule of the type stands last: its message is the clearest.

/** The settings of a server that an operator may change. */
class ServerSettings {
  /** The URL whose `/health` answers for the whole machine. Without it, a health check asks the instances of the server. */
  @IsOptional()
  @IsHttpUrl()
  url?: string | null;

  /** @example vps */
  @Optional()
  @Length(1, 100)
  @IsString()
  type?: string;

  /** @example asia-southeast */
  @IsOptional()
  @Length(1, 100)
  @IsString()
  region?: string | null;

  /** @example production */
  @Optional()
  @Length(1, 100)
  @IsString()
  environment?: string;

  /** @example Jakarta */
  @IsOptional()
  @Length(1, 100)
  @IsString()
  location?: string | null;

  /** @example ["high-capacity"] */
  @Optional()
  @ArrayMaxSize(50)
  @Length(1, 100, { each: true })
  @IsString({ each: true })
  @IsArray()
  tags?: string[];

  /** How many accounts all instances of the server together may drive. */
  @Optional()
  @Min(1)
  @Max(100_000)
  @IsInt()
  maxCapacity?: number;

  /** A server with a higher priority comes first, if the strategy uses priorities. */
  @Optional()
  @Min(-1_000)
  @Max(1_000)
  @IsInt()
  priority?: number;

  /** The share of the turns of this server, if the strategy uses weights. */
  @Optional()
  @Min(1)
  @Max(1_000)
  @IsInt()
  weight?: number;
}

export class CreateServerDto extends ServerSettings {
  /** The `SERVER_ID` of the machine. If you leave it out, Flotilla makes one. */
  @Optional()
  @IsServerId()
  id?: string;

  /** @example "Singapore 1" */
  @Length(1, 200)
  @IsString()
  name!: string;
}

export class UpdateServerDto extends ServerSettings {
  @Optional()
  @Length(1, 200)
  @IsString()
  name?: string;

  /** Whether the server takes accounts. False: its accounts move to other servers. */
  @Optional()
  @IsBoolean()
  isEnabled?: boolean;

  /** False: its accounts move to other servers, until a health check succeeds or an instance of the server starts. */
  @Optional()
  @IsBoolean()
  isHealthy?: boolean;
}

export class ListServersQuery extends LimitedQuery {
  /** `nextCursor` of the page before. */
  @IsOptional()
  @IsString()
  cursor?: string;
}

export class ServerResponse {
  id!: string;
  name!: string;
  url!: string | null;
  type!: string;
  region!: string | null;
  environment!: string;
  location!: string | null;
  tags!: string[];
  maxCapacity!: number;
  priority!: number;
  weight!: number;
  isEnabled!: boolean;
  isHealthy!: boolean;
  /** Accounts that its instances should drive, and accounts that wait for this server. */
  reserved!: number;
  /** Accounts that are ready. */
  connected!: number;
  /** All instances of the server, dead ones too. */
  instances!: { id: string; status: InstanceStatus }[];
  /** The time of a send in the last five minutes; null without sends. The percentiles are those of the slowest instance. */
  responseTimeMs!: { avg: number | null; p95: number | null; p99: number | null };
  lastHealthCheckAt!: string | null;
  /** How many health checks have failed since the last success. */
  healthCheckFailures!: number;
  createdAt!: string;
  updatedAt!: string;
}

export class HealthCheckResponse {
  isHealthy!: boolean;
  /** The time of the slowest answer; null without an answer. */
  responseTimeMs!: number | null;
  checkedAt!: string;
  /** How many health checks have failed in a row. */
  failures!: number;
  /** The findings in words. */
  detail!: string;
  /** The running instances that were asked; empty if the server has a URL of its own. */
  instances!: { id: string; isHealthy: boolean; responseTimeMs: number | null }[];
}

export function toServerResponse(server: ServerWithLoad): ServerResponse {
  return {
    id: server.id,
    name: server.name,
    url: server.url,
    type: server.type,
    region: server.region,
    environment: server.environment,
    location: server.location,
    tags: server.tags,
    maxCapacity: server.maxCapacity,
    priority: server.priority,
    weight: server.weight,
    isEnabled: server.isEnabled,
    isHealthy: server.isHealthy,
    reserved: server.reserved,
    connected: server.connected,
    instances: server.instances,
    responseTimeMs: server.sends,
    lastHealthCheckAt: server.lastHealthCheckAt?.toISOString() ?? null,
    healthCheckFailures: server.healthCheckFailures,
    createdAt: server.createdAt.toISOString(),
    updatedAt: server.updatedAt.toISOString(),
  };
}
