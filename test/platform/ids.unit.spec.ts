import * as fc from 'fast-check';
import { v7 as uuidv7, validate, version } from 'uuid';
import { expect, it } from 'vitest';
import { firstId, firstIdAt } from '../../src/platform/database/ids.js';

it('the first id of a time is a version 7 UUID between the ids of the millisecond before and the ids of its own', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 45 }), (time) => {
      const first = firstIdAt(time);
      expect(validate(first)).toBe(true);
      expect(version(first)).toBe(7);
      expect(uuidv7({ msecs: time - 1 }) < first).toBe(true);
      expect(uuidv7({ msecs: time }) >= first).toBe(true);
      expect(firstId < first).toBe(true);
    }),
  );
});
