import { InstanceRouter } from './instance-router.js';

export const strategies = [
  'least_sessions',
  'round_robin',
  'weighted_round_robin',
  'least_connections',
  'priority_first',
] as const;
/** How to choose among the instances that may take an account. */
export type Strategy = (typeof strategies)[number];

/** Which servers may take an account. A filter that is left out allows every server. */
export interface PlacementFilters {
  environment?: string;
  location?: string;
  /** The server must have all of these tags. */
  tags?: string[];
  /** The server must have at least this many free places. */
  minCapacity?: number;
}

export interface LoadBalancing {
  strategy: Strategy;
  filters: PlacementFilters;
  shardSize: number;
  shardTolerance: number;
}

/** The load of an instance. `reserved` counts the accounts that it should drive, connected or not. */
export interface InstanceLoad {
  id: string;
  reserved: number;
  connected: number;
  maxAccounts: number;
}

/** An instance that may take accounts, with its server. */
export interface Candidate extends InstanceLoad {
  serverId: string;
  /** The number of its next turn, for the round-robin strategies: the lowest number is next. */
  turn: number;
}

export interface ServerLoad {
  id: string;
  environment: string;
  location: string | null;
  tags: string[];
  priority: number;
  weight: number;
  responseTimeMs: number | null;
  maxCapacity: number;
  /** The sum over all instances of the server, dead ones too. */
  reserved: number;
}

/** The place of an account. The instance may be dead, and then is not a candidate. It is null before an instance is chosen. */
export interface Place {
  instanceId: string | null;
  serverId: string;
}

/** An account that needs an instance. */
export interface PlacementRequest {
  workspaceId: string;
  /** The instance that is chosen if it may take the account. */
  preferred?: string | null;
  /** The only server that may take the account, because its session is there. */
  onServer?: string | null;
  /** An instance that the account must leave. */
  except?: string | null;
  filters?: PlacementFilters | null;
}

/**
 * Chooses instances for accounts from one reading of the fleet. It counts each choice, so that one transaction can place many
 * accounts. It writes nothing.
 */
export class SimpleLoadBalancer {
  private readonly servers: Map<string, ServerLoad>;
  private readonly router: InstanceRouter;
  private readonly shards = new Map<string, ReadonlySet<string>>();

  /** @param candidates running, active instances of healthy, enabled servers; each choice changes their load in place */
  constructor(
    readonly candidates: Candidate[],
    servers: ServerLoad[],
    private readonly settings: LoadBalancing,
  ) {
    this.servers = new Map(servers.map((server) => [server.id, server]));
    this.router = new InstanceRouter(settings.shardSize);
  }

  /** Reserves a place. @returns the instance; null if no instance that may take the account has room */
  next(request: PlacementRequest): Candidate | null {
    const open = this.candidates.filter((candidate) => this.mayTake(candidate, request));
    const chosen = open.find(({ id }) => id === request.preferred) ?? this.best(open, request.workspaceId);
    if (chosen) this.count({ instanceId: chosen.id, serverId: chosen.serverId }, +1);
    return chosen;
  }

  /** Like `next`, for an account that has a place. Its own place counts as free, because it may be the last on its server. */
  move(from: Place, request: PlacementRequest): Candidate | null {
    this.count(from, -1);
    const chosen = this.next(request);
    if (!chosen) this.count(from, +1);
    return chosen;
  }

  /** Whether an instance may take this account. */
  mayTake(candidate: Candidate, { onServer, except, filters }: PlacementRequest): boolean {
    const server = this.servers.get(candidate.serverId)!;
    return (
      candidate.reserved < candidate.maxAccounts &&
      server.reserved < server.maxCapacity &&
      candidate.id !== except &&
      (onServer === null || onServer === undefined || onServer === server.id) &&
      meets(server, this.settings.filters) &&
      meets(server, filters ?? {})
    );
  }

  /** The best instance by the strategy, or the best of the workspace's shard if it is within the tolerance. */
  private best(open: Candidate[], workspaceId: string): Candidate | null {
    const first = this.leastOf(open);
    if (!first) return null;
    const shard = this.shardOf(workspaceId);
    const inShard = this.leastOf(open.filter(({ id }) => shard.has(id)));
    if (!inShard) return first;
    const [ours, best] = [this.rank(inShard), this.rank(first)];
    const isCloseEnough = ours.every((part, index) => {
      const tolerance = index === ours.length - 1 ? this.settings.shardTolerance : 0;
      return part <= best[index]! + tolerance;
    });
    return isCloseEnough ? inShard : first;
  }

  private leastOf(candidates: Candidate[]): Candidate | null {
    return candidates.reduce<Candidate | null>(
      (best, candidate) => (best === null || this.comesBefore(candidate, best) ? candidate : best),
      null,
    );
  }

  private comesBefore(a: Candidate, b: Candidate): boolean {
    const [ranksA, ranksB] = [this.rank(a), this.rank(b)];
    const differing = ranksA.findIndex((part, index) => part !== ranksB[index]);
    return differing >= 0 && ranksA[differing]! < ranksB[differing]!;
  }

  /** The values that the strategy compares, the most important first. Smaller is better. */
  private rank(candidate: Candidate): number[] {
    const server = this.servers.get(candidate.serverId)!;
    switch (this.settings.strategy) {
      case 'least_sessions':
        return [candidate.reserved];
      case 'least_connections':
        // If instances have the same number of connected accounts, the accounts that are not connected yet decide.
        return [candidate.connected, candidate.reserved];
      case 'round_robin':
      case 'weighted_round_robin':
        return [candidate.turn];
      case 'priority_first':
        return [
          -server.priority,
          candidate.reserved / candidate.maxAccounts,
          server.responseTimeMs ?? Number.MAX_SAFE_INTEGER,
        ];
    }
  }

  private count({ instanceId, serverId }: Place, change: 1 | -1): void {
    const server = this.servers.get(serverId);
    if (server) server.reserved += change;
    const candidate = this.candidates.find(({ id }) => id === instanceId);
    if (!candidate) return;
    candidate.reserved += change;
    const { strategy } = this.settings;
    if (change < 0 || (strategy !== 'round_robin' && strategy !== 'weighted_round_robin')) return;
    // Stride scheduling: C. Waldspurger, W. Weihl, "Stride Scheduling: Deterministic Proportional-Share Resource
    // Management", 1995.
    candidate.turn += strategy === 'round_robin' ? 1 : 1 / (server?.weight ?? 1);
  }

  private shardOf(workspaceId: string): ReadonlySet<string> {
    let shard = this.shards.get(workspaceId);
    if (!shard) {
      const ids = this.candidates.map(({ id }) => id);
      shard = new Set(this.router.shardOf(workspaceId, ids));
      this.shards.set(workspaceId, shard);
    }
    return shard;
  }
}

function meets(server: ServerLoad, { environment, location, tags, minCapacity }: PlacementFilters): boolean {
  return (
    (environment === undefined || server.environment === environment) &&
    (location === undefined || server.location === location) &&
    (tags ?? []).every((tag) => server.tags.includes(tag)) &&
    (minCapacity === undefined || server.maxCapacity - server.reserved >= minCapacity)
  );
}

/** The largest minus the smallest load. It is balanced if that is at most 20 % of the mean, or one account. */
export function spreadOf(loads: { reserved: number }[]): { spread: number; balanced: boolean } {
  if (loads.length === 0) return { spread: 0, balanced: true };
  const reserved = loads.map((load) => load.reserved);
  const spread = Math.max(...reserved) - Math.min(...reserved);
  const mean = reserved.reduce((sum, value) => sum + value, 0) / reserved.length;
  return { spread, balanced: spread <= Math.max(1, 0.2 * mean) };
}
