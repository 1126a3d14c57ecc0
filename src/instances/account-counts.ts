/** How many accounts are on instances and on servers: all SQL of this folder that counts them. */
import type { EntityManager } from 'typeorm';
import type { Candidate, ServerLoad } from './simple-load-balancer.js';

/**
 * SQL for how many accounts an instance is to drive, or does drive.
 * @param instanceId SQL
 */
export function accountsOf(instanceId: string, what: 'reserved' | 'connected'): string {
  return `select count(*)::int from accounts a where a.instance_id = ${instanceId} and a.desired_state = 'connected'
    ${what === 'connected' ? `and a.status = 'ready'` : ''}`;
}

/** The instances that take accounts, with how many they have. */
export function readCandidates(manager: EntityManager): Promise<Candidate[]> {
  return manager.query(
    `select i.id, i.server_id as "serverId", i.max_accounts as "maxAccounts", i.turn,
       coalesce(l.reserved, 0) as reserved, coalesce(l.connected, 0) as connected
     from instances i join servers s on s.id = i.server_id left join instance_loads l on l.instance_id = i.id
     where i.status = 'active' and not i.is_draining and i.lease_expires_at > now() and s.is_enabled and s.is_healthy
     order by i.id`,
  );
}

/** The servers, with how many accounts each has. */
export function readServers(manager: EntityManager): Promise<ServerLoad[]> {
  return manager.query(
    `select s.id, s.environment, s.location, s.tags, s.priority, s.weight, s.response_time_ms as "responseTimeMs",
       s.max_capacity as "maxCapacity", coalesce(sum(l.reserved), 0)::int + coalesce(max(p.reserved), 0) as reserved
     from servers s left join instances i on i.server_id = s.id left join instance_loads l on l.instance_id = i.id
     left join pinned_loads p on p.server_id = s.id
     group by s.id`,
  );
}

/** SQL for how many accounts are on each server, `(server_id, reserved, connected)`. */
export const accountsByServer = `select coalesce(i.server_id, a.pinned_server_id) as server_id,
    count(*) filter (where a.desired_state = 'connected')::int as reserved,
    count(*) filter (where a.status = 'ready')::int as connected
  from accounts a left join instances i on i.id = a.instance_id group by 1`;

/**
 * SQL for how many accounts are on a server, whatever is wanted of them.
 * @param serverId SQL
 */
export function accountsOnServer(serverId: string): string {
  return `select count(*)::int from accounts a left join instances i on i.id = a.instance_id
    where coalesce(i.server_id, a.pinned_server_id) = ${serverId}`;
}
