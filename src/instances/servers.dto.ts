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

// Of the rules of a field the one nearest to it is looked at first, so the type comes last: its message is the clearest.

/** What an operator may say of a server. */
class ServerSettings {
  /** Where `/health` answers for the whole machine; without it its instances are asked. */
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

  /** How many accounts all of its instances together are to drive at most. */
  @Optional()
  @Min(1)
  @Max(100_000)
  @IsInt()
  maxCapacity?: number;

  /** Higher comes first, where the strategy looks at it. */
  @Optional()
  @Min(-1_000)
  @Max(1_000)
  @IsInt()
  priority?: number;

  /** Its share of the turns, where the strategy is weighted. */
  @Optional()
  @Min(1)
  @Max(1_000)
  @IsInt()
  weight?: number;
}

export class CreateServerDto extends ServerSettings {
  /** The `SERVER_ID` of that machine; made up unless given. */
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

  /** Whether accounts may be placed here. Those that are here move away from a server that is not enabled. */
  @Optional()
  @IsBoolean()
  isEnabled?: boolean;

  /** False takes a server for broken: its accounts move away, until a health check succeeds or an instance of it starts. */
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
  /** Accounts that its instances are to drive, and those that wait for it. */
  reserved!: number;
  /** Accounts that are ready. */
  connected!: number;
  /** Every instance that was seen on it, the dead ones too. */
  instances!: { id: string; status: InstanceStatus }[];
  /** Of sends, over the last five minutes; null when there were none. Percentiles are of its slowest instance. */
  responseTimeMs!: { avg: number | null; p95: number | null; p99: number | null };
  lastHealthCheckAt!: string | null;
  /** Health checks that failed since the last that did not. */
  healthCheckFailures!: number;
  createdAt!: string;
  updatedAt!: string;
}

export class HealthCheckResponse {
  isHealthy!: boolean;
  /** Of the slowest that answered; null when none did. */
  responseTimeMs!: number | null;
  checkedAt!: string;
  /** Health checks that failed in a row. */
  failures!: number;
  /** What was found, in words. */
  detail!: string;
  /** The live instances that were asked; empty when the server has a URL of its own. */
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
