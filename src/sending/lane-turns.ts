/** A lane that was served within this time counts as a lane with messages, in milliseconds. */
const recentMs = 10_000;
const recountMs = 1_000;
/** The longest turn of a lane, in messages, while other lanes wait. */
const maxTurn = 50;

/**
 * The length of a lane's turn in one worker. The heads of lanes take turns in a queue, so a workspace with many lanes gets many
 * turns. Therefore the turns of a workspace with few lanes are longer: weighted round robin (Katevenis et al., 1991), with
 * weights that give every workspace the same share.
 */
export class LaneTurns {
  private readonly lanes = new Map<string, { workspaceId: string; servedAt: number }>();
  private laneCounts = new Map<string, number>();
  private maxLanes = 1;
  private countedAt = -Infinity;

  constructor(private readonly clock: () => number = () => performance.now()) {}

  /** Records that a lane is served. */
  note({ accountId, workspaceId }: { accountId: string; workspaceId: string }): void {
    this.lanes.set(accountId, { workspaceId, servedAt: this.clock() });
  }

  /** How many messages a lane of the workspace may send in a row while other lanes wait. */
  length(workspaceId: string): number {
    if (this.clock() - this.countedAt > recountMs) this.countLanes();
    return Math.min(
      maxTurn,
      Math.max(1, Math.round(this.maxLanes / (this.laneCounts.get(workspaceId) ?? 1))),
    );
  }

  private countLanes(): void {
    this.countedAt = this.clock();
    this.laneCounts = new Map();
    for (const [accountId, { workspaceId, servedAt }] of this.lanes) {
      if (this.countedAt - servedAt > recentMs) this.lanes.delete(accountId);
      else this.laneCounts.set(workspaceId, (this.laneCounts.get(workspaceId) ?? 0) + 1);
    }
    this.maxLanes = Math.max(1, ...this.laneCounts.values());
  }
}
