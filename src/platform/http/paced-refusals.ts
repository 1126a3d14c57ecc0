import { setTimeout as delay } from 'node:timers/promises';

/** The time between two refusals of one caller, in milliseconds. The first ones come at once. */
const gapMs = 10;
const atOnce = 20;
/** The longest delay, in milliseconds. A caller with a thousand connections waits so long with each of them. */
const maxDelayMs = 5_000;

/** Spreads the refusals of a caller that calls again and again: a client that gets its answer later asks less often. */
export class PacedRefusals {
  /** When the next refusal of a caller is due. */
  private readonly due = new Map<string, number>();

  /** Waits until the caller may be told. */
  async next(caller: string): Promise<void> {
    const now = performance.now();
    const due = Math.max(this.due.get(caller) ?? 0, now - atOnce * gapMs);
    this.due.set(caller, Math.min(due + gapMs, now + maxDelayMs));
    if (this.due.size > 1_000)
      for (const [each, at] of this.due) if (at < now - atOnce * gapMs) this.due.delete(each);
    if (due > now) await delay(due - now);
  }
}
