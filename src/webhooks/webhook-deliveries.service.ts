import { Injectable } from '@nestjs/common';
import { InjectDataSource, InjectRepository } from '@nestjs/typeorm';
import { DataSource, LessThan, Repository } from 'typeorm';
import { given } from '../platform/database/given.js';
import { firstIdAt } from '../platform/database/ids.js';
import { parseCursor } from '../events/events.service.js';
import { Problem } from '../platform/errors/problem.js';
import { poll } from '../platform/poll.js';
import { QueuesService } from '../queues/queues.service.js';
import { WorkspacesService } from '../workspaces/workspaces.service.js';
import { WebhookDelivery, type DeliveryStatus } from './webhook-delivery.entity.js';
import { wakeSequences } from './webhook-fan-out.js';
import { headDueAt, hintOf, sequenceColumns, type WebhookSequence } from './webhook-sequences.js';
import { wanted } from './webhooks.service.js';

const day = 24 * 3_600_000;
/** Arrived deliveries are kept for a week, all others as long as the events themselves. */
const deliveredRetentionMs = 7 * day;
const retentionMs = 30 * day;
const batchSize = 5_000;
/** How many events one replay delivers. */
export const maxReplayedEvents = 10_000;
/** How long the deletion of a workspace waits for its webhooks. */
const farewellMs = 10_000;

export class DeliveryNotFound extends Problem {
  constructor(id: string) {
    super(
      404,
      'webhook.delivery_not_found',
      `There is no delivery ${id}: the log keeps arrived deliveries for 7 days, all others for 30. To deliver its event again: POST /webhooks/ID/replay.`,
    );
  }
}

interface DeliveryCounts {
  pending: number;
  failed: number;
  dead: number;
  attemptsDelivered: number;
  attemptsFailed: number;
}

interface Backlog {
  waiting: number;
  delayed: number;
  active: number;
  dead: number;
  oldestSeconds: number;
}

export interface Replay {
  /** How many events are delivered again, or for the first time. */
  count: number;
  /** The `after` of the next replay, if there are more events than one replay takes; else null. */
  nextAfter: string | null;
}

/** The log of deliveries, and the retries that a person asks for. */
@Injectable()
export class WebhookDeliveriesService {
  constructor(
    @InjectRepository(WebhookDelivery) private readonly deliveries: Repository<WebhookDelivery>,
    @InjectDataSource() private readonly database: DataSource,
    private readonly queues: QueuesService,
    workspaces: WorkspacesService,
  ) {
    workspaces.onFarewell((workspaceId) => this.untilTried(workspaceId));
  }

  /** Waits until every webhook of the workspace was called for every event up to now, for {@link farewellMs} at most. */
  private async untilTried(workspaceId: string): Promise<void> {
    await poll(
      async () => {
        const [row] = await this.database.query<{ is_open: boolean }[]>(
          `select exists (select from webhooks w join events e on e.workspace_id = w.workspace_id, webhook_cursor c
             where w.workspace_id = $1 and w.is_enabled and ${wanted('e')}
               and (e.transaction_id, e.id) > (c.transaction_id, c.event_id))
           or exists (select from webhook_deliveries d join webhooks w on w.id = d.webhook_id
             where d.workspace_id = $1 and w.is_enabled and d.status = 'pending') as is_open`,
          [workspaceId],
        );
        return !row!.is_open;
      },
      { pauseMs: 100, limitMs: farewellMs },
    );
  }

  /** Up to `limit + 1` deliveries of an endpoint, newest first. */
  async list(
    workspaceId: string,
    webhookId: string,
    { status, limit, cursor }: { status?: DeliveryStatus; limit: number; cursor?: string },
  ): Promise<WebhookDelivery[]> {
    return this.deliveries.find({
      where: { workspaceId, webhookId, ...given({ status, id: cursor && LessThan(cursor) }) },
      order: { id: 'DESC' },
      take: limit + 1,
    });
  }

  /**
   * Makes a delivery pending again, with all of its attempts. It is due at once, unless earlier deliveries of its account
   * wait. Its id stays the same.
   * @throws DeliveryNotFound
   */
  async redeliver(workspaceId: string, webhookId: string, id: string): Promise<WebhookDelivery> {
    await this.reopen('id = $1 and webhook_id = $2 and workspace_id = $3', [id, webhookId, workspaceId], 1);
    const delivery = await this.deliveries.findOneBy({ id, webhookId, workspaceId });
    if (!delivery) throw new DeliveryNotFound(id);
    return delivery;
  }

  /** Makes one dead delivery of any workspace pending again. @returns whether there was such a delivery */
  async retry(id: string): Promise<boolean> {
    return (await this.reopen(`id = $1 and status = 'dead'`, [id], 1)) > 0;
  }

  /** Makes the dead deliveries of one endpoint, or of all, pending again, in batches. @returns how many */
  async retryAll(webhookId?: string): Promise<number> {
    for (let total = 0; ;) {
      const count = await this.reopen(
        `status = 'dead' and ($1::uuid is null or webhook_id = $1)`,
        [webhookId ?? null],
        batchSize,
      );
      total += count;
      if (count < batchSize) return total;
    }
  }

  /** The newest dead deliveries, of one endpoint or of all. */
  async listDead(limit: number, webhookId?: string): Promise<WebhookDelivery[]> {
    return this.deliveries.find({
      where: { status: 'dead', ...given({ webhookId }) },
      order: { id: 'DESC' },
      take: limit,
    });
  }

  /**
   * Delivers past events again, if the endpoint wants them: the events from `since` to before `until` that stand behind
   * `after` in the log, oldest first, at most {@link maxReplayedEvents}. Deliveries that still wait do not change.
   * @throws InvalidEventCursor
   */
  async replay(
    webhookId: string,
    { since, until, after, types }: { since: Date; until?: Date; after?: string; types?: string[] },
  ): Promise<Replay> {
    const [transactionId, eventId] = after === undefined ? ['0', '0'] : parseCursor(after);
    // This query may take long, so it runs before any lock: nothing waits for it.
    const found: { id: string; cursor: string }[] = await this.database.query(
      `select e.id, e.transaction_id::text || '-' || e.id as cursor
       from webhooks w join events e on e.workspace_id = w.workspace_id
       where w.id = $1 and e.created_at >= $2 and ($3::timestamptz is null or e.created_at < $3)
         and (e.transaction_id, e.id) > ($5::text::xid8, $6::bigint)
         and e.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
         and ${wanted('e')}
         and ($4::text[] is null or exists (select from unnest($4) pattern where pattern = e.type
           or (right(pattern, 1) = '*' and starts_with(e.type, left(pattern, -1)))))
       order by e.transaction_id, e.id limit ${maxReplayedEvents + 1}`,
      [webhookId, since, until ?? null, types ?? null, transactionId, eventId],
    );
    const taken = found.slice(0, maxReplayedEvents);
    const count = taken.length === 0 ? 0 : await this.deliverAgain(webhookId, taken);
    return { count, nextAfter: found.length > maxReplayedEvents ? taken.at(-1)!.cursor : null };
  }

  /** Creates deliveries of events, and makes `delivered` and `dead` ones pending again. @returns how many */
  private async deliverAgain(webhookId: string, events: { id: string }[]): Promise<number> {
    return this.change(
      `insert into webhook_deliveries as d (id, workspace_id, webhook_id, transaction_id, event_id, type, account_id)
       select webhook_delivery_id(), w.workspace_id, w.id, e.transaction_id, e.id, e.type, e.account_id
       from webhooks w join events e on e.workspace_id = w.workspace_id
       where w.id = $1 and e.id = any($2::bigint[]) order by e.transaction_id, e.id
       on conflict (webhook_id, event_id) do update set status = 'pending', attempts = 0, next_attempt_at = null
         where d.status in ('delivered', 'dead')
       returning webhook_id, lane_id, workspace_id`,
      [webhookId, events.map(({ id }) => id)],
    );
  }

  /** How many deliveries have each status other than `delivered`, and how many attempts succeeded and failed. */
  async count(): Promise<DeliveryCounts> {
    const [row] = await this.database.query<DeliveryCounts[]>(
      `select count(*) filter (where status = 'pending')::int as pending,
         count(*) filter (where status = 'failed')::int as failed,
         (select count(*) from webhook_deliveries where status = 'dead')::int as dead,
         (select coalesce(sum(delivered), 0)::float from webhook_lanes) as "attemptsDelivered",
         (select coalesce(sum(failed), 0)::float from webhook_lanes) as "attemptsFailed"
       from webhook_deliveries where status in ('pending', 'failed')`,
    );
    return row!;
  }

  /**
   * The open deliveries: `waiting` counts the due ones. `delayed` counts those that wait for a later attempt of a delivery
   * before them, or until their endpoint is enabled. `active` counts the sequences that workers run.
   */
  async backlog(): Promise<Backlog> {
    const [row] = await this.database.query<Backlog[]>(
      `with open_sequences as (
         select l.claimed_until > now() as is_active, w.is_enabled and l.next_attempt_at <= now() as is_due, open.*
         from webhook_lanes l join webhooks w on w.id = l.webhook_id
         join (select webhook_id, lane_id, count(*) as count, min(created_at) as oldest from webhook_deliveries
           where status in ('pending', 'failed') group by webhook_id, lane_id) open using (webhook_id, lane_id))
       select coalesce(sum(count) filter (where is_active or is_due), 0)::int as waiting,
         coalesce(sum(count) filter (where not (coalesce(is_active, false) or is_due)), 0)::int as delayed,
         count(*) filter (where is_active)::int as active,
         coalesce(round(extract(epoch from now() - min(oldest) filter (where is_active or is_due))), 0)::int as "oldestSeconds",
         (select count(*) from webhook_deliveries where status = 'dead')::int as dead
       from open_sequences`,
    );
    // Each active sequence delivers one of these at this moment.
    return { ...row!, waiting: Math.max(0, row!.waiting - row!.active) };
  }

  /** Deletes old deliveries, in short transactions. */
  async prune(): Promise<void> {
    await this.pruneOlder(`status = 'delivered'`, deliveredRetentionMs);
    await this.pruneOlder('true', retentionMs);
  }

  private async pruneOlder(condition: string, ms: number): Promise<void> {
    const before = firstIdAt(Date.now() - ms);
    let deleted: number;
    do {
      [, deleted] = await this.database.query(
        `delete from webhook_deliveries where id in (
           select id from webhook_deliveries where id < $1 and ${condition} order by id limit ${batchSize})`,
        [before],
      );
    } while (deleted === batchSize);
  }

  /** Makes deliveries pending again, with all of their attempts. @returns how many */
  private async reopen(condition: string, values: unknown[], limit: number): Promise<number> {
    return this.change(
      `update webhook_deliveries set status = 'pending', attempts = 0, next_attempt_at = null
       where id in (select id from webhook_deliveries where ${condition} limit ${limit})
       returning webhook_id, lane_id, workspace_id`,
      values,
    );
  }

  /**
   * Runs a statement that makes deliveries pending and returns their sequences, and queues the sequences that are due then.
   * The lock on the cursor makes concurrent calls, and the fan-out, wait for each other.
   * @returns how many deliveries
   */
  private async change(statement: string, values: unknown[]): Promise<number> {
    const { count, due } = await this.database.transaction(async (manager) => {
      await manager.query('select from webhook_cursor for update');
      const woken: { webhook_id: string; lane_id: string; count: number }[] = await manager.query(
        `with changed as (${statement}), woken as (${wakeSequences('changed')})
         select webhook_id, lane_id, (select count(*) from changed)::int as count from woken`,
        values,
      );
      // A delivery that is pending again may stand before the present head, so the head of each idle sequence is read again.
      // A worker that runs a sequence reads the head when it releases the sequence.
      const [idle]: [(WebhookSequence & { is_due: boolean })[], number] = await manager.query(
        `update webhook_lanes l set next_attempt_at = ${headDueAt}
         from unnest($1::uuid[], $2::uuid[]) as woken (webhook_id, lane_id)
         where l.webhook_id = woken.webhook_id and l.lane_id = woken.lane_id and l.claim is null
         returning ${sequenceColumns('l')}, l.next_attempt_at <= now() as is_due`,
        [woken.map(({ webhook_id }) => webhook_id), woken.map(({ lane_id }) => lane_id)],
      );
      return { count: woken[0]?.count ?? 0, due: idle.filter(({ is_due }) => is_due) };
    });
    await this.queues.put(due.map(hintOf));
    return count;
  }
}
