import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource, InjectRepository } from '@nestjs/typeorm';
import { DataSource, type EntityManager, Repository } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { shardOf } from './instance-router.js';
import { Instance } from './instance.entity.js';
import { type InstanceLoad, leastSessions, spreadOf } from './simple-load-balancer.js';

export class InstanceNotFound extends Problem {
  constructor(id: string) {
    super(404, 'instance.not_found', `There is no instance ${id}.`);
  }
}

/** Serialises placements, so that two at once cannot both take the last place of an instance. */
const placementLock = 5_127_730_118;

/** An instance with the number of accounts it is to drive and does drive. */
export interface InstanceWithLoad extends Instance {
  reserved: number;
  connected: number;
}

/** The registry of the processes that drive accounts, and the choice of one for an account. */
@Injectable()
export class InstancesService {
  constructor(
    @InjectRepository(Instance) private readonly instances: Repository<Instance>,
    @InjectDataSource() private readonly database: DataSource,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  /** Announces this process as an instance, under the same id after every restart. */
  async register(): Promise<void> {
    const { server, instance } = this.config;
    await this.database.query(
      `with server as (
         insert into servers (id, name, max_capacity) values ($1, $1, $2)
         on conflict (id) do update set max_capacity = excluded.max_capacity, updated_at = now() returning id)
       insert into instances (id, server_id, url, pid, version, status, lease_expires_at, max_accounts, started_at)
       select $3, id, $4, $5, $6, 'active', now() + $7::int * interval '1 millisecond', $8, now() from server
       on conflict (id) do update set url = excluded.url, pid = excluded.pid, version = excluded.version,
         status = 'active', lease_expires_at = excluded.lease_expires_at, max_accounts = excluded.max_accounts,
         started_at = now()`,
      [
        server.id,
        server.maxCapacity,
        instance.id,
        instance.url,
        process.pid,
        this.config.version,
        instance.leaseMs,
        instance.maxAccounts,
      ],
    );
  }

  /** Says that this process is still alive. */
  async renewLease(memoryBytes: number): Promise<void> {
    await this.database.query(
      `update instances set lease_expires_at = now() + $2::int * interval '1 millisecond', memory_bytes = $3 where id = $1`,
      [this.config.instance.id, this.config.instance.leaseMs, memoryBytes],
    );
  }

  /** Says that this process ends: nothing is placed on it any more. */
  async retire(): Promise<void> {
    await this.instances.update(
      { id: this.config.instance.id },
      { status: 'down', leaseExpiresAt: new Date(), pid: null },
    );
  }

  /** @throws InstanceNotFound */
  async get(id: string): Promise<Instance> {
    const instance = await this.instances.findOneBy({ id });
    if (!instance) throw new InstanceNotFound(id);
    return instance;
  }

  /** Every instance that was ever seen, with its load. */
  async list(): Promise<InstanceWithLoad[]> {
    const { entities, raw } = await this.instances
      .createQueryBuilder('instance')
      .addSelect(reserved('true'), 'reserved')
      .addSelect(
        `(select count(*)::int from accounts a where a.instance_id = instance.id and a.status = 'ready')`,
        'connected',
      )
      .orderBy('instance.id')
      .getRawAndEntities<{ reserved: number; connected: number }>();
    return entities.map((instance, index) =>
      Object.assign(instance, { reserved: raw[index]!.reserved, connected: raw[index]!.connected }),
    );
  }

  /** How evenly the accounts lie on the live instances. */
  async distribution(): Promise<{
    instances: (InstanceLoad & { connected: number })[];
    spread: number;
    balanced: boolean;
  }> {
    const live = (await this.list()).filter(isLive);
    const loads = live.map(({ id, reserved, connected, maxAccounts }) => ({
      id,
      reserved,
      connected,
      maxAccounts,
    }));
    return { instances: loads, ...spreadOf(loads) };
  }

  /**
   * Chooses the instance that is to drive an account of this workspace: the one it is on if that one lives and has room,
   * else the least loaded of the workspace's shard, else the least loaded of all. Runs inside the caller's transaction,
   * which must write the choice; the lock is held until that commits.
   * @param preferred the instance that the account is on, or that was asked for
   * @param staysOnServer only the preferred instance's server has the account's session: elsewhere it would ask for a QR code
   * @returns null when no such live instance has room
   */
  async choose(
    manager: EntityManager,
    account: { id: string; workspaceId: string },
    preferred: string | null,
    staysOnServer: boolean,
  ): Promise<string | null> {
    await manager.query('select pg_advisory_xact_lock($1)', [placementLock]);
    const live: InstanceLoad[] = await manager.query(
      `select instance.id, instance.max_accounts as "maxAccounts", ${reserved('a.id <> $3')} as reserved
       from instances instance where instance.status = 'active' and instance.lease_expires_at > now()
         and (not $2 or instance.server_id = (select server_id from instances where id = $1))
       order by instance.id`,
      [preferred, staysOnServer, account.id],
    );
    const hasRoom = ({ reserved, maxAccounts }: InstanceLoad) => reserved < maxAccounts;
    if (live.some((instance) => instance.id === preferred && hasRoom(instance))) return preferred;
    const shard = shardOf(
      account.workspaceId,
      live.map(({ id }) => id),
      this.config.router.shardSize,
    );
    const inShard = live.filter(({ id }) => shard.includes(id));
    return (leastSessions(inShard) ?? leastSessions(live))?.id ?? null;
  }
}

/** SQL for how many accounts an instance is to drive, connected or not, of those that meet a condition. */
function reserved(condition: string): string {
  return `(select count(*)::int from accounts a
    where a.instance_id = instance.id and a.desired_state = 'connected' and ${condition})`;
}

function isLive(instance: Instance): boolean {
  return instance.status === 'active' && instance.leaseExpiresAt.getTime() > Date.now();
}
