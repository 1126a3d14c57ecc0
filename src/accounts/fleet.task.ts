import { Inject, Injectable } from '@nestjs/common';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { AssignmentsService } from './assignments.service.js';

/** The wait after a failover that moved no account. */
const retryMs = 2_000;

/** Takes accounts over from dead instances, places accounts that wait for room, and begins moves. */
@Injectable()
export class FleetTask implements ScheduledTask {
  readonly name = 'fleet';
  readonly everyMs = 500;
  /** The expired leases by instance: the end of the lease in PostgreSQL, and when this process first saw it expired, by its monotonic clock. */
  private readonly expired = new Map<string, { leaseExpiresAt: string; since: number; notBefore: number }>();

  constructor(
    private readonly assignments: AssignmentsService,
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  async run(): Promise<void> {
    await this.assignments.markOrphans();
    for (const instanceId of await this.deadInstances()) {
      const moved = await this.assignments.failOver(instanceId);
      if (moved > 0) this.logger.warn({ instanceId, moved }, 'accounts taken over from a dead instance');
      // The remaining accounts wait for their server: checking them twice a second is useless.
      else this.expired.get(instanceId)!.notBefore = performance.now() + retryMs;
    }
    await this.assignments.placeWaiting();
    await this.assignments.advanceMoves();
  }

  /**
   * The instances whose lease this process has seen expired for the whole takeover margin. The stored end of the lease is not
   * enough: after an outage of PostgreSQL all leases are expired, and the instances must get time to renew them.
   */
  private async deadInstances(): Promise<string[]> {
    const now = performance.now();
    const expired = await this.assignments.expiredInstances();
    const ids = new Set(expired.map(({ id }) => id));
    for (const id of this.expired.keys()) if (!ids.has(id)) this.expired.delete(id);
    for (const { id, leaseExpiresAt } of expired) {
      if (this.expired.get(id)?.leaseExpiresAt === leaseExpiresAt) continue;
      this.expired.set(id, { leaseExpiresAt, since: now, notBefore: 0 });
    }
    return expired
      .map(({ id }) => id)
      .filter((id) => {
        const { since, notBefore } = this.expired.get(id)!;
        return now - since >= this.config.instance.takeoverMarginMs && now >= notBefore;
      });
  }
}
