import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { shardOf } from '../../src/instances/instance-router.js';
import { leastSessions, spreadOf } from '../../src/instances/simple-load-balancer.js';

const instanceIds = fc.uniqueArray(fc.stringMatching(/^[a-z]{1,8}$/), { minLength: 1, maxLength: 20 });

describe('InstanceRouter', () => {
  it('gives a workspace the same shard whatever the order of the instances', () => {
    fc.assert(
      fc.property(fc.uuid(), instanceIds, fc.integer({ min: 1, max: 8 }), (workspace, ids, size) => {
        const shard = shardOf(workspace, ids, size);
        expect(shardOf(workspace, [...ids].reverse(), size)).toEqual(shard);
        expect(shard).toHaveLength(Math.min(size, ids.length));
        expect(new Set(shard).size).toBe(shard.length);
      }),
    );
  });

  it('moves a workspace only to an instance that joins, or away from one that leaves', () => {
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

describe('SimpleLoadBalancer', () => {
  it('places accounts so that equal instances differ by one at most, and never above capacity', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 0, max: 150 }),
        (count, maxAccounts, accounts) => {
          const loads = Array.from({ length: count }, (_load, number) => ({
            id: String(number),
            reserved: 0,
            maxAccounts,
          }));
          let refused = 0;
          for (let account = 0; account < accounts; account += 1) {
            const chosen = leastSessions(loads);
            if (chosen) chosen.reserved += 1;
            else refused += 1;
          }
          expect(refused).toBe(Math.max(0, accounts - count * maxAccounts));
          expect(spreadOf(loads).spread).toBeLessThanOrEqual(1);
          expect(loads.every(({ reserved }) => reserved <= maxAccounts)).toBe(true);
        },
      ),
    );
  });
});
