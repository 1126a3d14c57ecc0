import { createHash } from 'node:crypto';

/**
 * Shards workspaces over instances: each workspace gets a small fixed set of them, so that an instance that joins or
 * leaves moves few workspaces, and one bad tenant hurts few others.
 *
 * Rendezvous hashing: D. Thaler, C. Ravishankar, "Using name-based mappings to increase hit rates", 1998.
 * @param workspaceId the tenant
 * @param instanceIds the instances that may take accounts
 * @param shardSize how many of them a workspace may use
 * @returns the workspace's instances, the most preferred first
 */
export function shardOf(workspaceId: string, instanceIds: string[], shardSize: number): string[] {
  return instanceIds
    .map((id) => ({ id, score: createHash('sha1').update(`${workspaceId}/${id}`).digest().readUIntBE(0, 6) }))
    .sort((a, b) => b.score - a.score || a.id.localeCompare(b.id))
    .slice(0, shardSize)
    .map(({ id }) => id);
}
