import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { v4 as uuidv4 } from 'uuid';
import { prepared } from '../platform/database/prepared.js';
import { type JobHint, QueuesService } from '../queues/queues.service.js';
import { type AttemptOutcome, type Notification, waitAfter } from './webhook-attempt.js';

/** How long a lane is one worker's: longer than it runs it, with the last attempt. */
const claimMs = 30_000;
/**
 * How many lanes of one endpoint run at once: of several workers that begin at the same moment it may be a few more. Of an
 * endpoint that fails it is one: it only gets probed, and holds no slots.
 */
export const lanesAtOnce = 10;
const batchSize = 20;
/** How many heads one sweep puts at the most; the next sweep goes on. */
const sweepLimit = 2_000;
/** An endpoint for which nothing has arrived for so long is disabled. */
const failingForDays = 5;

/** What one endpoint gets of one account; of events without an account, that of the zero UUID. */
export interface WebhookLane {
  webhookId: string;
  laneId: string;
  workspaceId: string;
}

/** SQL: the columns of `webhook_lanes` that say which lane it is. */
export const laneColumns = (table: string) =>
  `${table}.webhook_id as "webhookId", ${table}.lane_id as "laneId", ${table}.workspace_id as "workspaceId"`;

/** SQL: when the head of the lane `l` is to be tried; infinity when it has none. */
export const headDue = `coalesce((select greatest(head.next_attempt_at, now()) from webhook_deliveries head
  where head.webhook_id = l.webhook_id and head.lane_id = l.lane_id and head.status in ('pending', 'failed')
  order by head.transaction_id, head.event_id limit 1), 'infinity')`;

/**
 * SQL: whether a delivery that is named by its id is still to be made. In other words than those of the index on what waits:
 * where statistics say that nothing waits, PostgreSQL would look for the one id among all that does.
 */
const isOpen = `status not in ('delivered', 'dead')`;

/** A lane that this worker runs, and what it needs to know of the endpoint. */
export interface ClaimedLane extends WebhookLane {
  claim: string;
  url: string;
  secret: Buffer;
  /** Null, or one that signs too. */
  previousSecret: Buffer | null;
}

/** A delivery whose turn it is. */
export interface OpenDelivery {
  id: string;
  attempts: number;
  /** Null when the log has forgotten the event. */
  notification: Notification | null;
}

/** What came of a delivery that did not succeed. */
export interface Failure {
  isDead: boolean;
  isDisabled: boolean;
}

/** The job that says: there is something for this endpoint of this account. */
export function hintOf({ webhookId, laneId, workspaceId }: WebhookLane): JobHint {
  return {
    queue: 'webhooks',
    id: `webhook-${webhookId}-${laneId}`,
    data: { webhookId, laneId, workspaceId },
  };
}

/**
 * A lane is what one endpoint gets of one account, one delivery at a time and in the order of the log: while its head fails, the
 * later ones wait, and other lanes go on. PostgreSQL holds all of it; a worker claims a lane for some seconds, and one that
 * dies leaves it to the next.
 */
@Injectable()
export class WebhookSequences {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly queues: QueuesService,
  ) {}

  /**
   * Puts the lanes that are due into the queue, of each endpoint only as many as it may run at once: the first of every
   * endpoint before the second of any.
   * @returns how many; putting one that Redis still has changes nothing
   */
  async sweep(): Promise<number> {
    const due: WebhookLane[] = await this.database.query(
      `select ${laneColumns('due')} from (
         select l.webhook_id, l.lane_id, l.workspace_id, l.next_attempt_at, w.failing_since,
           row_number() over (partition by l.webhook_id order by l.next_attempt_at) as place
         from webhook_lanes l join webhooks w on w.id = l.webhook_id
         where l.next_attempt_at <= now() and w.is_enabled) due
       where place <= case when failing_since is null then ${lanesAtOnce} else 1 end
       order by place, next_attempt_at limit ${sweepLimit}`,
    );
    await this.queues.put(due.map(hintOf));
    return due.length;
  }

  /** Puts a lane into the queue, behind those that wait there. */
  async put(lane: WebhookLane): Promise<void> {
    await this.queues.put([hintOf(lane)]);
  }

  /** Makes a lane this worker's; null when it is not due, another's, or its endpoint has enough to do. */
  async claim({ webhookId, laneId, workspaceId }: WebhookLane): Promise<ClaimedLane | null> {
    const [lane] = await prepared<Omit<ClaimedLane, keyof WebhookLane>>(
      this.database,
      `update webhook_lanes l set claim = $3, claimed_until = now() + ${claimMs} * interval '1 millisecond',
         next_attempt_at = now() + ${claimMs} * interval '1 millisecond'
       from webhooks w
       where l.webhook_id = $1 and l.lane_id = $2 and l.next_attempt_at <= now() and w.id = l.webhook_id and w.is_enabled
         and (select count(*) from webhook_lanes other where other.webhook_id = $1 and other.claim is not null
             and other.claimed_until > now())
           < case when w.failing_since is null then ${lanesAtOnce} else 1 end
       returning l.claim, w.url, w.secret,
         case when w.previous_secret_expires_at > now() then w.previous_secret end as "previousSecret"`,
      [webhookId, laneId, uuidv4()],
    );
    return lane ? { webhookId, laneId, workspaceId, ...lane } : null;
  }

  /** A lane of the endpoint that is due and has no slot yet: the one that has waited longest. */
  async findDue(webhookId: string): Promise<WebhookLane | null> {
    const [lane] = await prepared<WebhookLane>(
      this.database,
      `select ${laneColumns('l')} from webhook_lanes l
       where webhook_id = $1 and next_attempt_at <= now() order by next_attempt_at limit 1`,
      [webhookId],
    );
    return lane ?? null;
  }

  /**
   * The first deliveries of a lane that are due, and the version of the lane as it was then. A lane may be run before its head
   * is due (somebody has woken it): then there are none.
   */
  async read({ webhookId, laneId }: WebhookLane): Promise<{ version: string; deliveries: OpenDelivery[] }> {
    const rows = await prepared<LaneRow>(
      this.database,
      `select l.version, d.id, d.attempts, d.next_attempt_at > now() as waits, d.transaction_id::text || '-' || d.event_id as event,
         e.type, e.created_at, e.workspace_id, e.account_id, e.data
       from webhook_lanes l
       left join lateral (select * from webhook_deliveries
         where webhook_id = l.webhook_id and lane_id = l.lane_id and status in ('pending', 'failed')
         order by transaction_id, event_id limit ${batchSize}) d on true
       left join events e on e.id = d.event_id
       where l.webhook_id = $1 and l.lane_id = $2 order by d.transaction_id, d.event_id`,
      [webhookId, laneId],
    );
    // Its endpoint was deleted meanwhile.
    if (rows.length === 0) return { version: '0', deliveries: [] };
    const end = rows.findIndex(({ id, waits }) => id === null || waits);
    return {
      version: rows[0]!.version,
      deliveries: rows
        .slice(0, end === -1 ? undefined : end)
        .map((row) => ({ id: row.id!, attempts: row.attempts, notification: toNotification(row) })),
    };
  }

  /** Writes that a delivery has arrived. */
  async recordSuccess(lane: ClaimedLane, deliveryId: string, outcome: AttemptOutcome): Promise<void> {
    await prepared(
      this.database,
      `with done as (
         update webhook_deliveries set status = 'delivered', attempts = attempts + 1, last_attempt_at = now(),
           next_attempt_at = null, status_code = $2, duration_ms = $3, error = null, response_excerpt = $4
         where id = $1)
       update webhooks set failing_since = null where id = $5 and failing_since is not null`,
      [deliveryId, outcome.statusCode, outcome.durationMs, outcome.excerpt, lane.webhookId],
    );
  }

  /**
   * Writes that a delivery has not arrived, has the lane wait for its next attempt, and disables an endpoint that is gone or
   * has failed for days: in one transaction, with the events of it. Only as long as the lane is this worker's, and the delivery
   * as it was when it was tried: what was halted for long, or overtaken by a person who wants it tried anew, changes nothing.
   * @returns null when it changed nothing
   */
  async recordFailure(
    lane: ClaimedLane,
    { id, attempts }: Pick<OpenDelivery, 'id' | 'attempts'>,
    outcome: AttemptOutcome,
  ): Promise<Failure | null> {
    const waitMs = waitAfter(attempts + 1, outcome.retryAfterMs);
    return this.database.transaction(async (manager) => {
      const [[endpoint]]: [{ is_enabled: boolean }[], number] = await manager.query(
        `update webhooks set failing_since = coalesce(failing_since, now()), is_enabled = is_enabled and not over.is_gone and not over.is_hopeless,
           disabled_reason = case when not is_enabled then disabled_reason when over.is_gone then 'gone'
             when over.is_hopeless then 'failing' end,
           disabled_at = case when is_enabled and (over.is_gone or over.is_hopeless) then now() else disabled_at end
         from (select id, $2::int is not distinct from 410 as is_gone,
             coalesce(failing_since < now() - interval '${failingForDays} days', false) as is_hopeless
           from webhooks where id = $1) over
         where webhooks.id = over.id
           and exists (select from webhook_lanes where webhook_id = $1 and lane_id = $3 and claim = $4)
           and exists (select from webhook_deliveries where id = $5 and ${isOpen} and attempts = $6)
         returning is_enabled`,
        [lane.webhookId, outcome.statusCode, lane.laneId, lane.claim, id, attempts],
      );
      if (!endpoint) return null;
      await manager.query(
        `update webhook_deliveries set status = $2, attempts = attempts + 1, last_attempt_at = now(),
           next_attempt_at = now() + $3 * interval '1 millisecond', status_code = $4, duration_ms = $5, error = $6,
           response_excerpt = $7
         where id = $1 and ${isOpen} and attempts = $8`,
        [
          id,
          waitMs === null ? 'dead' : 'failed',
          waitMs,
          outcome.statusCode,
          outcome.durationMs,
          outcome.error,
          outcome.excerpt,
          attempts,
        ],
      );
      return { isDead: waitMs === null, isDisabled: !endpoint.is_enabled, waitMs: waitMs ?? 0 };
    });
  }

  /** Gives up a delivery whose event the log has forgotten. */
  async recordForgotten(deliveryId: string): Promise<void> {
    await this.database.query(
      `update webhook_deliveries set status = 'dead', next_attempt_at = null,
         error = 'event.forgotten: The event is older than the log keeps events.' where id = $1`,
      [deliveryId],
    );
  }

  /**
   * Gives a lane back, to be gone on with when its head is due.
   * @param version as it was last read, null when it was not. One that has grown since is due at once: this statement need not
   *   see what was added, and a lane that is run too early costs one look.
   */
  async release(
    { webhookId, laneId, claim }: ClaimedLane,
    { version, delivered, failed }: { version: string | null; delivered: number; failed: number },
  ): Promise<void> {
    await prepared(
      this.database,
      `update webhook_lanes l set claim = null, claimed_until = null, delivered = delivered + $5, failed = failed + $6,
         next_attempt_at = case when version = $4::bigint then ${headDue} else now() end
       where webhook_id = $1 and lane_id = $2 and claim = $3`,
      [webhookId, laneId, claim, version, delivered, failed],
    );
  }
}

interface LaneRow {
  version: string;
  id: string | null;
  attempts: number;
  waits: boolean | null;
  event: string;
  type: string | null;
  created_at: Date;
  workspace_id: string | null;
  account_id: string | null;
  data: unknown;
}

function toNotification(row: LaneRow): Notification | null {
  if (row.type === null) return null;
  return {
    id: row.event,
    type: row.type,
    createdAt: row.created_at.toISOString(),
    workspaceId: row.workspace_id,
    accountId: row.account_id,
    data: row.data,
  };
}
