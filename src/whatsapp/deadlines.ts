/** @throws when `work` takes longer than `ms` */
export async function withDeadline<Result>(work: Promise<Result>, ms: number): Promise<Result> {
  return race(work, ms, (_resolve, reject) => reject(new Error(`The page did not answer within ${ms} ms.`)));
}

/** What `work` comes to within `ms`, else undefined. */
export async function within<Result>(
  work: Promise<Result> | undefined,
  ms: number,
): Promise<Result | undefined> {
  return race<Result | undefined>(work, ms, (resolve) => resolve(undefined));
}

/** A bare timer: every send has one, and an abort signal with its errors costs more than the rest of the send here. */
async function race<Result>(
  work: Promise<Result> | undefined,
  ms: number,
  onLate: (resolve: (value: Result | PromiseLike<Result>) => void, reject: (error: Error) => void) => void,
): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Result>((resolve, reject) => {
    timer = setTimeout(() => onLate(resolve, reject), ms).unref();
  });
  try {
    return await Promise.race([work as Promise<Result>, late]);
  } finally {
    clearTimeout(timer);
  }
}
