import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource, type EntityManager } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import type { LoadBalancingDto, LoadBalancingResponse } from './load-balancing.dto.js';
import { type PlacementFilters, strategies, type Strategy } from './simple-load-balancer.js';

interface Settings {
  strategy: Strategy;
  /** Null: `ROUTER_SHARD_SIZE`. */
  shardSize: number | null;
  filters: PlacementFilters;
  updatedAt: Date;
}

/** The operator's settings of the placement of accounts, the same for all programs. They apply from the next placement on. */
@Injectable()
export class LoadBalancingService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  async get(): Promise<LoadBalancingResponse> {
    return this.toResponse(await read(this.database.manager));
  }

  /** Replaces the settings, and writes the old and the new settings to the log. */
  async set({ strategy, shardSize = null, filters = {} }: LoadBalancingDto): Promise<LoadBalancingResponse> {
    return this.database.transaction(async (manager) => {
      const before = await read(manager, 'for update');
      await manager.query(
        `update load_balancing set strategy = $1, shard_size = $2, filters = $3, updated_at = now()`,
        [strategy, shardSize, JSON.stringify(filters)],
      );
      const after = await read(manager);
      await manager.query(
        `insert into server_logs (log_type, message, details) values ('info', 'Load balancing changed', $1)`,
        [JSON.stringify({ old: chosen(before), new: chosen(after) })],
      );
      return this.toResponse(after);
    });
  }

  private toResponse({ strategy, shardSize, filters, updatedAt }: Settings): LoadBalancingResponse {
    return {
      strategy,
      strategies: [...strategies],
      shardSize: shardSize ?? this.config.router.shardSize,
      filters,
      updatedAt: updatedAt.toISOString(),
    };
  }
}

function chosen({ strategy, shardSize, filters }: Settings) {
  return { strategy, shardSize, filters };
}

async function read(manager: EntityManager, lock = ''): Promise<Settings> {
  const [settings] = await manager.query<Settings[]>(
    `select strategy, shard_size as "shardSize", filters, updated_at as "updatedAt" from load_balancing ${lock}`,
  );
  return settings!;
}
