import { IsBoolean } from 'class-validator';
import { Optional } from '../platform/http/optional.js';
import type { InstanceStatus } from './instance.entity.js';
import type { InstanceWithLoad } from './instances.service.js';

export class RebalanceDto {
  /** Only tell what would be moved. */
  @Optional()
  @IsBoolean()
  dryRun: boolean = false;
}

export class RebalanceResponse {
  moves!: { accountId: string; from: string; to: string }[];
}

/** How evenly the accounts lie on the active instances. */
export class DistributionResponse {
  instances!: { id: string; reserved: number; connected: number; maxAccounts: number }[];
  /** The load of the fullest less that of the emptiest, each a part of what it may drive, from 0 to 1. */
  spread!: number;
  balanced!: boolean;
}

export class InstanceResponse {
  id!: string;
  serverId!: string;
  url!: string;
  pid!: number | null;
  version!: string | null;
  status!: InstanceStatus;
  leaseExpiresAt!: string;
  maxAccounts!: number;
  /** Accounts that it is to drive, connected or not. */
  reserved!: number;
  /** Accounts that are ready on it. */
  connected!: number;
  /** The process with its browsers. */
  memoryBytes!: number;
  /** Percent of its machine's processors. */
  cpu!: number;
  startedAt!: string;
}

export function toInstanceResponse(instance: InstanceWithLoad): InstanceResponse {
  return {
    id: instance.id,
    serverId: instance.serverId,
    url: instance.url,
    pid: instance.pid,
    version: instance.version,
    status: instance.state,
    leaseExpiresAt: instance.leaseExpiresAt.toISOString(),
    maxAccounts: instance.maxAccounts,
    reserved: instance.reserved,
    connected: instance.connected,
    memoryBytes: Number(instance.memoryBytes),
    cpu: instance.cpu,
    startedAt: instance.startedAt.toISOString(),
  };
}
