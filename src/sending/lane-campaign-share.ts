import { strictOrder } from './lane-order.js';

const campaign = 0;
const urgent = strictOrder[0]!;

/**
 * Keeps campaigns from starving: within a lane, one of every `1 / share` messages may be a campaign message although high or
 * normal messages wait. Urgent messages always come first.
 */
export class LaneCampaignShare {
  /** By account: how many messages of other priorities were sent since the last campaign message. */
  private readonly sentOthers = new Map<string, number>();

  /** @param share from 0 (campaigns only if no other message waits) to 1 */
  constructor(private readonly share: number) {}

  /** Counts a message of a lane that is being sent. */
  note(accountId: string, priority: number): void {
    if (this.share <= 0) return;
    if (priority === campaign) this.sentOthers.delete(accountId);
    else this.sentOthers.set(accountId, (this.sentOthers.get(accountId) ?? 0) + 1);
  }

  /** The priorities of `served`, in the order in which the lane sends them now. */
  order(accountId: string, served: readonly number[]): readonly number[] {
    if (this.share <= 0 || (this.sentOthers.get(accountId) ?? 0) + 1 < 1 / this.share) return served;
    const rank = (priority: number) => (priority === urgent ? 0 : priority === campaign ? 1 : 2);
    return [...served].sort((a, b) => rank(a) - rank(b));
  }
}
