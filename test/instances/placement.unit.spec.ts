import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InstanceRouter } from '../../src/instances/instance-router.js';
import {
  type Candidate,
  type LoadBalancing,
  type ServerLoad,
  SimpleLoadBalancer,
  spreadOf,
  strategies,
} from '../../src/instances/simple-load-balancer.js';

const shardOf = (workspaceId: string, ids: string[], size: number) =>
  new InstanceRouter(size).shardOf(workspaceId, ids);

const instanceIds = fc.uniqueArray(fc.stringMatching(/^[a-z]{1,8}$/), { minLength: 1, maxLength: 20 });

describe('InstanceRouter', () => {
  it('gives a workspace the same shard for every order of the instances', () => {
    fc.assert(
      fc.property(fc.uuid(), instanceIds, fc.integer({ min: 1, max: 8 }), (workspace, ids, size) => {
        const shard = shardOf(workspace, ids, size);
        expect(shardOf(workspace, [...ids].reverse(), size)).toEqual(shard);
        expect(shard).toHaveLength(Math.min(size, ids.length));
        expect(new Set(shard).size).toBe(shard.length);
      }),
    );
  });

  it('moves a workspace only to an instance that joins, or away from an instance that leaves', () => {
    fc.assert(
      fc.property(fc.uuid(), instanceIds, fc.integer({ min: 1, max: 4 }), (workspace, ids, size) => {
        const before = shardOf(workspace, ids, size);
        const after = shardOf(workspace, [...ids, 'THE-NEW-ONE'], size);
        const moved = after.filter((id) => !before.includes(id));
        expect(moved.every((id) => id === 'THE-NEW-ONE')).toBe(true);
      }),
    );
  });

  it('moves about a fifth of the workspaces when a fifth instance joins four, not the 80 % of a modulo', () => {
    const four = ['a', 'b', 'c', 'd'];
    const workspaces = Array.from({ length: 2000 }, (_workspace, number) => `workspace-${number}`);
    const moved = workspaces.filter(
      (workspace) => shardOf(workspace, four, 1)[0] !== shardOf(workspace, [...four, 'e'], 1)[0],
    );
    expect(moved.length / workspaces.length).toBeLessThan(0.25);
    expect(moved.length).toBeGreaterThan(0);
  });
});

const evenly: LoadBalancing = { strategy: 'least_sessions', filters: {}, shardSize: 4, shardTolerance: 0 };

function instance(id: string, changes: Partial<Candidate> = {}): Candidate {
  return { id, serverId: 'server', reserved: 0, connected: 0, maxAccounts: 50, turn: 0, ...changes };
}

function server(id: string, changes: Partial<ServerLoad> = {}): ServerLoad {
  return {
    id,
    environment: 'production',
    location: null,
    tags: [],
    priority: 0,
    weight: 1,
    responseTimeMs: null,
    maxCapacity: 100_000,
    reserved: 0,
    ...changes,
  };
}

function place(balancer: SimpleLoadBalancer, count: number, workspaces = 1): (string | null)[] {
  return Array.from(
    { length: count },
    (_account, number) => balancer.next({ workspaceId: `workspace-${number % workspaces}` })?.id ?? null,
  );
}

describe('SimpleLoadBalancer', () => {
  it('places accounts so that equal instances differ by at most one account, and never above capacity', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 0, max: 150 }),
        fc.integer({ min: 1, max: 30 }),
        fc.constantFrom(...strategies),
        (count, maxAccounts, accounts, workspaces, strategy) => {
          const candidates = Array.from({ length: count }, (_instance, number) =>
            instance(String(number), { maxAccounts }),
          );
          const balancer = new SimpleLoadBalancer(candidates, [server('server')], { ...evenly, strategy });
          const placed = place(balancer, accounts, workspaces);
          expect(placed.filter((id) => id === null)).toHaveLength(
            Math.max(0, accounts - count * maxAccounts),
          );
          expect(spreadOf(candidates).spread).toBeLessThanOrEqual(1);
          expect(candidates.every(({ reserved }) => reserved <= maxAccounts)).toBe(true);
        },
      ),
    );
  });

  it('keeps a workspace in its shard among equals, and for longer with a tolerance', () => {
    const ids = Array.from({ length: 20 }, (_instance, number) => `instance-${number}`);
    const spill = (shardTolerance: number) => {
      const balancer = new SimpleLoadBalancer(
        ids.map((id) => instance(id)),
        [server('server')],
        { ...evenly, shardTolerance },
      );
      const shard = shardOf('workspace-0', ids, 4);
      return place(balancer, 12).filter((id) => !shard.includes(id!)).length;
    };
    expect(
      place(
        new SimpleLoadBalancer(
          ids.map((id) => instance(id)),
          [server('server')],
          evenly,
        ),
        4,
      ).sort(),
    ).toEqual(shardOf('workspace-0', ids, 4).sort());
    expect(spill(0)).toBe(8);
    expect(spill(2)).toBe(0);
  });

  it('gives a server with weight 3 three of four turns', () => {
    const balancer = new SimpleLoadBalancer(
      [instance('light', { serverId: 'light' }), instance('heavy', { serverId: 'heavy' })],
      [server('light', { weight: 1 }), server('heavy', { weight: 3 })],
      { ...evenly, strategy: 'weighted_round_robin' },
    );
    expect(place(balancer, 20).filter((id) => id === 'heavy')).toHaveLength(15);
  });

  it('fills the servers of the highest priority first', () => {
    const balancer = new SimpleLoadBalancer(
      [
        instance('backup', { serverId: 'backup' }),
        instance('vip-1', { serverId: 'vip', maxAccounts: 2 }),
        instance('vip-2', { serverId: 'vip', maxAccounts: 2 }),
      ],
      [server('backup', { priority: -1 }), server('vip', { priority: 2 })],
      { ...evenly, strategy: 'priority_first' },
    );
    const placed = place(balancer, 5);
    expect(placed.slice(0, 4).sort()).toEqual(['vip-1', 'vip-1', 'vip-2', 'vip-2']);
    expect(placed[4]).toBe('backup');
  });

  it('takes the instance with the fewest connections, and among equal instances the fewest reservations', () => {
    const balancer = new SimpleLoadBalancer(
      [
        instance('a', { connected: 3, reserved: 3 }),
        instance('b', { connected: 1, reserved: 5 }),
        instance('c', { connected: 1, reserved: 9 }),
      ],
      [server('server')],
      { ...evenly, strategy: 'least_connections' },
    );
    expect(place(balancer, 3)).toEqual(['b', 'b', 'b']);
  });

  it('respects filters, the capacity of the server, and a session that is on one server only', () => {
    const balancer = new SimpleLoadBalancer(
      [
        instance('sg', { serverId: 'sg' }),
        instance('us', { serverId: 'us' }),
        instance('full', { serverId: 'full' }),
      ],
      [
        server('sg', { location: 'Singapore', tags: ['primary', 'ssd'], maxCapacity: 10 }),
        server('us', { environment: 'staging', location: 'US-East', maxCapacity: 3 }),
        server('full', { maxCapacity: 7, reserved: 7 }),
      ],
      evenly,
    );
    const next = (request: object) => balancer.next({ workspaceId: 'w', ...request })?.id ?? null;
    expect(next({ filters: { environment: 'staging' } })).toBe('us');
    expect(next({ filters: { location: 'Singapore', tags: ['ssd'] } })).toBe('sg');
    expect(next({ filters: { tags: ['ssd', 'gpu'] } })).toBeNull();
    expect(next({ filters: { minCapacity: 5 } })).toBe('sg');
    expect(next({ onServer: 'full' })).toBeNull();
    expect(next({ onServer: 'us', preferred: 'sg' })).toBe('us');
    expect(next({ preferred: 'sg' })).toBe('sg');
    expect(next({ onServer: 'us' })).toBe('us');
    expect(next({ onServer: 'us' })).toBeNull();
    // On a full server an account may still change its instance, because its own place becomes free.
    expect(
      balancer.move({ instanceId: 'another', serverId: 'us' }, { workspaceId: 'w', onServer: 'us' })?.id,
    ).toBe('us');
  });
});
