import type { Problem } from '../errors/problem.js';
import type { SharedCount, SharedCounts } from './shared-counts.js';

/** A limit of what a caller does at the same time, in all processes together. */
export class ConcurrencyLimit {
  /** Only the callers that are inside this process. */
  private readonly counts = new Map<string, SharedCount>();

  /**
   * @param name unique; a part of the id in Redis
   * @param refusal makes the error of a caller who has reached the limit
   */
  constructor(
    private readonly shared: SharedCounts,
    private readonly name: string,
    private readonly limit: number,
    private readonly refusal: (limit: number) => Problem,
  ) {}

  /** How many are inside this process, of all callers. */
  get count(): number {
    return [...this.counts.values()].reduce((sum, { own }) => sum + own, 0);
  }

  /**
   * Counts one for a caller, until the returned function is called for the first time.
   * @throws what `refusal` makes
   */
  enter(caller: string): () => void {
    const count = this.counts.get(caller) ?? {
      id: `${this.name}:${caller}`,
      kind: 'present',
      limit: this.limit,
      own: 0,
      others: 0,
      endsAt: Infinity,
      known: 0,
    };
    if (count.own + count.others >= this.limit) throw this.refusal(this.limit);
    this.counts.set(caller, count);
    count.own += 1;
    this.shared.touch(count);
    let isIn = true;
    return () => {
      if (!isIn) return;
      isIn = false;
      count.own -= 1;
      this.shared.touch(count);
      if (count.own === 0) this.counts.delete(caller);
    };
  }
}
