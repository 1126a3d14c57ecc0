/** How long a part of long work may hold the event loop, in milliseconds. */
const sliceMs = 10;
/** The longest pause after a turn, in milliseconds. */
const maxPauseMs = 200;
/** Work that waits for its turn, by the caller that it serves. The first caller is next. */
const waiting = new Map<string, (() => void)[]>();
let isTaken = false;

/**
 * Waits for a turn to do work that holds the event loop for milliseconds. The process gives one turn at a time, and the callers
 * take turns. After a turn, the event loop is free of such work for as long as the turn took; after a turn of more than two
 * slices, such as the parsing of 8 MB, for four times as long, so that few requests of others meet such a turn.
 */
export function longTurn(caller: string): Promise<void> {
  return new Promise((resolve) => {
    const own = waiting.get(caller);
    if (own) own.push(resolve);
    else waiting.set(caller, [resolve]);
    if (!isTaken) give();
  });
}

function give(): void {
  const [next] = waiting;
  isTaken = next !== undefined;
  if (!next) return;
  const [caller, own] = next;
  const [begin] = own.splice(0, 1);
  // The caller goes to the end of the line.
  waiting.delete(caller);
  if (own.length > 0) waiting.set(caller, own);
  const began = performance.now();
  begin!();
  setImmediate(() => {
    const took = performance.now() - began;
    setTimeout(give, Math.min(took > 2 * sliceMs ? 4 * took : took, maxPauseMs));
  });
}

/** Divides long work into turns: `await turns.next()` before each part of the work. */
export class Turns {
  private began = -Infinity;

  constructor(private readonly caller: string) {}

  /** Waits for the next turn if this turn is over. */
  async next(): Promise<void> {
    if (performance.now() - this.began < sliceMs) return;
    await longTurn(this.caller);
    this.began = performance.now();
  }
}
