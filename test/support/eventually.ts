import { setTimeout as delay } from 'node:timers/promises';

const lookEveryMs = 20;

/**
 * The poller of all tests: asks until `probe` gives something, and says what it saw last when that does not come in time.
 * A probe that throws is asked again, so that it may hold an `expect`.
 */
export async function eventually<Value>(
  what: string,
  probe: () => Value | Promise<Value>,
  timeoutMs = 30_000,
): Promise<Exclude<Value, undefined | false | null | void>> {
  const deadline = Date.now() + timeoutMs;
  let last: unknown;
  while (Date.now() < deadline) {
    try {
      const value = await probe();
      if (value) return value as Exclude<Value, undefined | false | null | void>;
      last = value;
    } catch (error) {
      last = error;
    }
    await delay(lookEveryMs);
  }
  throw new Error(`${what}: not within ${timeoutMs} ms; last seen: ${String(last)}`, { cause: last });
}
