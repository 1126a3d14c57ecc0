import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { InstanceAnswerLost, InstanceClient, InstanceUnreachable } from '../instances/instance-client.js';
import { prepared } from '../platform/database/prepared.js';
import { QueueStates } from '../queues/queue-states.js';
import { QueuesService } from '../queues/queues.service.js';
import { maySend } from './claims.js';
import { claimMs, type LaneResult, type LaneRun } from './lane-run.js';
import { headJob, queueOf } from '../messages/message.entity.js';
import { laneHead, strictOrder } from './lane-order.js';
import { SilentInstances } from './silent-instances.js';

/** How many heads one sweep puts at most. The next sweep continues. */
const sweepLimit = 20_000;
/** A claim that is renewed while a sweep begins may last this much longer than `claimMs`. */
const clockMarginMs = 1_000;
/** How many messages one step queues or expires. */
const promoteBatchSize = 5_000;
/** How much longer than the run its answer may take. An instance answers within a second after the time of the run. */
const answerGraceMs = 3_000;
/** A call that fails within this time has not blocked a slot. */
const quickFailureMs = 1_000;

/** The lane of a message, and the instance that owns its account. */
export interface Lane {
  accountId: string;
  workspaceId: string;
  epoch: number;
  instanceUrl: string;
}

/**
 * A lane is the outgoing messages of one account. Redis holds only heads: for each connected account the message to send next.
 * This service lets the owning instances run lanes, and finds the heads that Redis may have lost.
 */
@Injectable()
export class LanesService {
  private readonly silent = new SilentInstances();
  /** A property, so that a test of an instance that hangs can shorten it. */
  private answerGraceMs = answerGraceMs;

  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly queues: QueuesService,
    private readonly states: QueueStates,
    private readonly instances: InstanceClient,
  ) {}

  /** The lane of a message; null if the message is gone, or if no instance owns its account. */
  async find(messageId: string): Promise<Lane | null> {
    const [lane] = await prepared<Lane>(
      this.database,
      `select m.account_id as "accountId", m.workspace_id as "workspaceId", a.epoch, i.url as "instanceUrl"
       from messages m join accounts a on a.id = m.account_id join instances i on i.id = a.instance_id where m.id = $1`,
      [messageId],
    );
    return lane ?? null;
  }

  /**
   * Lets the instance that owns the account send the lane's head, and then the following messages up to the limits of the run.
   * The wait for the answer is short. If it ends, a send that has begun continues in the instance.
   * @throws InstanceUnreachable, AccountNotDrivenHere, SessionNotReady: nothing was done. Any other error: the sweep finds the
   * unfinished sends.
   */
  async run({ accountId, instanceUrl, epoch }: Lane, run: Omit<LaneRun, 'epoch'>): Promise<LaneResult> {
    if (!this.silent.mayCall(instanceUrl)) {
      throw new InstanceUnreachable(instanceUrl, 'it did not answer the previous call');
    }
    const calledAt = performance.now();
    try {
      const result = await this.instances.call<LaneResult>(
        instanceUrl,
        'POST',
        `/internal/accounts/${accountId}/lane`,
        { ...run, epoch } satisfies LaneRun,
        run.forMs + this.answerGraceMs,
      );
      this.silent.noteAnswer(instanceUrl);
      return result;
    } catch (error) {
      const isNoAnswer = error instanceof InstanceAnswerLost || error instanceof InstanceUnreachable;
      if (isNoAnswer && performance.now() - calledAt > quickFailureMs)
        this.silent.noteSilence(instanceUrl, calledAt);
      else this.silent.noteAnswer(instanceUrl);
      throw error;
    }
  }

  /** Puts the heads of lanes, except for lanes with a running send: the end of that send puts the next head. */
  async feed(accountIds: string[]): Promise<void> {
    if (accountIds.length === 0) return;
    const heads: { id: string; priority: number }[] = await this.database.query(
      `select head.id, head.priority from accounts a cross join lateral ${laneHead('a.id', '$2')} head
       where a.id = any($1) and ${maySend('a')}
         and not exists (select from messages where account_id = a.id and stage = 'sending')`,
      [accountIds, await this.activePriorities()],
    );
    await this.queues.put(heads.map(({ id, priority }) => headJob(id, priority)));
  }

  /**
   * Queues due scheduled messages, puts the heads of their lanes, and expires messages whose deadline has passed. Works in
   * bounded steps, because a hundred thousand messages may be due in the same second.
   * @returns whether more messages may be due
   */
  async promote(): Promise<boolean> {
    const due: { account_id: string }[] = await this.database.query(
      `with due as (select id from messages where stage = 'scheduled' and scheduled_for <= now()
         order by scheduled_for limit ${promoteBatchSize} for update skip locked),
       promoted as (update messages m set status = 'queued', next_attempt_at = now(),
           -- With attempts or an error, the time is that of a later try and not the caller's sendAt.
           scheduled_for = case when m.attempts > 0 or m.error_code is not null then null else m.scheduled_for end,
           error_code = null, error_message = null
         from due where m.id = due.id
         returning m.account_id)
       select distinct account_id from promoted`,
    );
    await this.feed(due.map(({ account_id: accountId }) => accountId));
    const [, expired] = await this.database.query<[unknown[], number]>(
      `with late as (select id from messages where expires_at <= now() and stage in ('scheduled', 'queued')
         limit ${promoteBatchSize} for update skip locked)
       update messages m set failed_at = now(), error_code = 'message.expired',
         -- With attempts, the message may have arrived already.
         status = case when m.attempts > 0 then 'unknown' else 'expired' end,
         error_message = case when m.attempts > 0 then 'It is not known whether the message was sent before expiresAt.'
           else 'The message was not sent before expiresAt.' end
       from late where m.id = late.id`,
    );
    return due.length > 0 || expired === promoteBatchSize;
  }

  /**
   * Puts the head of every ready account's lane, and every send that is due for another attempt. Such a send goes into the most
   * urgent queue that is not paused, because its whole lane waits for it. To put a head that Redis still has changes nothing.
   * @returns the number of heads
   */
  async sweep(): Promise<number> {
    // After the account was unlinked, the outcome of a send can no longer be found out, even if the account is linked again.
    // An instance that is still sending holds a short claim: wait for its end. Do not wait for the longer delay of the next
    // attempt: by then another device may be linked, and would send the message again.
    await this.database.query(
      `update messages m set status = 'unknown', error_code = 'account.logged_out',
         error_message = 'The account was logged out before the outcome of the send was known.'
       from accounts a where a.id = m.account_id and m.stage = 'sending'
         and (a.linked_at is null and a.status <> 'ready' or a.status in ('qr', 'pairing'))
         and m.next_attempt_at not between now() and now() + ${claimMs + clockMarginMs} * interval '1 millisecond'`,
    );
    const heads: { id: string; priority: number }[] = await this.database.query(
      `select head.id, head.priority from accounts a
       cross join lateral (
         (select m.id, ($1::smallint[])[1] as priority, m.next_attempt_at from messages m
           where m.account_id = a.id and m.stage = 'sending')
         union all ${laneHead('a.id', '$1')}
         limit 1
       ) head
       where ${maySend('a')} and head.next_attempt_at <= now() and head.priority is not null
       limit ${sweepLimit}`,
      [await this.activePriorities()],
    );
    await this.queues.put(heads.map(({ id, priority }) => headJob(id, priority)));
    return heads.length;
  }

  /** The priorities of the queues that are not paused. A lane's head is its first message of these priorities. */
  private async activePriorities(): Promise<number[]> {
    const { paused } = await this.states.readControl();
    return strictOrder.filter((priority) => !paused.has(queueOf(priority)));
  }
}
