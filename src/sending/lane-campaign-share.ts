import { strictOrder } from './lane-order.js';

const campaign = 0;
const urgent = strictOrder[0]!;

/**
 * Keeps campaigns from starving: within a lane, one of `1 / share` messages may be a campaign's although a high or a normal
 * one waits. Urgent ones are behind nobody.
 */
export class LaneCampaignShare {
  /** By account: messages of other priorities since the last one of a campaign. */
  private readonly others = new Map<string, number>();

  /** @param share from 0 (campaigns only when nothing else waits) to 1 */
  constructor(private readonly share: number) {}

  /** Remembers that a message of a lane is being sent. */
  note(accountId: string, priority: number): void {
    if (this.share <= 0) return;
    if (priority === campaign) this.others.delete(accountId);
    else this.others.set(accountId, (this.others.get(accountId) ?? 0) + 1);
  }

  /** The priorities of `served` in the order in which the lane is to be sent now. */
  order(accountId: string, served: readonly number[]): readonly number[] {
    if (this.share <= 0 || (this.others.get(accountId) ?? 0) + 1 < 1 / this.share) return served;
    const rank = (priority: number) => (priority === urgent ? 0 : priority === campaign ? 1 : 2);
    return [...served].sort((a, b) => rank(a) - rank(b));
  }
}
