import { pause } from './pause.js';

export interface PollOptions {
  /** The pause between two questions, in milliseconds; a function is given how many were asked. */
  pauseMs: number | ((asked: number) => number);
  /** When no further question is asked, in milliseconds from now; without it there is no end. */
  limitMs?: number;
  /** Ends the waiting early. */
  signal?: AbortSignal | undefined;
}

/**
 * Asks until the answer is yes (anything but null or false), or the time is over. The first question is asked at once, the
 * last one when the time is over.
 * @param ask is given how many questions were asked before
 * @returns the last answer
 * @throws what `ask` throws
 */
export async function poll<Answer>(
  ask: (asked: number) => Promise<Answer>,
  { pauseMs, limitMs = Infinity, signal }: PollOptions,
): Promise<Answer> {
  const deadline = performance.now() + limitMs;
  for (let asked = 0; ;) {
    const answer = await ask(asked);
    asked += 1;
    const leftMs = deadline - performance.now();
    if ((answer !== null && answer !== false) || leftMs <= 0 || signal?.aborted) return answer;
    // A timer drops fractions of a millisecond, and would end before the time is over.
    const wantedMs = typeof pauseMs === 'number' ? pauseMs : pauseMs(asked);
    await pause(Math.ceil(Math.min(wantedMs, leftMs)), { signal });
    if (signal?.aborted) return answer;
  }
}
