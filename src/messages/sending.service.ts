import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { InstanceClient, InstanceUnreachable } from '../instances/instance-client.js';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { prepared } from '../platform/database/prepared.js';
import { Problem } from '../platform/errors/problem.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { laneHead } from './message-rows.js';

/** A message that this worker is sending, with where to send it. */
interface Claim {
  id: string;
  accountId: string;
  chatId: string;
  text: string;
  whatsappId: string;
  /** 1 for the first try whose outcome may be uncertain. */
  attempt: number;
  epoch: number;
  instanceUrl: string | null;
}

interface Head {
  id: string;
  priority: number;
}

/** What became of a job: the lane's next head, or that the lane was busy or empty. */
export type SendOutcome =
  | { kind: 'sent' | 'failed'; accountId: string; next: Head | null }
  | { kind: 'postponed'; accountId: string }
  | { kind: 'nothing'; accountId: string | null };

/** How long a claim is its worker's alone. Taking it over from a live worker is safe too: the instance joins both. */
const claimMs = 6_000;
/** After this many tries without an answer nobody can tell, and the message becomes `unknown`. */
const maxAttempts = 8;

/** Answers of an instance that mean it did nothing. */
const notTried = new Set([
  'instance.unreachable',
  'account.session_not_ready',
  'account.not_driven_here',
  'auth.required',
]);
/** Answers that no further try would change. */
const permanent = new Set(['recipient.not_registered', 'whatsapp.refused', 'validation.failed']);

/**
 * Sends the message at the head of a lane. The claim is a compare-and-set in PostgreSQL, where a unique index makes two
 * sends of one account at once impossible; each message has one WhatsApp id, so trying again is never sending twice.
 */
@Injectable()
export class SendingService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly instances: InstanceClient,
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  /** Sends the most urgent due message of the lane that `messageId` belongs to. */
  async sendHeadOf(messageId: string): Promise<SendOutcome> {
    const claim = (await this.claimQueued(messageId)) ?? (await this.takeOver(messageId));
    if (!claim) return { kind: 'nothing', accountId: await this.accountOf(messageId) };
    try {
      if (claim.instanceUrl === null) throw new InstanceUnreachable('(none)', 'the account has no instance');
      await this.instances.call(
        claim.instanceUrl,
        'POST',
        `/internal/accounts/${claim.accountId}/messages`,
        {
          epoch: claim.epoch,
          chatId: claim.chatId,
          text: claim.text,
          whatsappId: claim.whatsappId,
          attempt: claim.attempt,
        },
        this.config.sendTimeoutMs + 2_000,
      );
      return { kind: 'sent', accountId: claim.accountId, next: await this.complete(claim) };
    } catch (error) {
      return this.handleFailure(claim, error);
    }
  }

  /** The lane's head, when it is due and nothing of the lane is being sent. */
  private async claimQueued(messageId: string): Promise<Claim | null> {
    try {
      const rows = await prepared<Claim>(
        this.database,
        `update messages m set status = 'sending', attempts = m.attempts + 1, claimed_by = $2,
           next_attempt_at = now() + ${claimMs} * interval '1 millisecond'
         from accounts a left join instances i on i.id = a.instance_id
         where m.id = (select head.id from ${laneHead('(select account_id from messages where id = $1)')} head)
           and m.stage = 'queued' and m.next_attempt_at <= now() and a.id = m.account_id and a.status = 'ready'
           and not exists (select from messages s where s.account_id = m.account_id and s.stage = 'sending')
         returning ${claimColumns}`,
        [messageId, this.config.worker.name],
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

  /** Writes that WhatsApp has the message. @returns the next head of the lane */
  private async complete(claim: Claim): Promise<Head | null> {
    return this.finish(claim, `status = 'sent', sent_at = now()`, []);
  }

  private async fail(claim: Claim, code: string, message: string): Promise<Head | null> {
    return this.finish(claim, `status = 'failed', failed_at = now(), error_code = $3, error_message = $4`, [
      code,
      message,
    ]);
  }

  private async finish(claim: Claim, assignments: string, parameters: unknown[]): Promise<Head | null> {
    const [head] = await prepared<Head>(
      this.database,
      `with finished as (update messages set ${assignments} where id = $1 and status = 'sending' returning id)
       select head.id, head.priority from ${laneHead('$2')} head where head.next_attempt_at <= now()`,
      [claim.id, claim.accountId, ...parameters],
    );
    return head ?? null;
  }

  private async handleFailure(claim: Claim, error: unknown): Promise<SendOutcome> {
    const problem = error instanceof Problem ? error : new Problem(500, 'worker.failed', String(error));
    if (permanent.has(problem.code)) {
      return {
        kind: 'failed',
        accountId: claim.accountId,
        next: await this.fail(claim, problem.code, problem.message),
      };
    }
    this.logger.warn(
      { messageId: claim.id, code: problem.code, detail: problem.message, attempt: claim.attempt },
      'not sent yet',
    );
    if (notTried.has(problem.code)) await this.putBack(claim);
    else if (claim.attempt >= maxAttempts) await this.giveUp(claim, problem);
    else await this.keepForAnotherTry(claim);
    return { kind: 'postponed', accountId: claim.accountId };
  }

  /**
   * The instance did nothing: the try does not count. A message of whose earlier try nobody knows the outcome stays
   * `sending`, since it may have left already and must not be cancelled or overtaken.
   */
  private async putBack(claim: Claim): Promise<void> {
    await this.database.query(
      `update messages set attempts = attempts - 1, next_attempt_at = now() + interval '400 milliseconds',
         status = case when attempts > 1 then 'sending' else 'queued' end
       where id = $1 and status = 'sending'`,
      [claim.id],
    );
  }

  private async keepForAnotherTry(claim: Claim): Promise<void> {
    const backoffMs = Math.min(30_000, 500 * 2 ** (claim.attempt - 1));
    await this.database.query(
      `update messages set next_attempt_at = now() + $2::int * interval '1 millisecond' where id = $1 and status = 'sending'`,
      [claim.id, backoffMs],
    );
  }

  private async giveUp(claim: Claim, problem: Problem): Promise<void> {
    await this.database.query(
      `update messages set status = 'unknown', error_code = $2, error_message = $3 where id = $1 and status = 'sending'`,
      [claim.id, problem.code, `After ${claim.attempt} tries: ${problem.message}`.slice(0, 1000)],
    );
  }

  private async accountOf(messageId: string): Promise<string | null> {
    const [row] = await this.database.query('select account_id from messages where id = $1', [messageId]);
    return row?.account_id ?? null;
  }
}

const claimColumns = `m.id, m.account_id as "accountId", m.chat_id as "chatId", m.text, m.whatsapp_id as "whatsappId",
  m.attempts as attempt, a.epoch, i.url as "instanceUrl"`;

function isUniqueViolation(error: unknown): boolean {
  return (error as { code?: string }).code === '23505';
}
