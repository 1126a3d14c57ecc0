/** A time from a stranger's device, which may be nonsense: an invalid time or a time in the future becomes now. */
export function timeOf(ms: number): Date {
  return new Date(ms > 0 ? Math.min(ms, Date.now()) : Date.now());
}
