import { createHash } from 'node:crypto';

/**
 * Shards workspaces over instances: each workspace prefers a small fixed set of instances. So an instance that joins or leaves
 * moves few workspaces, and a workspace that overloads its instances hurts few others.
 *
 * Rendezvous hashing: D. Thaler, C. Ravishankar, "Using name-based mappings to increase hit rates", 1998. Shuffle shards:
 * C. MacCárthaigh, "Workload isolation using shuffle-sharding", Amazon Builders' Library.
 */
export class InstanceRouter {
  /** @param shardSize how many instances a workspace may use */
  constructor(private readonly shardSize: number) {}

  /** The instances of the workspace's shard, the most preferred first. */
  shardOf(workspaceId: string, instanceIds: readonly string[]): string[] {
    return instanceIds
      .map((id) => ({ id, score: scoreOf(workspaceId, id) }))
      .sort((a, b) => b.score - a.score || a.id.localeCompare(b.id))
      .slice(0, this.shardSize)
      .map(({ id }) => id);
  }
}

function scoreOf(workspaceId: string, instanceId: string): number {
  return createHash('sha1').update(`${workspaceId}/${instanceId}`).digest().readUIntBE(0, 6);
}
