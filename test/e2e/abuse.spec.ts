import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { attacks } from '../../bench/abuse-attacks.mjs';
import { AbuseSystem } from '../../bench/abuse.mjs';
import { breachesOf } from '../../bench/abuse-judge.mjs';

/**
 * `npm run abuse` in small. Other tests run beside this one, so the times are generous: an attack that holds the API makes the
 * victim wait until its requests fail. The rest is exact.
 */
const options = {
  seconds: 1,
  beforeSeconds: 1,
  calmSeconds: 1,
  recoverySeconds: 5,
  everyMs: 80,
  requestsPerMinute: 2_000,
  scale: {
    texts: 100,
    pictureSide: 3_000,
    streams: 120,
    lists: 20,
    downloads: 20,
    waits: 150,
    halves: 100,
    keys: 10,
    connects: 2,
    slow: 16,
  },
};
const maxRatio = 10;
const maxP95Ms = 4_000;
const maxGapMs = 5_000;
const maxGrowthBytes = 300e6;

let system: AbuseSystem;

beforeAll(async () => {
  system = await AbuseSystem.start(options);
});
afterAll(() => system?.stop());

/** Besides these, `many-keys` (e2e/security.spec.ts) and `inner-proxies` (below) have counts only. */
const harmful = Object.entries(attacks).filter(([, { countsOnly }]) => !countsOnly);

describe('another workspace works on during', () => {
  it.each(harmful.map(([name, { what }]) => [name, what]))('%s: %s', async (name) => {
    const { before, during, cost, outcome } = await system.play(name);
    expect(during, during.errorsSeen.join('; ')).toMatchObject({ errors: 0 });
    expect(during.requests).toBeGreaterThan(10);
    expect(during.p95).toBeLessThan(Math.max(maxRatio * before.p95, maxP95Ms));
    expect(during.gaps[0] ?? 0).toBeLessThan(maxGapMs);
    expect(cost.restarts).toBe(0);
    expect(cost.grownBytes).toBeLessThan(maxGrowthBytes);
    expect(cost.keptBytes).toBeLessThan(maxGrowthBytes / 2);
    expect(breachesOf(outcome)).toEqual([]);
  });
});

it('proxies reach no inner address, and the answers tell nothing about any', async () => {
  const { outcome } = await system.play('inner-proxies');
  expect(breachesOf(outcome)).toEqual([]);
  expect(outcome.counts?.kinds).toBeGreaterThanOrEqual(30);
  expect(outcome.seen?.refusals).toHaveLength(1);
  expect(outcome.seen?.reasons).toHaveLength(1);
});
