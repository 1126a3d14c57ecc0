/** What goes wrong in a chaos run, and in which order: the same seed gives the same faults. */

/** @typedef {import('./chaos-plan.mjs').Fault} Fault */

const times = (/** @type {number} */ count, /** @type {Fault['kind']} */ kind, /** @type {string} */ what) =>
  Array.from({ length: count }, () => ({ kind, what }));

/** Each round has all of these once, in another order. */
const round = [
  ...times(10, 'kill', 'worker'),
  ...times(8, 'kill', 'instance'),
  ...times(8, 'kill', 'browser'),
  ...times(5, 'kill', 'scheduler'),
  ...times(6, 'kill', 'api'),
  ...times(4, 'kill', 'redis'),
  ...times(3, 'kill', 'postgres'),
  ...times(1, 'supervisord', 'supervisord'),
  ...times(3, 'hang', 'worker'),
  ...times(3, 'hang', 'instance'),
  ...times(3, 'hang', 'browser'),
  ...times(2, 'hang', 'scheduler'),
  ...times(2, 'hang', 'api'),
  ...times(1, 'hang', 'redis'),
  ...times(3, 'flush', 'redis'),
  ...times(2, 'sandbox', 'cut connections'),
  ...times(2, 'sandbox', 'lost acks'),
  ...times(2, 'sandbox', 'slow acks'),
  ...times(2, 'sandbox', 'refusals'),
  ...times(2, 'sandbox', 'offline'),
];

/** What each fault of the sandbox asks of it; all are of one account. */
export const sandboxFaults = {
  'cut connections': { disconnectRate: 0.4 },
  'lost acks': { dropAckRate: 0.4 },
  'slow acks': { ackDelayMs: 1_500, receiptDelayMs: 300 },
  refusals: { refuseRate: 0.4 },
  offline: { offline: true },
};

/** The faults of a seed, without end. @param {number} seed @returns {Generator<Fault, never>} */
export function* faultsOf(seed) {
  const random = randomOf(seed);
  for (;;) {
    for (const { kind, what } of shuffled(round, random)) {
      const pick = random();
      // Most hangs are short; some are longer than a lease.
      const forMs = kind === 'hang' ? 500 + 14_500 * random() ** 2 : 2_000 + 4_000 * random();
      yield { kind, what, pick, forMs: Math.round(forMs), pauseMs: Math.round(500 + 3_000 * random()) };
    }
  }
}

/**
 * Numbers from 0 to 1 that only depend on the seed: Math.random takes none. (mulberry32, by Tommy Ettinger, public domain)
 * @param {number} seed
 */
function randomOf(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** @template Item @param {Item[]} items @param {() => number} random */
function shuffled(items, random) {
  const result = [...items];
  for (let last = result.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [result[last], result[other]] = [result[other], result[last]];
  }
  return result;
}
