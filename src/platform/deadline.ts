/** Waits for `work` at most `ms` milliseconds. @throws the error of `timeoutError` after that time; the work itself goes on */
export async function withDeadline<Result>(
  work: Promise<Result>,
  ms: number,
  timeoutError: () => Error,
): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(timeoutError()), ms);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
