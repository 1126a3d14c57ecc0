import { setTimeout as delay } from 'node:timers/promises';

/**
 * Waits; a signal that aborts ends the waiting, without an error.
 * @param ms how long, in milliseconds
 * @param options.ref false: the process may end meanwhile
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
