import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { PacingReservations } from '../accounts/pacing-reservations.service.js';
import { InstanceClient, InstanceUnreachable } from '../instances/instance-client.js';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { prepared } from '../platform/database/prepared.js';
import { Problem } from '../platform/errors/problem.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { queuePolicies, type QueuePolicy } from '../queues/queue-policies.js';
import { queueOf } from './message.entity.js';
import { laneHead, strictOrder } from './message-rows.js';

/** A message that this worker is sending, with where to send it. */
export interface Claim {
  id: string;
  accountId: string;
  workspaceId: string;
  chatId: string;
  text: string;
  whatsappId: string;
  priority: number;
  /** 1 for the first try whose outcome may be uncertain. */
  attempt: number;
  epoch: number;
  instanceUrl: string | null;
  /** Whether its account is paced: then the message is counted before it leaves. */
  isPaced: boolean;
}

/** What a worker asks of an instance; both are ours, so it is typed and not validated. */
export interface DeliverMessage {
  epoch: number;
  chatId: string;
  text: string;
  whatsappId: string;
  /** 1 for the first; a later one looks harder for the message before it sends. */
  attempt: number;
  /** How long the recipient sees somebody type before. */
  typingMs?: number;
  /** Whether WhatsApp is asked first if that number exists. */
  checkNumber?: boolean;
}

/** What became of a claimed message, and what its lane goes on with. */
export type SendOutcome =
  /** It has been sent, or never will be. */
  | { kind: 'done'; next: Claim | null; head: { id: string; priority: number } | null }
  /** It is tried again later, and its lane waits for it. */
  | { kind: 'postponed' };

/** How long a claim is its worker's alone. Taking it over from a live worker is safe too: the instance joins both. */
const claimMs = 6_000;
const renewClaimMs = 2_000;
/** Answers of an instance that mean it did nothing. */
const notTried = new Set([
  'instance.unreachable',
  'account.session_not_ready',
  'account.not_driven_here',
  'auth.required',
]);
/** Answers that no further try would change. */
const permanent = new Set([
  'recipient.not_registered',
  'recipient.no_chat',
  'whatsapp.refused',
  'validation.failed',
]);

/** Those of them with which the message has not reached WhatsApp. */
const neverLeft = new Set(['recipient.not_registered', 'recipient.no_chat', 'validation.failed']);

/**
 * Sends the message at the head of a lane. The claim is a compare-and-set in PostgreSQL, where a unique index makes two
 * sends of one account at once impossible; each message has one WhatsApp id, so trying again is never sending twice.
 */
@Injectable()
export class SendingService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly instances: InstanceClient,
    private readonly pacing: PacingReservations,
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  /**
   * Claims the first due message of the lane that `messageId` belongs to, or a send of it whose worker died.
   * @param order the priorities that may be sent, the first one first
   */
  async claim(messageId: string, order: readonly number[] = strictOrder): Promise<Claim | null> {
    return (await this.claimQueued(messageId, order)) ?? (await this.takeOver(messageId));
  }

  /**
   * Sends a claimed message.
   * @param next of which priorities the lane's next message is named, the first one first
   * @param goOn of which priorities it is claimed in the same stroke
   */
  async send(
    claim: Claim,
    next: readonly number[] = strictOrder,
    goOn: readonly number[] = [],
  ): Promise<SendOutcome> {
    const renewal = setInterval(() => this.renew(claim), renewClaimMs);
    try {
      if (claim.instanceUrl === null) throw new InstanceUnreachable('(none)', 'the account has no instance');
      const { epoch, chatId, text, whatsappId, attempt } = claim;
      const manner = claim.isPaced ? await this.pacing.reserve(claim) : {};
      const message: DeliverMessage = { epoch, chatId, text, whatsappId, attempt, ...manner };
      await this.instances.call(
        claim.instanceUrl,
        'POST',
        `/internal/accounts/${claim.accountId}/messages`,
        message,
        this.config.sendTimeoutMs + 2_000 + (manner.typingMs ?? 0),
      );
      return await this.finish(claim, { status: 'sent' }, next, goOn);
    } catch (error) {
      return await this.handleFailure(claim, error, next, goOn);
    } finally {
      clearInterval(renewal);
    }
  }

  /** A slow send stays its worker's: nobody takes it over while that worker lives. */
  private renew({ id }: Claim): void {
    this.database
      .query(
        `update messages set next_attempt_at = now() + ${claimMs} * interval '1 millisecond'
         where id = $1 and claimed_by = $2 and status = 'sending'`,
        [id, this.config.worker.name],
      )
      .catch((error: unknown) =>
        this.logger.warn({ err: error, messageId: id }, 'a claim could not be renewed'),
      );
  }

  /** The account of a message, or null when the message is gone. */
  async accountOf(messageId: string): Promise<string | null> {
    const [row] = await this.database.query('select account_id from messages where id = $1', [messageId]);
    return row?.account_id ?? null;
  }

  /** The lane's head, when it is due and nothing of the lane is being sent. */
  private async claimQueued(messageId: string, order: readonly number[]): Promise<Claim | null> {
    try {
      const rows = await prepared<Claim>(
        this.database,
        `update messages m set ${claiming('$2')}
         from accounts a left join instances i on i.id = a.instance_id
         where m.id = (select head.id from ${laneHead('(select account_id from messages where id = $1)', '$3')} head)
           and m.stage = 'queued' and m.next_attempt_at <= now() and a.id = m.account_id and a.status = 'ready'
           and not exists (select from messages s where s.account_id = m.account_id and s.stage = 'sending')
         returning ${claimColumns}`,
        [messageId, this.config.worker.name, order],
      );
      return rows[0] ?? null;
    } catch (error) {
      // Two claims at the same moment: the index let one through, and that one feeds the lane.
      if (isUniqueViolation(error)) return null;
      throw error;
    }
  }

  /** A send whose worker has not been heard of for too long. */
  private async takeOver(messageId: string): Promise<Claim | null> {
    const [rows] = await this.database.query(
      `update messages m set attempts = m.attempts + 1, claimed_by = $2,
         next_attempt_at = now() + ${claimMs} * interval '1 millisecond'
       from accounts a left join instances i on i.id = a.instance_id
       where m.account_id = (select account_id from messages where id = $1) and m.stage = 'sending'
         and m.next_attempt_at <= now() and a.id = m.account_id and a.status = 'ready'
       returning ${claimColumns}`,
      [messageId, this.config.worker.name],
    );
    return rows[0] ?? null;
  }

  /** Writes the end of a send, and names or claims the lane's next message, in one statement. */
  private async finish(
    claim: Claim,
    end: { status: 'sent' } | { status: 'failed'; code: string; message: string },
    next: readonly number[],
    goOn: readonly number[],
  ): Promise<SendOutcome> {
    try {
      const [row] = await prepared<Partial<Claim> & { headId: string; headPriority: number }>(
        this.database,
        finishAndClaim,
        [
          claim.id,
          claim.accountId,
          end.status,
          end.status === 'failed' ? end.code : null,
          end.status === 'failed' ? end.message : null,
          next,
          goOn,
          this.config.worker.name,
        ],
      );
      if (!row) return { kind: 'done', next: null, head: null };
      const { headId, headPriority, ...claimed } = row;
      if (claimed.id) return { kind: 'done', next: claimed as Claim, head: null };
      return { kind: 'done', next: null, head: { id: headId, priority: headPriority } };
    } catch (error) {
      // Another worker claimed the lane's next message at the same moment, which undid this statement.
      if (isUniqueViolation(error)) return this.finish(claim, end, next, []);
      throw error;
    }
  }

  private async handleFailure(
    claim: Claim,
    error: unknown,
    next: readonly number[],
    goOn: readonly number[],
  ): Promise<SendOutcome> {
    const problem = error instanceof Problem ? error : new Problem(500, 'worker.failed', String(error));
    const policy: QueuePolicy = queuePolicies[queueOf(claim.priority)];
    if (permanent.has(problem.code)) {
      if (claim.isPaced && neverLeft.has(problem.code)) await this.pacing.release(claim, 'not_sent');
      return this.finish(
        claim,
        { status: 'failed', code: problem.code, message: problem.message },
        next,
        goOn,
      );
    }
    this.logger.warn(
      { messageId: claim.id, code: problem.code, detail: problem.message, attempt: claim.attempt },
      'not sent yet',
    );
    if (notTried.has(problem.code)) await this.putBack(claim);
    else if (claim.attempt >= policy.attempts) await this.giveUp(claim, problem);
    else await this.keepForAnotherTry(claim);
    return { kind: 'postponed' };
  }

  /**
   * The instance did nothing: the try does not count. A message of whose earlier try nobody knows the outcome stays
   * `sending`, since it may have left already and must not be cancelled or overtaken.
   */
  private async putBack(claim: Claim): Promise<void> {
    if (claim.isPaced && claim.attempt === 1) await this.pacing.release(claim, 'not_tried');
    await this.database.query(
      `update messages set attempts = attempts - 1, next_attempt_at = now() + interval '400 milliseconds',
         status = case when attempts > 1 then 'sending' else 'queued' end
       where id = $1 and status = 'sending'`,
      [claim.id],
    );
  }

  private async keepForAnotherTry(claim: Claim): Promise<void> {
    const { backoffMs: waits }: QueuePolicy = queuePolicies[queueOf(claim.priority)];
    const backoffMs = waits[Math.min(claim.attempt, waits.length) - 1];
    await this.database.query(
      `update messages set next_attempt_at = now() + $2::int * interval '1 millisecond'
       where id = $1 and status = 'sending'`,
      [claim.id, backoffMs],
    );
  }

  private async giveUp(claim: Claim, problem: Problem): Promise<void> {
    await this.database.query(
      `update messages set status = 'unknown', error_code = $2, error_message = $3 where id = $1 and status = 'sending'`,
      [claim.id, problem.code, `After ${claim.attempt} tries: ${problem.message}`.slice(0, 1000)],
    );
  }
}

function claiming(worker: string): string {
  return `status = 'sending', attempts = m.attempts + 1, claimed_by = ${worker},
    next_attempt_at = now() + ${claimMs} * interval '1 millisecond'`;
}

const claimColumns = `m.id, m.priority, m.account_id as "accountId", m.workspace_id as "workspaceId", m.chat_id as "chatId", m.text,
  m.whatsapp_id as "whatsappId", m.attempts as attempt, a.epoch, i.url as "instanceUrl",
  exists (select from account_pacing p where p.account_id = m.account_id) as "isPaced"`;

/**
 * $1 the message, $2 its account, $3 the status, $4 and $5 the error's code and message, $6 the priorities of which the next
 * message is named, $7 those of which it is claimed, $8 the worker
 */
const finishAndClaim = `with finished as (
    update messages set status = $3, error_code = $4, error_message = $5,
      sent_at = case when $3 = 'sent' then now() else sent_at end,
      failed_at = case when $3 = 'failed' then now() else failed_at end
    where id = $1 and status = 'sending' returning id),
  head as (select * from ${laneHead('$2', '$6')} head where head.next_attempt_at <= now()),
  claimed as (
    update messages m set ${claiming('$8')}
    from head, accounts a left join instances i on i.id = a.instance_id
    where m.id = head.id and head.priority = any($7::smallint[]) and m.stage = 'queued' and a.id = m.account_id
      and a.status = 'ready'
      and not exists (select from messages s where s.account_id = $2 and s.stage = 'sending' and s.id <> $1)
      -- The finished one first: the index allows one message of an account that is being sent.
      and (select count(*) from finished) >= 0
    returning ${claimColumns})
  select claimed.*, head.id as "headId", head.priority as "headPriority" from head left join claimed on true`;

function isUniqueViolation(error: unknown): boolean {
  return (error as { code?: string }).code === '23505';
}
