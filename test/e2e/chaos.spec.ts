import { expect, it } from 'vitest';
import { chaos } from '../../bench/chaos.mjs';

it('sends every message once, in order, and tells the truth about it, whatever dies', async () => {
  const lines: string[] = [];
  const result = await chaos({ minutes: 0.7, log: (line) => lines.push(line) }).catch((error: unknown) => {
    throw new Error(`${String(error)}\n${lines.join('\n')}`, { cause: error });
  });
  const { kills, accepted, ends, maxInFlight } = result;
  expect(result, lines.join('\n')).toMatchObject({
    lost: 0,
    doubled: 0,
    disorder: 0,
    unknown: 0,
    denied: 0,
    failed: 0,
    unasked: 0,
    misdirected: 0,
    conflicts: 0,
    qrs: 0,
  });
  expect(maxInFlight).toBe(1);
  expect(Object.values(ends).reduce((sum, count) => sum + count, 0)).toBe(accepted);
  // Something did die, and something was sent meanwhile.
  expect(kills).toBeGreaterThanOrEqual(5);
  expect(ends.sent).toBeGreaterThanOrEqual(100);
}, 300_000);
