import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { backoffAfter, jittered } from '../../src/platform/backoff.js';

it('the wait after attempt n is wait n of the list, and later the last wait', () => {
  expect([1, 2, 3, 4].map((attempt) => backoffAfter(attempt, [10, 20, 30]))).toEqual([10, 20, 30, 30]);
  expect(backoffAfter(1, [])).toBe(0);
});

it('jitter keeps a wait within its bounds, in whole milliseconds', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 86_400_000 }), (ms) => {
      const wait = jittered(ms, [0.8, 1.2]);
      expect(Number.isInteger(wait)).toBe(true);
      expect(wait).toBeGreaterThanOrEqual(Math.round(ms * 0.8));
      expect(wait).toBeLessThanOrEqual(Math.round(ms * 1.2));
    }),
  );
});
