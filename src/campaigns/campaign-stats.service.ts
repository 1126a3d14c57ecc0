import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource, type EntityManager } from 'typeorm';
import { QueuesService } from '../queues/queues.service.js';
import type { Campaign } from './campaign.entity.js';
import type { CampaignSafetyDto } from './campaign-pacing.dto.js';

/** How many campaigns one run puts. The next run goes on. */
const maxJobs = 1_000;
/** How many changes one statement adds up. */
const maxChanges = 50_000;
/** Among how many of the last messages it looks for those that have ended since the start. */
const maxSearched = 5_000;

/**
 * Adds the changes of messages to the counts of their campaign. The counts that callers see are always exact, because a reader adds the
 * changes that are not yet added. A campaign ends here, when nobody waits any more.
 */
@Injectable()
export class CampaignStatsService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly queues: QueuesService,
  ) {}

  /** Puts a job for each campaign with changes. */
  async put(): Promise<void> {
    const changed = await this.database.query<{ id: string }[]>(
      `with recursive each as (
         (select campaign_id as id from campaign_changes order by campaign_id limit 1)
         union all
         select (select campaign_id from campaign_changes where campaign_id > each.id order by campaign_id limit 1) from each
         where each.id is not null)
       select id from each where id is not null limit ${maxJobs}`,
    );
    await this.queues.put(
      changed.map(({ id }) => ({
        queue: 'campaign-stats' as const,
        id: `campaign-${id}`,
        data: { campaignId: id },
      })),
    );
  }

  /** Adds up the changes of a campaign, tells its progress, and completes it when all its messages have reached an end. */
  async update(campaignId: string): Promise<void> {
    await this.database.transaction(async (manager) => {
      const [campaign] = await manager.query<Pick<Campaign, 'status' | 'safety'>[]>(
        'select status, safety from campaigns where id = $1 for no key update',
        [campaignId],
      );
      if (!campaign) {
        await manager.query('delete from campaign_changes where campaign_id = $1', [campaignId]);
        return;
      }
      const [row] = await manager
        .query<{ counts: Record<string, number>; has_changed: boolean }[]>(
          `with gone as (delete from campaign_changes where ctid = any(array(
             select ctid from campaign_changes where campaign_id = $1 limit ${maxChanges})) returning old_status, new_status, recipients),
         sums as (select status, sum(change) as change from (
             select new_status as status, recipients as change from gone union all select old_status, - recipients from gone) changes
           where status is not null group by status)
         update campaigns c set counts = c.counts || coalesce((select jsonb_object_agg(status, coalesce((c.counts ->> status)::bigint, 0) + change)
           from sums), '{}')
         where id = $1 returning counts, exists (select from gone) as has_changed`,
          [campaignId],
        )
        .then((result: unknown) => (result as [never[]])[0]);
      const { counts, has_changed: hasChanged } = row!;
      if (hasChanged && campaign.status !== 'draft')
        await manager.query(
          `insert into events (workspace_id, type, data) select c.workspace_id, 'campaign.progress', campaign_json(c) from campaigns c where id = $1`,
          [campaignId],
        );
      if (campaign.status === 'running') await this.pauseOnFailures(manager, campaignId, campaign.safety);
      const open = ['waiting', 'queued', 'scheduled', 'sending'].some((status) => (counts[status] ?? 0) > 0);
      if (campaign.status === 'running' && !open)
        // Another change may have come since: then the counts are not the last ones.
        await manager.query(
          `update campaigns set status = 'completed', finished_at = now()
           where id = $1 and status = 'running' and not exists (select from campaign_changes where campaign_id = $1)`,
          [campaignId],
        );
    });
  }

  /** Pauses a campaign of whose last messages too many have failed. */
  private async pauseOnFailures(
    manager: EntityManager,
    campaignId: string,
    safety: CampaignSafetyDto | null,
  ): Promise<void> {
    const { failedPercent = 30, ofLast = 50 } = safety ?? {};
    if (failedPercent === 100) return;
    await manager.query(
      `update campaigns c set status = 'paused', pause_reason = 'failure_rate'
       where id = $1 and (select count(*) = $3 and count(*) filter (where status = 'failed') * 100 > $2::float8 * count(*)
         from (select m.status from (select status, failed_at, sent_at from messages where campaign_id = $1 and stage is null
             order by id desc limit ${maxSearched}) m
           where coalesce(m.failed_at, m.sent_at) > c.watched_from limit $3::int) last)`,
      [campaignId, failedPercent, ofLast],
    );
  }
}
