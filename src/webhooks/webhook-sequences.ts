import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { v4 as uuidv4 } from 'uuid';
import { prepared } from '../platform/database/prepared.js';
import { type JobHint, QueuesService } from '../queues/queues.service.js';
import type { EncryptedEndpoint } from './webhook-secrets.js';
import { type AttemptOutcome, type Notification, waitAfter } from './webhook-attempt.js';

/** How long a claim of a sequence lasts: longer than a worker's turn with its last attempt. */
const claimMs = 30_000;
/**
 * How many sequences of one endpoint run at once. If several workers start at the same moment, it may be a few more. Of a
 * failing endpoint only one runs, as a probe, so that the endpoint does not hold many slots.
 */
export const maxConcurrentSequences = 10;
const batchSize = 20;
/** How many sequences one sweep queues at most; the next sweep goes on. */
const sweepLimit = 2_000;
/** Flotilla disables an endpoint if nothing has arrived there for this long. */
const failingForDays = 5;

/** The deliveries of one endpoint for one account. Events without an account belong to the sequence of the zero UUID. */
export interface WebhookSequence {
  webhookId: string;
  /** The account, or the zero UUID. The table and the jobs call a sequence a lane. */
  laneId: string;
  workspaceId: string;
}

/** SQL: the columns of `webhook_lanes` that identify a sequence. */
export const sequenceColumns = (table: string) =>
  `${table}.webhook_id as "webhookId", ${table}.lane_id as "laneId", ${table}.workspace_id as "workspaceId"`;

/** SQL: when the head (the first open delivery) of the sequence `l` is due; infinity without an open delivery. */
export const headDueAt = `coalesce((select greatest(head.next_attempt_at, now()) from webhook_deliveries head
  where head.webhook_id = l.webhook_id and head.lane_id = l.lane_id and head.status in ('pending', 'failed')
  order by head.transaction_id, head.event_id limit 1), 'infinity')`;

/**
 * SQL: whether a delivery with a given id is still open. It does not repeat the condition of the index on open deliveries:
 * if the statistics say that no delivery is open, PostgreSQL would use that index and look for the id among all open ones.
 */
const isOpen = `status not in ('delivered', 'dead')`;

/** A sequence that this worker has claimed, and the facts about the endpoint that an attempt needs. */
export interface ClaimedSequence extends WebhookSequence, Omit<EncryptedEndpoint, 'id'> {
  claim: string;
}

/** A delivery that is due. */
export interface OpenDelivery {
  id: string;
  attempts: number;
  /** Null if the log no longer has the event. */
  notification: Notification | null;
}

/** The consequences of a failed attempt. */
export interface Failure {
  isDead: boolean;
  isDisabled: boolean;
}

/** The job that tells a worker to run a sequence. */
export function hintOf({ webhookId, laneId, workspaceId }: WebhookSequence): JobHint {
  return {
    queue: 'webhooks',
    id: `webhook-${webhookId}-${laneId}`,
    data: { webhookId, laneId, workspaceId },
  };
}

/**
 * A sequence is the deliveries of one endpoint for one account, one at a time, in the order of the log. While its head fails,
 * the later deliveries wait, and other sequences go on. PostgreSQL holds all of the state: a worker claims a sequence for some
 * seconds, and if the worker dies, another worker claims the sequence after that.
 */
@Injectable()
export class WebhookSequences {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly queues: QueuesService,
  ) {}

  /**
   * Queues the due sequences, for each endpoint at most as many as may run at once. The first sequence of every endpoint
   * comes before the second of any. A sequence that Redis still has does not change.
   * @returns how many
   */
  async sweep(): Promise<number> {
    const due: WebhookSequence[] = await this.database.query(
      `select ${sequenceColumns('due')} from (
         select l.webhook_id, l.lane_id, l.workspace_id, l.next_attempt_at, w.failing_since,
           row_number() over (partition by l.webhook_id order by l.next_attempt_at) as place
         from webhook_lanes l join webhooks w on w.id = l.webhook_id
         where l.next_attempt_at <= now() and w.is_enabled) due
       where place <= case when failing_since is null then ${maxConcurrentSequences} else 1 end
       order by place, next_attempt_at limit ${sweepLimit}`,
    );
    await this.queues.put(due.map(hintOf));
    return due.length;
  }

  /** Puts a sequence at the end of the queue. */
  async put(sequence: WebhookSequence): Promise<void> {
    await this.queues.put([hintOf(sequence)]);
  }

  /**
   * Claims a sequence for this worker.
   * @returns null if it is not due, another worker has it, or enough sequences of its endpoint run
   */
  async claim({ webhookId, laneId, workspaceId }: WebhookSequence): Promise<ClaimedSequence | null> {
    const [claimed] = await prepared<Omit<ClaimedSequence, keyof WebhookSequence>>(
      this.database,
      `update webhook_lanes l set claim = $3, claimed_until = now() + ${claimMs} * interval '1 millisecond',
         next_attempt_at = now() + ${claimMs} * interval '1 millisecond'
       from webhooks w
       where l.webhook_id = $1 and l.lane_id = $2 and l.next_attempt_at <= now() and w.id = l.webhook_id and w.is_enabled
         and (select count(*) from webhook_lanes other where other.webhook_id = $1 and other.claim is not null
             and other.claimed_until > now())
           < case when w.failing_since is null then ${maxConcurrentSequences} else 1 end
       returning l.claim, w.url, w.secret, w.headers, w.login, w.ca_certificate as "caCertificate",
         case when w.previous_secret_expires_at > now() then w.previous_secret end as "previousSecret"`,
      [webhookId, laneId, uuidv4()],
    );
    return claimed ? { webhookId, laneId, workspaceId, ...claimed } : null;
  }

  /** The sequence of the endpoint that has been due for longest and is not claimed; null without one. */
  async findDue(webhookId: string): Promise<WebhookSequence | null> {
    const [sequence] = await prepared<WebhookSequence>(
      this.database,
      `select ${sequenceColumns('l')} from webhook_lanes l
       where webhook_id = $1 and next_attempt_at <= now() order by next_attempt_at limit 1`,
      [webhookId],
    );
    return sequence ?? null;
  }

  /**
   * The first due deliveries of a sequence, and the version of the sequence at that moment. There are none if a change has
   * made the sequence due before its head.
   */
  async read({
    webhookId,
    laneId,
  }: WebhookSequence): Promise<{ version: string; deliveries: OpenDelivery[] }> {
    const rows = await prepared<SequenceRow>(
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
    // The endpoint was deleted after the claim.
    if (rows.length === 0) return { version: '0', deliveries: [] };
    const end = rows.findIndex(({ id, waits }) => id === null || waits);
    return {
      version: rows[0]!.version,
      deliveries: rows
        .slice(0, end === -1 ? undefined : end)
        .map((row) => ({ id: row.id!, attempts: row.attempts, notification: toNotification(row) })),
    };
  }

  /** Records that a delivery has arrived. */
  async recordSuccess(sequence: ClaimedSequence, deliveryId: string, outcome: AttemptOutcome): Promise<void> {
    await prepared(
      this.database,
      `with done as (
         update webhook_deliveries set status = 'delivered', attempts = attempts + 1, last_attempt_at = now(),
           next_attempt_at = null, status_code = $2, duration_ms = $3, error = null, response_excerpt = $4
         where id = $1)
       update webhooks set failing_since = null where id = $5 and failing_since is not null`,
      [deliveryId, outcome.statusCode, outcome.durationMs, outcome.excerpt, sequence.webhookId],
    );
  }

  /**
   * Records a failed attempt and the time of the next one, and disables an endpoint that is gone or has failed for days, in
   * one transaction with the event of that. It changes nothing if another worker has the sequence by now (this process was
   * suspended for long), or if the delivery has changed since the attempt began (a person redelivered it).
   * @returns null if it changed nothing
   */
  async recordFailure(
    sequence: ClaimedSequence,
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
        [sequence.webhookId, outcome.statusCode, sequence.laneId, sequence.claim, id, attempts],
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

  /** Gives up a delivery whose event is no longer in the log. */
  async recordForgotten(deliveryId: string): Promise<void> {
    await this.database.query(
      `update webhook_deliveries set status = 'dead', next_attempt_at = null,
         error = 'event.forgotten: The log no longer has the event.' where id = $1`,
      [deliveryId],
    );
  }

  /**
   * Releases a sequence: it is due again when its head is due.
   * @param version as {@link read} last returned it, null if it was not called. If the version has grown since then, the
   *   sequence is due at once: this statement may not see a delivery that was added, and running a sequence too early costs
   *   only one query.
   */
  async release(
    { webhookId, laneId, claim }: ClaimedSequence,
    { version, delivered, failed }: { version: string | null; delivered: number; failed: number },
  ): Promise<void> {
    await prepared(
      this.database,
      `update webhook_lanes l set claim = null, claimed_until = null, delivered = delivered + $5, failed = failed + $6,
         next_attempt_at = case when version = $4::bigint then ${headDueAt} else now() end
       where webhook_id = $1 and lane_id = $2 and claim = $3`,
      [webhookId, laneId, claim, version, delivered, failed],
    );
  }
}

interface SequenceRow {
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

function toNotification(row: SequenceRow): Notification | null {
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
