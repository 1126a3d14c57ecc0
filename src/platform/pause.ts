import { setTimeout as delay } from 'node:timers/promises';

/**
 * Waits. An abort of the signal ends the wait early, without an error.
 * @param ms how long, in milliseconds
 * @param options.ref false: the wait does not keep the process alive
 */
export async function pause(
  ms: number,
  options: { signal?: AbortSignal | undefined; ref?: boolean } = {},
): Promise<void> {
  try {
    await delay(ms, undefined, options);
  } catch (error) {
    if (!options.signal?.aborted) throw error;
  }
}
