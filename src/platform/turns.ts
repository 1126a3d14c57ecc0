import { setImmediate } from 'node:timers/promises';

/** How long work may hold the event loop, in milliseconds. */
const turnMs = 10;

/** Lets the event loop serve others during a long piece of work: `await turns.next()` before each part of the work. */
export class Turns {
  private began = performance.now();

  /** Waits for the next turn of the event loop if this turn is over. */
  async next(): Promise<void> {
    if (performance.now() - this.began < turnMs) return;
    await setImmediate();
    this.began = performance.now();
  }
}
