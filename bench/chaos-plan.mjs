/** The faults of a chaos run and their order: the same seed gives the same faults. */

/**
 * @typedef {object} Fault
 * @property {'kill' | 'hang' | 'flush' | 'supervisord' | 'sandbox'} kind
 * @property {string} what the program that has the fault, or the name of a fault of the sandbox
 * @property {number} pick 0 to 1: which of several such programs or accounts
 * @property {number} forMs how long a hang or a fault of the sandbox lasts
 * @property {number} pauseMs until the next fault
 */

/** @param {number} count @param {Fault['kind']} kind @param {string} what */
const times = (count, kind, what) => Array.from({ length: count }, () => ({ kind, what }));

/** Each round has all of these once, in a random order. */
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
  ...times(2, 'sandbox', 'failed sends'),
  ...times(2, 'sandbox', 'offline'),
];

/** The settings of each fault of the sandbox. Each fault hits one account. @type {Record<string, object>} */
export const sandboxFaults = {
  'cut connections': { disconnectRate: 0.4 },
  'lost acks': { dropAckRate: 0.4 },
  'slow acks': { ackDelayMs: 1_500, receiptDelayMs: 300 },
  refusals: { refuseRate: 0.4 },
  'failed sends': { sendFailRate: 0.4 },
  offline: { offline: true },
};

/** The endless faults of a seed. @param {number} seed @returns {Generator<Fault, never>} */
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
 * Random numbers from 0 to 1 that depend on a seed only: Math.random takes no seed. (mulberry32, by Tommy Ettinger, public
 * domain)
 *
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
  const at = (/** @type {number} */ index) => /** @type {Item} */ (result[index]);
  for (let last = result.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [result[last], result[other]] = [at(other), at(last)];
  }
  return result;
}
