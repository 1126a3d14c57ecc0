import { IsBoolean } from 'class-validator';
import { Optional } from '../platform/http/optional.js';
import type { InstanceStatus } from './instance.entity.js';
import type { InstanceWithLoad } from './instances.service.js';

export class RebalanceDto {
  /** True: answers with the moves, and moves nothing. */
  @Optional()
  @IsBoolean()
  dryRun: boolean = false;
}

export class RebalanceResponse {
  moves!: { accountId: string; from: string; to: string }[];
}

/** How evenly the accounts are distributed over the active instances. */
export class DistributionResponse {
  instances!: { id: string; reserved: number; connected: number; maxAccounts: number }[];
  /** The difference between the most and the least accounts of an instance. */
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
  /** Accounts that the instance should drive, connected or not. */
  reserved!: number;
  /** Accounts that are ready on the instance. */
  connected!: number;
  /** The memory of the process and its browsers. */
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
