import { setTimeout as delay } from 'node:timers/promises';

/** @throws when `work` takes longer than `ms` */
export async function withDeadline<Result>(work: Promise<Result>, ms: number): Promise<Result> {
  const timer = new AbortController();
  const timeout = delay(ms, undefined, { signal: timer.signal, ref: false }).then(() => {
    throw new Error(`The page did not answer within ${ms} ms.`);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    timer.abort();
    timeout.catch(() => undefined);
  }
}

/** What `work` comes to within `ms`, else undefined. */
export async function within<Result>(
  work: Promise<Result> | undefined,
  ms: number,
): Promise<Result | undefined> {
  const timer = new AbortController();
  const timeout = delay(ms, undefined, { signal: timer.signal, ref: false }).catch(() => undefined);
  try {
    return await Promise.race([work, timeout]);
  } finally {
    timer.abort();
  }
}
