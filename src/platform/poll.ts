import { pause } from './pause.js';

export interface PollOptions {
  /** The pause between two attempts, in milliseconds. A function gets the number of attempts so far. */
  pauseMs: number | ((attempts: number) => number);
  /** The timeout in milliseconds. Without it, polling has no end. */
  limitMs?: number;
  /** Ends polling early. */
  signal?: AbortSignal | undefined;
}

/**
 * Calls `ask` until it returns a value other than null and false, or until the timeout. The first call is immediate, the last
 * call is at the timeout.
 * @param ask gets the number of earlier attempts
 * @returns the last answer
 * @throws what `ask` throws
 */
export async function poll<Answer>(
  ask: (attempts: number) => Promise<Answer>,
  { pauseMs, limitMs = Infinity, signal }: PollOptions,
): Promise<Answer> {
  const deadline = performance.now() + limitMs;
  let isLast = false;
  for (let attempts = 0; ;) {
    const answer = await ask(attempts);
    attempts += 1;
    const leftMs = deadline - performance.now();
    if ((answer !== null && answer !== false) || isLast || leftMs <= 0 || signal?.aborted) return answer;
    const wantedMs = typeof pauseMs === 'number' ? pauseMs : pauseMs(attempts);
    // A timer may fire a millisecond early, so the clock cannot tell whether the last attempt is due.
    isLast = wantedMs >= leftMs;
    await pause(Math.min(wantedMs, leftMs), { signal });
    if (signal?.aborted) return answer;
  }
}
