import { expect, it } from 'vitest';
import { simulateFleet } from '../../bench/fleet-simulation.mjs';

const leaseMs = 4_000;
const takeoverMarginMs = 1_000;

it('drives each account once while an instance joins, one leaves, and a server dies', async () => {
  const accounts = 200;
  const { placing, joining, leaving, killing, doubleOwners, routing } = await simulateFleet({
    instances: 10,
    accounts,
    servers: 3,
    env: {
      INSTANCE_LEASE_MS: String(leaseMs),
      INSTANCE_RENEW_MS: '500',
      INSTANCE_STOP_MARGIN_MS: '2000',
      INSTANCE_TAKEOVER_MARGIN_MS: String(takeoverMarginMs),
      INSTANCE_RESTART_GRACE_MS: '1000',
      SESSION_SNAPSHOT_DELAY_MS: '200',
      MOVES_AT_ONCE: '20',
    },
  });
  expect(placing.spread).toBeLessThanOrEqual(1);
  expect(routing.fifthJoinsFour).toBeLessThanOrEqual(0.25);
  // As many as the newcomer is to have, and no more.
  expect(joining).toMatchObject({ planned: joining.fewest, moved: joining.fewest });
  expect(joining.spread).toBeLessThanOrEqual(1);
  expect(leaving).toMatchObject({ moved: leaving.owned, movedOfOthers: 0 });
  expect(leaving.spread).toBeLessThanOrEqual(1);
  expect(killing).toMatchObject({ moved: killing.owned, movedOfOthers: 0, drivenAgain: killing.owned });
  expect(killing.instances).toBeGreaterThan(1);
  expect(killing.spread).toBeLessThanOrEqual(1);
  // Not before its lease is over, which was renewed less than a second before, and the margin with it.
  expect(killing.firstReadySeconds * 1000).toBeGreaterThan(leaseMs - 1_000 + takeoverMarginMs);
  expect(doubleOwners).toMatchObject({ overlaps: 0, inTheLog: 0, linkedAgain: 0 });
  expect(doubleOwners.sessions).toBeGreaterThanOrEqual(
    accounts + joining.moved + leaving.moved + killing.moved,
  );
}, 180_000);
