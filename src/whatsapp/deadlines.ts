import * as platform from '../platform/deadline.js';

/** @throws if `work` takes longer than `ms`; the work itself goes on */
export function withDeadline<Result>(work: Promise<Result>, ms: number): Promise<Result> {
  return platform.withDeadline(work, ms, () => new Error(`The page did not answer within ${ms} ms.`));
}

/** The result of `work`, or undefined if it takes longer than `ms`; the work itself goes on. */
export async function resultWithin<Result>(
  work: Promise<Result> | undefined,
  ms: number,
): Promise<Result | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ms).unref();
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
