import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { InstanceAnswerLost, InstanceClient, InstanceUnreachable } from '../instances/instance-client.js';
import { prepared } from '../platform/database/prepared.js';
import { QueueStates } from '../queues/queue-states.js';
import { QueuesService } from '../queues/queues.service.js';
import { claimMs, type LaneResult, type LaneRun } from './lane-run.js';
import { headJob, queueOf } from '../messages/message.entity.js';
import { laneHead, strictOrder } from './lane-order.js';
import { SilentInstances } from './silent-instances.js';

/** How many heads one sweep puts at the most; the next sweep goes on. */
const sweepLimit = 20_000;
/** A claim that was renewed while a sweep began is that much longer than it should be. */
const clockMarginMs = 1_000;
/** How many messages one step queues or lets expire. */
const promotedAtOnce = 5_000;
/** How much longer than a run its answer may take: an instance claims, and answers within a second of the run's time. */
const answerMs = 3_000;
/** A call that failed sooner has kept no slot from others. */
const shortMs = 1_000;

/** The lane of a message, and who drives its account. */
export interface Lane {
  accountId: string;
  workspaceId: string;
  epoch: number;
  instanceUrl: string;
}

/**
 * A lane is the outgoing messages of one account. Redis holds only heads: for each connected account the message that is
 * to be sent next. This service has lanes run by the instances that own them, and finds heads again whenever Redis may have
 * lost them.
 */
@Injectable()
export class LanesService {
  private readonly silent = new SilentInstances();

  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly queues: QueuesService,
    private readonly states: QueueStates,
    private readonly instances: InstanceClient,
  ) {}

  /** The lane that a message belongs to; null when the message is gone, or nobody owns its account. */
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
   * Has the instance that owns a lane's account send what is first in it, and what follows as far as the run allows. One that
   * does not answer is given up soon: a send that it is at goes on without anybody who waits for it.
   * @throws InstanceUnreachable, AccountNotDrivenHere, SessionNotReady: nothing was done. Anything else: the sweep finds what
   * was left behind.
   */
  async run({ accountId, instanceUrl, epoch }: Lane, run: Omit<LaneRun, 'epoch'>): Promise<LaneResult> {
    if (!this.silent.mayCall(instanceUrl)) {
      throw new InstanceUnreachable(instanceUrl, 'it did not answer the call before');
    }
    const calledAt = performance.now();
    try {
      const result = await this.instances.call<LaneResult>(
        instanceUrl,
        'POST',
        `/internal/accounts/${accountId}/lane`,
        { ...run, epoch } satisfies LaneRun,
        run.forMs + answerMs,
      );
      this.silent.noteAnswer(instanceUrl);
      return result;
    } catch (error) {
      const isNoAnswer = error instanceof InstanceAnswerLost || error instanceof InstanceUnreachable;
      if (isNoAnswer && performance.now() - calledAt > shortMs)
        this.silent.noteSilence(instanceUrl, calledAt);
      else this.silent.noteAnswer(instanceUrl);
      throw error;
    }
  }

  /** Puts the heads of lanes, but for those of which a message is being sent: then its completion will. */
  async feed(accountIds: string[]): Promise<void> {
    if (accountIds.length === 0) return;
    const heads: { id: string; priority: number }[] = await this.database.query(
      `select head.id, head.priority from accounts a cross join lateral ${laneHead('a.id', '$2')} head
       where a.id = any($1) and a.status = 'ready'
         and not exists (select from messages where account_id = a.id and stage = 'sending')`,
      [accountIds, await this.servedPriorities()],
    );
    await this.queues.put(heads.map(({ id, priority }) => headJob(id, priority)));
  }

  /**
   * Queues scheduled messages whose time has come, and puts the heads of their lanes; messages that are too late expire.
   * In bounded steps: a hundred thousand may be due at the same second.
   * @returns whether there may be more
   */
  async promote(): Promise<boolean> {
    const due: { account_id: string }[] = await this.database.query(
      `with due as (select id from messages where stage = 'scheduled' and scheduled_for <= now()
         order by scheduled_for limit ${promotedAtOnce} for update skip locked),
       promoted as (update messages m set status = 'queued', next_attempt_at = now(),
           -- The time of a resend is nobody's sendAt.
           scheduled_for = case when m.attempts > 0 then null else m.scheduled_for end
         from due where m.id = due.id
         returning m.account_id)
       select distinct account_id from promoted`,
    );
    await this.feed(due.map(({ account_id: accountId }) => accountId));
    const [, expired] = await this.database.query(
      `with late as (select id from messages where expires_at <= now() and stage in ('scheduled', 'queued')
         limit ${promotedAtOnce} for update skip locked)
       update messages m set failed_at = now(), error_code = 'message.expired',
         -- One that is tried again because its outcome is unknown may have arrived before.
         status = case when m.attempts > 0 then 'unknown' else 'expired' end,
         error_message = case when m.attempts > 0 then 'Nobody can tell whether it was sent before expiresAt.'
           else 'It was not sent before expiresAt.' end
       from late where m.id = late.id`,
    );
    return due.length > 0 || expired === promotedAtOnce;
  }

  /**
   * Puts the head of every ready account's lane, and every send that is to be tried again: in the most urgent queue that is
   * served, since everything of its lane waits for it.
   * @returns how many heads were put; putting one that Redis still has changes nothing
   */
  async sweep(): Promise<number> {
    // Nobody can tell any more what became of a send whose account has been unlinked, whatever the account does since. An
    // instance that is still at it holds its claim for a short time; the longer wait for a next try is not waited for, as
    // another device would by then be linked, and would send it again.
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
       where a.status = 'ready' and head.next_attempt_at <= now() and head.priority is not null
       limit ${sweepLimit}`,
      [await this.servedPriorities()],
    );
    await this.queues.put(heads.map(({ id, priority }) => headJob(id, priority)));
    return heads.length;
  }

  /** Of a lane whose first message is in a paused queue, the head is the first of the others. */
  private async servedPriorities(): Promise<number[]> {
    const { paused } = await this.states.readControl();
    return strictOrder.filter((priority) => !paused.has(queueOf(priority)));
  }
}
