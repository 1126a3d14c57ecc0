/** Figures of many measurements. */

/** @param {number[]} values */
export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (/** @type {number} */ index) => sorted[index] ?? NaN;
  return (at(Math.floor((sorted.length - 1) / 2)) + at(Math.ceil((sorted.length - 1) / 2))) / 2;
}

/** @typedef {{ p50: number, p95: number, p99: number, max: number }} Percentiles */

/** @param {number[]} values @returns {Percentiles} */
export function percentiles(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (/** @type {number} */ share) => sorted[Math.floor(share * (sorted.length - 1))] ?? 0;
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1) };
}

/** @param {number[]} values */
export const sum = (values) => values.reduce((total, value) => total + value, 0);

/**
 * By how much each figure grew, divided by a number of units.
 *
 * @param {Record<string, number>} before
 * @param {Record<string, number>} after
 * @param {number} units
 * @returns {Record<string, number>}
 */
export const increase = (before, after, units) =>
  Object.fromEntries(
    Object.entries(after).map(([name, value]) => [name, (value - (before[name] ?? 0)) / units]),
  );

/** @param {number} started a value of performance.now() */
export const secondsSince = (started) => `${((performance.now() - started) / 1000).toFixed(1)} s`;
