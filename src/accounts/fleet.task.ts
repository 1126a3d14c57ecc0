import { Inject, Injectable } from '@nestjs/common';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { AssignmentsService } from './assignments.service.js';

/** When a failover that moved nothing is tried again. */
const againMs = 2_000;

/** Takes accounts over from instances that are gone, places those that wait for room, and carries out moves. */
@Injectable()
export class FleetTask implements ScheduledTask {
  readonly name = 'fleet';
  readonly everyMs = 500;
  /** Since when each lease has been seen to be over: its end as PostgreSQL has it, and this process's monotonic clock. */
  private readonly expired = new Map<string, { leaseExpiresAt: string; since: number; notBefore: number }>();

  constructor(
    private readonly assignments: AssignmentsService,
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  async run(): Promise<void> {
    await this.assignments.markOrphans();
    for (const instanceId of await this.gone()) {
      const moved = await this.assignments.failOver(instanceId);
      if (moved > 0)
        this.logger.warn({ instanceId, moved }, 'accounts taken over from an instance that is gone');
      // What has to wait for its server is not looked at twice a second.
      else this.expired.get(instanceId)!.notBefore = performance.now() + againMs;
    }
    await this.assignments.placeWaiting();
    await this.assignments.advanceMoves();
  }

  /**
   * The instances whose lease has been seen to be over for a whole margin. Seen, not only reckoned: when PostgreSQL itself
   * was away all leases are over at once, and the instances must get time to renew them.
   */
  private async gone(): Promise<string[]> {
    const now = performance.now();
    const seen = await this.assignments.expiredInstances();
    const ids = new Set(seen.map(({ id }) => id));
    for (const id of this.expired.keys()) if (!ids.has(id)) this.expired.delete(id);
    for (const { id, leaseExpiresAt } of seen) {
      if (this.expired.get(id)?.leaseExpiresAt === leaseExpiresAt) continue;
      this.expired.set(id, { leaseExpiresAt, since: now, notBefore: 0 });
    }
    return seen
      .map(({ id }) => id)
      .filter((id) => {
        const { since, notBefore } = this.expired.get(id)!;
        return now - since >= this.config.instance.takeoverMarginMs && now >= notBefore;
      });
  }
}
