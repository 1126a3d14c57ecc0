import { Injectable } from '@nestjs/common';
import { InjectDataSource, InjectRepository } from '@nestjs/typeorm';
import { DataSource, type EntityManager, LessThan, Repository } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { given } from '../platform/database/given.js';
import { Problem } from '../platform/errors/problem.js';
import { QueuesService } from '../queues/queues.service.js';
import { WebhookDelivery, type DeliveryStatus } from './webhook-delivery.entity.js';
import { wakeLanes } from './webhook-fan-out.service.js';
import { hintOf, type WebhookLane } from './webhook-lanes.service.js';

const day = 24 * 3_600_000;
/** What has arrived is kept for a week, everything else as long as the events themselves. */
const deliveredForMs = 7 * day;
const keptForMs = 30 * day;
const prunedAtOnce = 5_000;
/** How many events one replay makes deliveries of. */
export const replayedAtMost = 10_000;

export class DeliveryNotFound extends Problem {
  constructor(id: string) {
    super(
      404,
      'webhook.delivery_not_found',
      `There is no delivery ${id}. Deliveries are kept for 7 to 30 days.`,
    );
  }
}

export interface Replay {
  /** How many events are delivered again, or for the first time. */
  count: number;
  /** Where to go on when there were more than one replay takes: the `since` of the next one; null when that was all. */
  nextSince: Date | null;
}

/** The log of deliveries, and what a person may do about it. */
@Injectable()
export class WebhookDeliveriesService {
  constructor(
    @InjectRepository(WebhookDelivery) private readonly deliveries: Repository<WebhookDelivery>,
    @InjectDataSource() private readonly database: DataSource,
    private readonly queues: QueuesService,
  ) {}

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
   * Has a delivery tried again from its first attempt, at once unless earlier ones of its account wait. Its id stays.
   * @throws DeliveryNotFound
   */
  async redeliver(workspaceId: string, webhookId: string, id: string): Promise<WebhookDelivery> {
    await this.reopen('id = $1 and webhook_id = $2 and workspace_id = $3', [id, webhookId, workspaceId], 1);
    const delivery = await this.deliveries.findOneBy({ id, webhookId, workspaceId });
    if (!delivery) throw new DeliveryNotFound(id);
    return delivery;
  }

  /** Has one dead delivery tried again, whosever it is. @returns whether there was one */
  async retry(id: string): Promise<boolean> {
    return (await this.reopen(`id = $1 and status = 'dead'`, [id], 1)) > 0;
  }

  /** Has dead deliveries tried again, of one endpoint or of all; in bounded steps. @returns how many */
  async retryAll(webhookId?: string): Promise<number> {
    for (let total = 0; ;) {
      const count = await this.reopen(
        `status = 'dead' and ($1::uuid is null or webhook_id = $1)`,
        [webhookId ?? null],
        prunedAtOnce,
      );
      total += count;
      if (count < prunedAtOnce) return total;
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
   * Delivers what happened in a time again, as far as the endpoint wants it: the events of `since` up to before `until`, oldest
   * first, at most {@link replayedAtMost}. Those that are on their way stay there.
   */
  async replay(
    webhookId: string,
    { since, until, types }: { since: Date; until?: Date; types?: string[] },
  ): Promise<Replay> {
    return this.change(async (manager) => {
      const [row] = await manager.query(
        `with wanted as materialized (
           select e.id, e.transaction_id, e.type, e.account_id, e.created_at, w.id as webhook_id, w.workspace_id
           from webhooks w join events e on e.workspace_id = w.workspace_id
           where w.id = $1 and e.created_at >= $2 and ($3::timestamptz is null or e.created_at < $3)
             and webhook_wants(w, e.type, e.account_id)
             and ($4::text[] is null or exists (select from unnest($4) pattern where pattern = e.type
               or (right(pattern, 1) = '*' and starts_with(e.type, left(pattern, -1)))))
           order by e.created_at, e.id limit ${replayedAtMost + 1}),
         made as (
           insert into webhook_deliveries as d (id, workspace_id, webhook_id, transaction_id, event_id, type, account_id)
           select webhook_delivery_id(), workspace_id, webhook_id, transaction_id, id, type, account_id
           from (select * from wanted order by created_at, id limit ${replayedAtMost}) taken
           on conflict (webhook_id, event_id) do update set status = 'pending', attempts = 0, next_attempt_at = null
             where d.status in ('delivered', 'dead')
           returning webhook_id, lane_id, workspace_id),
         woken as (${wakeLanes('made')})
         select (select count(*) from made)::int as count,
           (select created_at from wanted order by created_at, id offset ${replayedAtMost}) as next,
           array(select lane_id::text from woken where next_attempt_at <= now()) as lanes`,
        [webhookId, since, until ?? null, types ?? null],
      );
      return {
        result: { count: row.count, nextSince: row.next },
        due: (row.lanes as string[]).map((laneId) => ({ webhookId, laneId })),
      };
    });
  }

  /** How many deliveries there are of each status but `delivered`, and how many attempts have come to what. */
  async count(): Promise<{
    pending: number;
    failed: number;
    dead: number;
    attemptsDelivered: number;
    attemptsFailed: number;
  }> {
    const [row] = await this.database.query(
      `select count(*) filter (where status = 'pending')::int as pending,
         count(*) filter (where status = 'failed')::int as failed,
         (select count(*) from webhook_deliveries where status = 'dead')::int as dead,
         (select coalesce(sum(delivered), 0)::float from webhook_lanes) as "attemptsDelivered",
         (select coalesce(sum(failed), 0)::float from webhook_lanes) as "attemptsFailed"
       from webhook_deliveries where status in ('pending', 'failed')`,
    );
    return row;
  }

  /**
   * How much there is to do: `waiting` is due, `delayed` waits behind a delivery that is tried again later or for its
   * endpoint to be enabled, `active` are the lanes that are being run.
   */
  async backlog(): Promise<{
    waiting: number;
    delayed: number;
    active: number;
    dead: number;
    oldestSeconds: number;
  }> {
    const [row] = await this.database.query(
      `with lanes as (
         select l.claimed_until > now() as is_active, w.is_enabled and l.next_attempt_at <= now() as is_due, open.*
         from webhook_lanes l join webhooks w on w.id = l.webhook_id
         join (select webhook_id, lane_id, count(*) as count, min(created_at) as oldest from webhook_deliveries
           where status in ('pending', 'failed') group by webhook_id, lane_id) open using (webhook_id, lane_id))
       select coalesce(sum(count) filter (where is_active or is_due), 0)::int as waiting,
         coalesce(sum(count) filter (where not (coalesce(is_active, false) or is_due)), 0)::int as delayed,
         count(*) filter (where is_active)::int as active,
         coalesce(round(extract(epoch from now() - min(oldest) filter (where is_active or is_due))), 0)::int as "oldestSeconds",
         (select count(*) from webhook_deliveries where status = 'dead')::int as dead
       from lanes`,
    );
    // The one that is being delivered in each active lane does not wait.
    return { ...row, waiting: Math.max(0, row.waiting - row.active) };
  }

  /** Forgets old deliveries, in short transactions. */
  async prune(): Promise<void> {
    await this.pruneOlder(`status = 'delivered'`, deliveredForMs);
    await this.pruneOlder('true', keptForMs);
  }

  private async pruneOlder(condition: string, ms: number): Promise<void> {
    // Ids of version 7 grow with time.
    const before = uuidv7({ msecs: Date.now() - ms });
    let deleted: number;
    do {
      [, deleted] = await this.database.query(
        `delete from webhook_deliveries where id in (
           select id from webhook_deliveries where id < $1 and ${condition} order by id limit ${prunedAtOnce})`,
        [before],
      );
    } while (deleted === prunedAtOnce);
  }

  /** Has deliveries start anew, and their lanes too when those wait. @returns how many */
  private async reopen(condition: string, values: unknown[], limit: number): Promise<number> {
    return this.change(async (manager) => {
      const rows: (WebhookLane & { count: number })[] = await manager.query(
        `with reopened as (
           update webhook_deliveries set status = 'pending', attempts = 0, next_attempt_at = null
           where id in (select id from webhook_deliveries where ${condition} limit ${limit})
           returning webhook_id, lane_id, workspace_id),
         woken as (${wakeLanes('reopened')})
         select webhook_id as "webhookId", lane_id as "laneId",
           (select count(*) from reopened)::int as count from woken`,
        values,
      );
      // What is reopened may be what its lane waits for.
      await manager.query(
        `update webhook_lanes set next_attempt_at = now()
         from unnest($1::uuid[], $2::uuid[]) as waiting (webhook_id, lane_id)
         where webhook_lanes.webhook_id = waiting.webhook_id and webhook_lanes.lane_id = waiting.lane_id
           and claimed_until is null`,
        [rows.map(({ webhookId }) => webhookId), rows.map(({ laneId }) => laneId)],
      );
      return { result: rows[0]?.count ?? 0, due: rows };
    });
  }

  /** Changes many lanes, never at once with another who does, and puts those that are due by it into the queue. */
  private async change<Result>(
    work: (manager: EntityManager) => Promise<{ result: Result; due: WebhookLane[] }>,
  ): Promise<Result> {
    const { result, due } = await this.database.transaction(async (manager) => {
      await manager.query('select from webhook_cursor for update');
      return work(manager);
    });
    await this.queues.put(due.map(hintOf));
    return result;
  }
}
