import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { QueuesService } from '../queues/queues.service.js';
import { hintOf, laneColumns, type WebhookLane } from './webhook-sequences.js';

/** Short enough that nobody notices: readers of the log stop at the oldest transaction that runs. */
const batchSize = 1_000;
/** How far the place in the log may stay behind while nobody listens. */
const idleMs = 10_000;

/**
 * SQL that adds lanes for deliveries, `rows (webhook_id, lane_id, workspace_id)`, and wakes those that sleep; one whose head waits
 * for its next attempt goes on waiting, as later deliveries wait behind it. Always in one order, so that two who do it do not
 * wait for each other for ever.
 */
export const wakeLanes = (rows: string) => `insert into webhook_lanes (webhook_id, lane_id, workspace_id)
  select distinct webhook_id, lane_id, workspace_id from ${rows} order by webhook_id, lane_id
  on conflict (webhook_id, lane_id) do update set version = webhook_lanes.version + 1,
    next_attempt_at = case when webhook_lanes.next_attempt_at = 'infinity' then now() else webhook_lanes.next_attempt_at end
  returning webhook_id, lane_id, workspace_id, next_attempt_at`;

/** Reads the log of events in its order, and makes a delivery of each for every endpoint that wants it: once, whoever dies. */
@Injectable()
export class WebhookFanOut {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly queues: QueuesService,
  ) {}

  /** Makes the deliveries of everything that has happened by now, and puts their lanes into the queue. */
  async run(): Promise<void> {
    while (await this.hasMore()) {
      const due = await this.step();
      if (!due) return;
      await this.queues.put(due.map(hintOf));
    }
  }

  /** One look that costs nothing when nothing has happened or nobody listens. */
  private async hasMore(): Promise<boolean> {
    const [place] = await this.database.query(
      `select exists (select from webhooks where is_enabled) as is_wanted,
         c.moved_at < now() - ${idleMs} * interval '1 millisecond' as is_behind,
         -- As the first entry of its index: asked whether one exists, PostgreSQL may read the whole log up to it.
         (select true from events e where (e.transaction_id, e.id) > (c.transaction_id, c.event_id)
           and e.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
           order by e.transaction_id, e.id limit 1) as has_more
       from webhook_cursor c`,
    );
    if (!place?.has_more || place.is_wanted) return place?.has_more ?? false;
    // Nobody wants what is past: the place moves on, so that the first endpoint finds no mountain.
    if (place.is_behind) await this.skip();
    return false;
  }

  private async skip(): Promise<void> {
    await this.database.query(
      `update webhook_cursor set moved_at = now(), event_id = 0, transaction_id = pg_snapshot_xmin(pg_current_snapshot())
       where transaction_id < pg_snapshot_xmin(pg_current_snapshot()) and not exists (select from webhooks where is_enabled)`,
    );
  }

  /** One step along the log. @returns the lanes that are due by it; null when another scheduler is at it */
  private async step(): Promise<WebhookLane[] | null> {
    return this.database.transaction(async (manager) => {
      const [place] = await manager.query(
        'select transaction_id::text, event_id from webhook_cursor for update skip locked',
      );
      if (!place) return null;
      return manager.query(
        `with batch as materialized (
           select id, transaction_id, type, workspace_id, account_id from events
           where (transaction_id, id) > ($1::text::xid8, $2::bigint)
             and transaction_id < pg_snapshot_xmin(pg_current_snapshot())
           order by events.transaction_id, id limit ${batchSize}),
         made as (
           insert into webhook_deliveries (id, workspace_id, webhook_id, transaction_id, event_id, type, account_id)
           select webhook_delivery_id(), w.workspace_id, w.id, b.transaction_id, b.id, b.type, b.account_id
           from batch b join webhooks w on w.workspace_id = b.workspace_id
           where w.is_enabled and b.transaction_id >= w.active_from and webhook_wants(w, b.type, b.account_id)
           order by b.transaction_id, b.id
           on conflict (webhook_id, event_id) do nothing
           returning webhook_id, lane_id, workspace_id),
         woken as (${wakeLanes('made')}),
         moved as (update webhook_cursor c set transaction_id = last.transaction_id, event_id = last.id, moved_at = now()
           from (select transaction_id, id from batch order by transaction_id desc, id desc limit 1) last)
         select ${laneColumns('woken')} from woken where next_attempt_at <= now()`,
        [place.transaction_id, place.event_id],
      );
    });
  }
}
