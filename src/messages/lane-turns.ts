import { strictOrder } from './message-rows.js';

/** How long a lane that was served counts as one that has something to send, in milliseconds. */
const recentMs = 10_000;
const lookAgainMs = 1_000;
/** No lane sends more than so many in a row while others wait. */
const longestTurn = 50;
const campaign = 0;
const urgent = strictOrder[0]!;

interface Lane {
  accountId: string;
  workspaceId: string;
}

interface Memory {
  workspaceId: string;
  servedAt: number;
  /** Messages of other priorities since the last one of a campaign. */
  sinceCampaign: number;
}

/**
 * What one worker remembers of the lanes that it serves, so that none gets less than its share:
 * - campaigns within a lane: one of `1 / campaignShare` messages may be a campaign's although a high or normal one waits;
 * - workspaces: heads of lanes take turns in a queue, so that a workspace with many lanes would get as many turns. A lane's
 *   turn is therefore longer the fewer lanes its workspace has: weighted round robin (Katevenis et al., 1991), the weights
 *   chosen so that every workspace gets the same.
 */
export class LaneTurns {
  private readonly lanes = new Map<string, Memory>();
  private lanesOf = new Map<string, number>();
  private most = 1;
  private lookedAt = -Infinity;

  /** @param campaignShare from 0 (campaigns only when nothing else waits) to 1 */
  constructor(
    private readonly campaignShare: number,
    private readonly clock: () => number = () => performance.now(),
  ) {}

  /** Remembers that a message of a lane is being sent. */
  note({ accountId, workspaceId }: Lane, priority: number): void {
    const sinceCampaign = priority === campaign ? 0 : (this.lanes.get(accountId)?.sinceCampaign ?? 0) + 1;
    this.lanes.set(accountId, { workspaceId, servedAt: this.clock(), sinceCampaign });
  }

  /** The priorities of `served` in the order in which the lane is to be sent now. */
  order(accountId: string, served: readonly number[]): readonly number[] {
    const { sinceCampaign = 0 } = this.lanes.get(accountId) ?? {};
    if (this.campaignShare <= 0 || sinceCampaign + 1 < 1 / this.campaignShare) return served;
    // Urgent ones are behind nobody.
    const rank = (priority: number) => (priority === urgent ? 0 : priority === campaign ? 1 : 2);
    return [...served].sort((a, b) => rank(a) - rank(b));
  }

  /** How many messages a lane of that workspace may send in a row while others wait. */
  turn(workspaceId: string): number {
    if (this.clock() - this.lookedAt > lookAgainMs) this.countLanes();
    return Math.min(longestTurn, Math.max(1, Math.round(this.most / (this.lanesOf.get(workspaceId) ?? 1))));
  }

  private countLanes(): void {
    this.lookedAt = this.clock();
    this.lanesOf = new Map();
    for (const [accountId, { workspaceId, servedAt }] of this.lanes) {
      if (this.lookedAt - servedAt > recentMs) this.lanes.delete(accountId);
      else this.lanesOf.set(workspaceId, (this.lanesOf.get(workspaceId) ?? 0) + 1);
    }
    this.most = Math.max(1, ...this.lanesOf.values());
  }
}
