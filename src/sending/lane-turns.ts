/** How long a lane that was served counts as one that has something to send, in milliseconds. */
const recentMs = 10_000;
const lookAgainMs = 1_000;
/** No lane sends more than so many in a row while others wait. */
const longestTurn = 50;

/**
 * How long a lane's turn is in one worker. Heads of lanes take turns in a queue, so a workspace with many lanes would get as
 * many turns. A turn is therefore longer the fewer lanes its workspace has: weighted round robin (Katevenis et al., 1991),
 * the weights chosen so that every workspace gets the same.
 */
export class LaneTurns {
  private readonly lanes = new Map<string, { workspaceId: string; servedAt: number }>();
  private lanesOf = new Map<string, number>();
  private most = 1;
  private lookedAt = -Infinity;

  constructor(private readonly clock: () => number = () => performance.now()) {}

  /** Remembers that a lane is served. */
  note({ accountId, workspaceId }: { accountId: string; workspaceId: string }): void {
    this.lanes.set(accountId, { workspaceId, servedAt: this.clock() });
  }

  /** How many messages a lane of that workspace may send in a row while others wait. */
  length(workspaceId: string): number {
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
