import { Injectable } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import type { EntityManager } from 'typeorm';
import type { Campaign } from './campaign.entity.js';
import { allowedUntil, compileSendingTimes, nextAllowed, type SendingPlan } from './sending-windows.js';

const plansKept = 1_000;

/**
 * The zones of a campaign: recipients with the same clock. Each has its present window, or the next one, as two times in its row, so that
 * SQL alone can say who may get a message now.
 */
@Injectable()
export class ZonesService {
  /** By the sending times as text. */
  private readonly plans = new LRUCache<string, SendingPlan>({ max: plansKept });

  /** The sending times of a campaign, prepared. */
  planOf({ times }: Pick<Campaign, 'times'>): SendingPlan {
    const key = JSON.stringify(times);
    const known = this.plans.get(key);
    if (known) return known;
    const plan = compileSendingTimes(times ?? {});
    this.plans.set(key, plan);
    return plan;
  }

  /**
   * Finds the windows of the zones whose window has closed.
   * @returns the zones that never open
   */
  async refresh(manager: EntityManager, campaign: Pick<Campaign, 'id' | 'times'>): Promise<string[]> {
    const rows = await manager.query<{ zone: string; now: Date }[]>(
      'select zone, now() as now from campaign_zones where campaign_id = $1 and closes_at <= now() order by zone for update',
      [campaign.id],
    );
    if (rows.length === 0) return [];
    const plan = this.planOf(campaign);
    const windows = rows.map(({ zone, now }) => {
      const opens = nextAllowed(zone, plan, now);
      return { zone, opens, closes: opens && allowedUntil(zone, plan, opens) };
    });
    await manager.query(
      `update campaign_zones z set opens_at = given.opens, closes_at = given.closes
       from unnest($2::text[], $3::timestamptz[], $4::timestamptz[]) as given (zone, opens, closes)
       where z.campaign_id = $1 and z.zone = given.zone`,
      [
        campaign.id,
        windows.map(({ zone }) => zone),
        windows.map(({ opens }) => opens?.toISOString() ?? 'infinity'),
        // A zone that never opens is looked at again: the sending times may change.
        windows.map(({ opens, closes }) => (opens ? (closes?.toISOString() ?? 'infinity') : '-infinity')),
      ],
    );
    return windows.flatMap(({ zone, opens }) => (opens ? [] : [zone]));
  }

  /** After a change of the sending times: all windows are found again, and who waited for a window waits for the new one. */
  async reset(manager: EntityManager, campaign: Pick<Campaign, 'id' | 'times'>): Promise<string[]> {
    await manager.query(
      `update campaign_zones set opens_at = 'infinity', closes_at = '-infinity' where campaign_id = $1`,
      [campaign.id],
    );
    const never = await this.refresh(manager, campaign);
    await manager.query(
      `update messages set status = 'queued', scheduled_for = null, next_attempt_at = now()
       where campaign_id = $1 and stage = 'scheduled' and attempts = 0`,
      [campaign.id],
    );
    await this.postpone(manager, campaign.id);
    return never;
  }

  /** Messages that an account has already wait until the window of their recipient opens. Without an id: of all running campaigns. */
  async postpone(manager: EntityManager, campaignId: string | null = null): Promise<void> {
    await manager.query(
      // First the messages: they are few.
      `with early as materialized (
         select m.id, m.campaign_id from campaigns c join messages m on m.campaign_id = c.id
         where ${campaignId === null ? `c.status = 'running' and $1::uuid is null` : 'c.id = $1'} and c.times is not null
           and m.stage is not null and m.stage = 'queued' and m.attempts = 0)
       update messages m set status = 'scheduled', scheduled_for = z.opens_at
       from early join campaign_recipients r on r.campaign_id = early.campaign_id and r.id = early.id
         join campaign_zones z on z.campaign_id = r.campaign_id and z.zone = r.zone
       where m.id = early.id and m.stage = 'queued' and m.attempts = 0 and z.opens_at > now() and z.opens_at < 'infinity'`,
      [campaignId],
    );
  }
}
