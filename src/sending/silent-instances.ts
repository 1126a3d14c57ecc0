/** How long after a call that was not answered nothing is asked of an instance. */
const restMs = 1_000;
/** How long the call that finds out whether an instance answers again may take before another one does. */
const probeMs = 5_000;

/**
 * Instances that answer nobody, as one worker sees them: halted, or cut off while connections are open. Each call of such a
 * one would keep a slot until it is given up, and its accounts may have more heads than there are slots. So one call at a
 * time finds out whether it answers again, and no other is made.
 */
export class SilentInstances {
  /** When the next call may be made of those that did not answer. */
  private readonly nextAt = new Map<string, number>();
  private readonly answeredAt = new Map<string, number>();

  constructor(private readonly clock: () => number = () => performance.now()) {}

  /** Whether to call an instance now. Who is let through to a silent one finds out for the others. */
  mayCall(url: string): boolean {
    const nextAt = this.nextAt.get(url);
    if (nextAt === undefined) return true;
    if (this.clock() < nextAt) return false;
    this.nextAt.set(url, this.clock() + probeMs);
    return true;
  }

  /** Remembers that an instance answered, or that asking it cost no time. */
  noteAnswer(url: string): void {
    this.answeredAt.set(url, this.clock());
    this.nextAt.delete(url);
  }

  /** Remembers that a call got no answer. When others did meanwhile it is its account that hangs, not the instance. */
  noteSilence(url: string, calledAt: number): void {
    if ((this.answeredAt.get(url) ?? -Infinity) < calledAt) this.nextAt.set(url, this.clock() + restMs);
  }
}
