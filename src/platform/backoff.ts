/** The bounds of a random factor. It spreads retries, so that jobs that failed together do not retry together. */
export type Jitter = readonly [min: number, max: number];

/**
 * The wait after a failed attempt, in milliseconds.
 * @param attempt the number of the failed attempt, 1 for the first
 * @param waitsMs the waits after the first, second, … attempt. The last wait repeats. An empty list: no wait
 */
export function backoffAfter(attempt: number, waitsMs: readonly number[], jitter: Jitter = [1, 1]): number {
  return jittered(waitsMs[Math.min(attempt, waitsMs.length) - 1] ?? 0, jitter);
}

/** A time multiplied by a random factor, in whole milliseconds. */
export function jittered(ms: number, [min, max]: Jitter): number {
  return Math.round(ms * (min + (max - min) * Math.random()));
}
