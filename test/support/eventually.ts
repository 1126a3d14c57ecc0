import { setTimeout as delay } from 'node:timers/promises';

/** Most probes ask a whole system: looking rarely leaves the processors to what is waited for. */
const firstPauseMs = 20;
const longestPauseMs = 250;
/** A pause is at most this share of the time waited so far. */
const pauseShare = 0.1;

/**
 * The poller of all tests: asks until `probe` gives something, and says what it saw last when that does not come in time.
 * A probe that throws is asked again, so that it may hold an `expect`.
 */
export async function eventually<Value>(
  what: string,
  probe: () => Value | Promise<Value>,
  timeoutMs = 30_000,
): Promise<Exclude<Value, undefined | false | null | void>> {
  const begin = Date.now();
  const deadline = begin + timeoutMs;
  let last: unknown;
  while (Date.now() < deadline) {
    try {
      const value = await probe();
      if (value) return value as Exclude<Value, undefined | false | null | void>;
      last = value;
    } catch (error) {
      last = error;
    }
    await delay(Math.min(longestPauseMs, Math.max(firstPauseMs, (Date.now() - begin) * pauseShare)));
  }
  throw new Error(`${what}: not within ${timeoutMs} ms; last seen: ${String(last)}`, { cause: last });
}
