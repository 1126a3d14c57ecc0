import type { NextFunction, Request, RequestHandler, Response } from 'express';

/** How long requests may begin in one round of the event loop, in milliseconds. The work that goes on has the rest of the round. */
const roundMs = 2;

/**
 * Middleware that begins requests in turns of their callers. Thousands of requests may arrive in one round of the event loop, and
 * the beginning of all of them (the key, the limits) would hold the loop for a second. Only a few begin in each round, and the
 * callers take turns. A request that is alone begins at once.
 * @param callerOf whom a request is for; it must be cheap
 */
export function beginInTurns(callerOf: (request: Request) => string): RequestHandler {
  /** What waits, by caller. The first caller is next. */
  const waiting = new Map<string, { response: Response; next: NextFunction }[]>();
  let usedMs = 0;
  let isScheduled = false;

  const begin = (next: NextFunction) => {
    const started = performance.now();
    next();
    usedMs += performance.now() - started;
    if (isScheduled) return;
    isScheduled = true;
    setImmediate(round);
  };

  const round = () => {
    isScheduled = false;
    usedMs = 0;
    while (usedMs < roundMs) {
      const [first] = waiting;
      if (!first) break;
      const [caller, own] = first;
      const { response, next } = own.shift()!;
      // The caller goes to the end of the line.
      waiting.delete(caller);
      if (own.length > 0) waiting.set(caller, own);
      // Its client is gone: nobody would see the answer.
      if (!response.closed) begin(next);
    }
    if (waiting.size === 0 || isScheduled) return;
    isScheduled = true;
    setImmediate(round);
  };

  return (request, response, next) => {
    if (waiting.size === 0 && usedMs < roundMs) {
      begin(next);
      return;
    }
    const caller = callerOf(request);
    const own = waiting.get(caller);
    if (own) own.push({ response, next });
    else waiting.set(caller, [{ response, next }]);
  };
}
