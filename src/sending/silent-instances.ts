/** After an unanswered call, the instance gets no call for this time. */
const restMs = 1_000;
/** A probe that takes longer than this may be followed by another. */
const probeMs = 5_000;

/**
 * The instances that do not answer this worker: they hang, or the network is cut off while connections are open. Each call to
 * such an instance would block a slot until its timeout, and its accounts may have more heads than the worker has slots.
 * Therefore only one call at a time probes a silent instance. This is a circuit breaker.
 */
export class SilentInstances {
  /** For each silent instance: when the next call may be made. */
  private readonly nextAt = new Map<string, number>();
  private readonly answeredAt = new Map<string, number>();

  /** The clock is a property, so that a test can move it. */
  constructor(private clock: () => number = () => performance.now()) {}

  /** Whether to call an instance now. For a silent instance, the allowed call is the probe. */
  mayCall(url: string): boolean {
    const nextAt = this.nextAt.get(url);
    if (nextAt === undefined) return true;
    if (this.clock() < nextAt) return false;
    this.nextAt.set(url, this.clock() + probeMs);
    return true;
  }

  /** Records that an instance answered, or that the call failed at once. */
  noteAnswer(url: string): void {
    this.answeredAt.set(url, this.clock());
    this.nextAt.delete(url);
  }

  /** Records a call without an answer. If other calls were answered since it began, only its account hangs, not the instance. */
  noteSilence(url: string, calledAt: number): void {
    if ((this.answeredAt.get(url) ?? -Infinity) < calledAt) this.nextAt.set(url, this.clock() + restMs);
  }
}
