/** A factor between these two, drawn at random: what failed together is not tried again together. */
export type Jitter = readonly [least: number, most: number];

/**
 * How long to wait after a failed try, in milliseconds.
 * @param attempt the try that failed, 1 for the first
 * @param waitsMs the waits after the first, second, … try; the last one repeats. None: no wait
 */
export function backoffAfter(attempt: number, waitsMs: readonly number[], jitter: Jitter = [1, 1]): number {
  return jittered(waitsMs[Math.min(attempt, waitsMs.length) - 1] ?? 0, jitter);
}

/** A time multiplied by a random factor, in whole milliseconds. */
export function jittered(ms: number, [least, most]: Jitter): number {
  return Math.round(ms * (least + (most - least) * Math.random()));
}
