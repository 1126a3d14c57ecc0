import { Inject, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, type FindOptionsWhere, MoreThan, Repository } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { accountsOf, readCandidates, readServers } from './account-counts.js';
import { Instance, type InstanceStatus } from './instance.entity.js';
import {
  type Candidate,
  type InstanceLoad,
  type PlacementFilters,
  SimpleLoadBalancer,
  spreadOf,
  type Strategy,
} from './simple-load-balancer.js';

export class InstanceNotFound extends Problem {
  constructor(id: string) {
    super(
      404,
      'instance.not_found',
      `There is no instance ${id}. GET /api/v1/admin/instances lists the instances.`,
    );
  }
}

/** Serialises placements, so that concurrent placements cannot both take the last place of an instance. */
export const placementLock = 5_127_730_118;

/** An instance with its load. */
export interface InstanceWithLoad extends Instance {
  /** The state that operators see: `down` if the lease has ended by PostgreSQL's clock. */
  state: InstanceStatus;
  /** Accounts that the instance should drive, connected or not. */
  reserved: number;
  /** Accounts that are ready on the instance. */
  connected: number;
}

/** The registry of the instances, as the rest of the fleet sees it. */
@Injectable()
export class InstancesService {
  constructor(
    @InjectRepository(Instance) private readonly instances: Repository<Instance>,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  /**
   * @param manager of the caller's transaction, if it has one: it must not wait for a second connection of a pool that may be
   *   exhausted
   * @throws InstanceNotFound
   */
  async get(id: string, manager: EntityManager = this.instances.manager): Promise<Instance> {
    const instance = await manager.findOneBy(Instance, { id });
    if (!instance) throw new InstanceNotFound(id);
    return instance;
  }

  /** The registered instances with their load, dead ones too, by id: all, or up to `limit + 1` after `cursor`. */
  async list(page?: { limit: number; cursor?: string }): Promise<InstanceWithLoad[]> {
    return this.withLoad(
      page?.cursor === undefined ? {} : { id: MoreThan(page.cursor) },
      page && page.limit + 1,
    );
  }

  /** @throws InstanceNotFound */
  async getWithLoad(id: string): Promise<InstanceWithLoad> {
    const [instance] = await this.withLoad({ id });
    if (!instance) throw new InstanceNotFound(id);
    return instance;
  }

  /** How evenly the accounts are distributed over the instances that take accounts. */
  async distribution(): Promise<{ instances: InstanceLoad[]; spread: number; balanced: boolean }> {
    const live = (await this.list()).filter(({ state }) => state === 'active');
    const loads = live.map(({ id, reserved, connected, maxAccounts }) => ({
      id,
      reserved,
      connected,
      maxAccounts,
    }));
    return { instances: loads, ...spreadOf(loads) };
  }

  /**
   * Marks an instance as draining: its accounts move to other instances. False lets it take accounts again. The mark survives
   * restarts of the instance.
   * @throws InstanceNotFound
   */
  async setDraining(id: string, isDraining: boolean): Promise<InstanceWithLoad> {
    await this.instances.update({ id }, { isDraining });
    return this.getWithLoad(id);
  }

  /** Marks an instance as down, and its server as unhealthy if no other instance of the server is up. */
  async markDown(manager: EntityManager, id: string): Promise<void> {
    await manager.query(
      `with gone as (update instances set status = 'down' where id = $1 returning server_id)
       update servers s set is_healthy = false from gone where s.id = gone.server_id and s.is_healthy
         and not exists (select from instances i where i.server_id = s.id and i.id <> $1 and i.status <> 'down')`,
      [id],
    );
  }

  /**
   * Takes the placement lock until the transaction ends. Always take it before any row lock: the other order could deadlock.
   */
  async lockPlacement(manager: EntityManager): Promise<void> {
    await manager.query('select pg_advisory_xact_lock($1)', [placementLock]);
  }

  /**
   * Reads the fleet for a placement of accounts. It runs in the caller's transaction, which holds the placement lock and must
   * write the chosen places.
   */
  async balancer(manager: EntityManager): Promise<SimpleLoadBalancer> {
    const [settings] = await manager.query<
      { strategy: Strategy; filters: PlacementFilters; shardSize: number | null }[]
    >(`select strategy, filters, shard_size as "shardSize" from load_balancing`);
    const { shardSize, shardTolerance } = this.config.router;
    const { strategy, filters } = settings!;
    return new SimpleLoadBalancer(await readCandidates(manager), await readServers(manager), {
      strategy,
      filters,
      shardSize: settings!.shardSize ?? shardSize,
      shardTolerance,
    });
  }

  /** Saves the turns of the round-robin strategies. */
  async writeTurns(manager: EntityManager, candidates: Candidate[]): Promise<void> {
    await manager.query(
      `update instances i set turn = t.turn from unnest($1::text[], $2::float8[]) t(id, turn)
       where i.id = t.id and i.turn <> t.turn`,
      [candidates.map(({ id }) => id), candidates.map(({ turn }) => turn)],
    );
  }

  private async withLoad(which: FindOptionsWhere<Instance>, limit?: number): Promise<InstanceWithLoad[]> {
    const query = this.instances
      .createQueryBuilder('instance')
      .addSelect(`(${accountsOf('instance.id', 'reserved')})`, 'reserved')
      .addSelect(`(${accountsOf('instance.id', 'connected')})`, 'connected')
      .addSelect(
        `case when instance.lease_expires_at <= now() then 'down'
           when instance.status = 'active' and instance.is_draining then 'draining' else instance.status end`,
        'state',
      )
      .where(which)
      .orderBy('instance.id')
      .limit(limit);
    const { entities, raw } =
      await query.getRawAndEntities<Pick<InstanceWithLoad, 'state' | 'reserved' | 'connected'>>();
    return entities.map((instance, index) => {
      const { state, reserved, connected } = raw[index]!;
      return Object.assign(instance, { state, reserved, connected });
    });
  }
}
