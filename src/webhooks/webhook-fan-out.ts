import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { QueuesService } from '../queues/queues.service.js';
import { wanted } from './webhooks.service.js';
import { hintOf, sequenceColumns, type WebhookSequence } from './webhook-sequences.js';

/** Keeps transactions short: readers of the log stop at the oldest transaction that runs. */
const batchSize = 1_000;
/** How far the place in the log may stay behind while no webhook is enabled. */
const idleMs = 10_000;

/**
 * SQL that adds the sequences of deliveries, `rows (webhook_id, lane_id, workspace_id)`, and makes empty sequences due. A
 * sequence whose head waits for its next attempt goes on waiting, because later deliveries wait behind the head. The order
 * of the rows is fixed, so that concurrent statements do not deadlock.
 */
export const wakeSequences = (rows: string) => `insert into webhook_lanes (webhook_id, lane_id, workspace_id)
  select distinct webhook_id, lane_id, workspace_id from ${rows} order by webhook_id, lane_id
  on conflict (webhook_id, lane_id) do update set version = webhook_lanes.version + 1,
    next_attempt_at = case when webhook_lanes.next_attempt_at = 'infinity' then now() else webhook_lanes.next_attempt_at end
  returning webhook_id, lane_id, workspace_id, next_attempt_at`;

/** Reads the log of events in order, and creates a delivery for every endpoint that wants an event: exactly one, even after a crash. */
@Injectable()
export class WebhookFanOut {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly queues: QueuesService,
  ) {}

  /** Creates the deliveries of all events up to now, and queues their sequences. */
  async run(): Promise<void> {
    while (await this.hasMore()) {
      const due = await this.step();
      if (!due) return;
      await this.queues.put(due.map(hintOf));
    }
  }

  /** A cheap query for the usual case: no new event, or no enabled webhook. */
  private async hasMore(): Promise<boolean> {
    const [place] = await this.database.query<
      { is_wanted: boolean; is_behind: boolean; has_more: boolean | null }[]
    >(
      `select exists (select from webhooks where is_enabled) as is_wanted,
         c.moved_at < now() - ${idleMs} * interval '1 millisecond' as is_behind,
         -- "order by" makes PostgreSQL take the first entry of the index: for "exists" it may read the whole log.
         (select true from events e where (e.transaction_id, e.id) > (c.transaction_id, c.event_id)
           and e.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
           order by e.transaction_id, e.id limit 1) as has_more
       from webhook_cursor c`,
    );
    if (!place?.has_more || place.is_wanted) return place?.has_more ?? false;
    // No webhook wants the past events: the place moves on, so that the first webhook does not have to read them all.
    if (place.is_behind) await this.skip();
    return false;
  }

  private async skip(): Promise<void> {
    await this.database.query(
      `update webhook_cursor set moved_at = now(), event_id = 0, transaction_id = pg_snapshot_xmin(pg_current_snapshot())
       where transaction_id < pg_snapshot_xmin(pg_current_snapshot()) and not exists (select from webhooks where is_enabled)`,
    );
  }

  /** Reads one batch of the log. @returns the sequences that are due then; null if another scheduler reads the log */
  private async step(): Promise<WebhookSequence[] | null> {
    return this.database.transaction(async (manager) => {
      const [place] = await manager.query<{ transaction_id: string; event_id: string }[]>(
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
           where w.is_enabled and b.transaction_id >= w.active_from and ${wanted('b')}
           order by b.transaction_id, b.id
           on conflict (webhook_id, event_id) do nothing
           returning webhook_id, lane_id, workspace_id),
         woken as (${wakeSequences('made')}),
         moved as (update webhook_cursor c set transaction_id = last.transaction_id, event_id = last.id, moved_at = now()
           from (select transaction_id, id from batch order by transaction_id desc, id desc limit 1) last)
         select ${sequenceColumns('woken')} from woken where next_attempt_at <= now()`,
        [place.transaction_id, place.event_id],
      );
    });
  }
}
