import { setTimeout as delay } from 'node:timers/promises';
import { type BeforeApplicationShutdown, Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { LRUCache } from 'lru-cache';
import { DataSource } from 'typeorm';
import { nothingDoneCodes } from '../accounts/account-errors.js';
import { backoffAfter, type Jitter } from '../platform/backoff.js';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { prepared } from '../platform/database/prepared.js';
import { Problem } from '../platform/errors/problem.js';
import { logContext, type Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { type Claim, claimColumns, claimHead, driven, finishAndClaim } from './claims.js';
import { LaneCampaignShare } from './lane-campaign-share.js';
import { claimMs, type LaneHead, type LaneResult, type LaneRun } from './lane-run.js';
import { MessageSender, SendFailed } from './message-sender.js';
import { PacingReservations } from './pacing-reservations.js';

/** What became of a claimed message, and what its lane goes on with. */
type SendOutcome =
  /** It has been sent, or never will be. */
  | { kind: 'done'; next: Claim | null; head: LaneHead | null }
  /** It is tried again later, and its lane waits for it. */
  | { kind: 'postponed' };

const renewClaimMs = 2_000;
/** How much longer than asked for a worker waits for a run: its slot is wanted for accounts that do answer. */
const patienceMs = 750;
const backoffJitter: Jitter = [0.8, 1.2];
/** When, and how often, a message of unknown outcome is sent again where that is the policy. */
const resendAfterMs = 60_000;
const mostResends = 5;
/** Answers that no further try would change. */
const permanent = new Set([
  'recipient.not_registered',
  'recipient.no_chat',
  'message.quoted_not_found',
  'media.not_found',
  'media.blob_missing',
  'media.unreadable',
  'whatsapp.refused',
  'message.expired',
]);
/** Those of them that prove nothing after an uncertain try: the first one may have left. */
const provesNothing = new Set([
  'recipient.no_chat',
  'message.quoted_not_found',
  'media.not_found',
  'media.blob_missing',
  'media.unreadable',
]);
/** Those of them after which WhatsApp has nothing of the message. */
const neverLeft = new Set(['recipient.not_registered', ...provesNothing]);
/** Answers that may be another one later, of a try that did not come to send anything. */
const sentNothing = new Set(['media.storage_unavailable', 'whatsapp.not_sent']);
/**
 * After so many tries, some 8 s, what WhatsApp Web cannot send has `failed`. A connection that blinked is back by then, and no
 * more of them, since what follows of its priority waits meanwhile.
 */
const mostNotSent = 5;
/** Of how many messages it is known how often they were put back. */
const rememberedMessages = 1_000;
/** How soon a message is tried again whose session was not there. */
const notHereMs = 400;

/**
 * Sends the messages of a lane, one after the other, in the instance that owns its account. The claim is a compare-and-set
 * in PostgreSQL under the owner's epoch, and a unique index makes two sends of one account at once impossible; each message
 * has one WhatsApp id, so trying again is never sending twice.
 */
@Injectable()
export class LaneRunner implements BeforeApplicationShutdown {
  private readonly campaigns: LaneCampaignShare;
  /** Sends that go on without a worker that waits for them. */
  private readonly backgroundSends = new Set<Promise<void>>();
  /** The tries that sent nothing, by message. A message that this process does not know is only tried sooner. */
  private readonly unsentTries = new LRUCache<string, { code: string; tries: number }>({
    max: rememberedMessages,
  });

  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly sender: MessageSender,
    private readonly pacing: PacingReservations,
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {
    this.campaigns = new LaneCampaignShare(config.worker.campaignShare);
  }

  /**
   * Sends what is first in a lane, and goes on with what follows as far as the run allows. A paced account types for seconds
   * and pauses then, and one whose page hangs takes as long as its watchdog: nobody waits for those here, and the sweep puts
   * what follows when its time has come.
   * @throws AccountNotDrivenHere, SessionNotReady: nothing was done
   */
  async run(accountId: string, run: LaneRun): Promise<LaneResult> {
    this.sender.require(accountId, run.epoch);
    const until = performance.now() + run.forMs;
    const first = await this.claim(accountId, run.epoch, this.campaigns.order(accountId, run.order));
    if (!first) return { ended: 0, head: null, isUnclaimed: true };
    const sending = this.sendFrom(first, first.isPaced ? { ...run, most: 1 } : run, until);
    if (!first.isPaced) {
      const result = await Promise.race([sending, delay(run.forMs + patienceMs, null, { ref: false })]);
      if (result) return result;
    }
    const unhurried = sending
      .catch((error: unknown) =>
        this.logger.warn({ err: error, accountId }, 'a lane was left behind; it is taken over'),
      )
      .then(() => void this.backgroundSends.delete(unhurried));
    this.backgroundSends.add(unhurried);
    return { ended: 0, head: null, isUnclaimed: false };
  }

  /** Resolves when every send that nobody waits for has come to an end. */
  async settled(): Promise<void> {
    await Promise.all(this.backgroundSends);
  }

  /** Sessions have been closed by now, so these sends have an outcome, which is still to be written. */
  async beforeApplicationShutdown(): Promise<void> {
    await this.settled();
  }

  /** Sends a claimed message, and goes on with what follows as far as the run allows. */
  private async sendFrom(first: Claim, run: LaneRun, until: number): Promise<LaneResult> {
    const { accountId } = first;
    let ended = 0;
    for (let claim: Claim = first; ;) {
      this.campaigns.note(accountId, claim.priority);
      const order = this.campaigns.order(accountId, run.order);
      // Asked when this one has been sent: it may have taken long.
      const goOn = () => {
        const isOver = ended + 1 >= run.most || performance.now() >= until;
        return order.filter((other) => !isOver && (other >= claim.priority || !run.asUrgentOnly));
      };
      const outcome = await logContext.run({ messageId: claim.id }, () => this.send(claim, run, order, goOn));
      // The sweep puts a postponed message again when its time has come.
      if (outcome.kind === 'postponed') return { ended, head: null, isUnclaimed: false };
      ended += 1;
      if (!outcome.next) return { ended, head: outcome.head, isUnclaimed: false };
      claim = outcome.next;
    }
  }

  /**
   * Claims the first due message of a lane, or a send of it that nobody is at any more.
   * @param order the priorities that may be sent, the first one first
   */
  async claim(accountId: string, epoch: number, order: readonly number[]): Promise<Claim | null> {
    return (await this.claimQueued(accountId, epoch, order)) ?? (await this.takeOver(accountId, epoch));
  }

  /**
   * Sends a claimed message.
   * @param order of which priorities the lane's next message is named, the first one first
   * @param goOn of which priorities it is claimed in the same stroke
   */
  private async send(
    claim: Claim,
    { policy }: LaneRun,
    order: readonly number[],
    goOn: () => readonly number[],
  ): Promise<SendOutcome> {
    const renewal = setInterval(() => this.renew(claim), renewClaimMs);
    try {
      // Another try may be the end of this instance, and every account of it with it.
      const isLastLook = claim.isTakenOver === true && policy.attempts > 0 && claim.attempt > policy.attempts;
      const problem = await this.tryToSend({ ...claim, isLastLook });
      // Should PostgreSQL not take this, the message is taken over, and found to have been sent.
      if (!problem) return await this.finish(claim, { status: 'sent' }, order, goOn());
      const tries = this.countUnsentTry(problem, claim);
      const isNotSent = problem.code === 'whatsapp.not_sent' && tries > 0;
      if (isPermanent(problem, claim) || (isNotSent && tries >= mostNotSent)) {
        if (claim.isPaced && (isNotSent || neverLeft.has(problem.code)))
          await this.pacing.release(claim, 'not_sent');
        const status = problem.code === 'message.expired' ? 'expired' : 'failed';
        const end = { status, code: problem.code, message: problem.message } as const;
        return await this.finish(claim, end, order, goOn());
      }
      this.logger.warn({ err: problem, code: problem.code, attempt: claim.attempt }, 'not sent yet');
      if (nothingDoneCodes.has(problem.code)) await this.putBack(claim, 'not_tried', notHereMs);
      else if (tries > 0)
        await this.putBack(
          claim,
          isNotSent ? 'not_sent' : 'not_tried',
          backoffAfter(tries, policy.backoffMs, backoffJitter),
        );
      else if (policy.attempts > 0 && claim.attempt >= policy.attempts) await this.giveUp(claim, problem);
      else await this.keepForAnotherTry(claim, policy);
      return { kind: 'postponed' };
    } finally {
      clearInterval(renewal);
    }
  }

  /** @returns why it was not sent, or that nobody can tell; null when it was */
  private async tryToSend(claim: Claim): Promise<Problem | null> {
    try {
      await this.sender.send(claim.isPaced ? { ...claim, ...(await this.pacing.reserve(claim)) } : claim);
      return null;
    } catch (error) {
      return error instanceof Problem ? error : new SendFailed(error);
    }
  }

  /** A slow send stays its instance's: nobody takes it over while that lives. */
  private renew({ id }: Claim): void {
    this.database
      .query(
        `update messages set next_attempt_at = now() + ${claimMs} * interval '1 millisecond'
         where id = $1 and claimed_by = $2 and status = 'sending'`,
        [id, this.config.instance.id],
      )
      .catch((error: unknown) =>
        this.logger.warn({ err: error, messageId: id }, 'a claim could not be renewed'),
      );
  }

  /** The lane's head, when it is due and nothing of the lane is being sent. */
  private async claimQueued(
    accountId: string,
    epoch: number,
    order: readonly number[],
  ): Promise<Claim | null> {
    try {
      const [claim] = await prepared<Claim>(this.database, claimHead, [
        accountId,
        epoch,
        order,
        this.config.instance.id,
      ]);
      return claim ?? null;
    } catch (error) {
      // Two claims at the same moment: the index let one through, and that one feeds the lane.
      if (isUniqueViolation(error)) return null;
      throw error;
    }
  }

  /** A send of which nothing has been heard for too long. */
  private async takeOver(accountId: string, epoch: number): Promise<Claim | null> {
    const [[claim]]: [Claim[], number] = await this.database.query(
      `update messages m set attempts = m.attempts + 1, claimed_by = $3,
         next_attempt_at = now() + ${claimMs} * interval '1 millisecond'
       from accounts a
       where m.account_id = $1 and m.stage = 'sending' and m.next_attempt_at <= now() and ${driven('$1', '$2')}
       returning ${claimColumns}`,
      [accountId, epoch, this.config.instance.id],
    );
    return claim ? { ...claim, isTakenOver: true } : null;
  }

  /** Writes the end of a send, and names or claims the lane's next message, in one statement. */
  private async finish(
    claim: Claim,
    end: { status: 'sent' } | { status: 'failed' | 'expired'; code: string; message: string },
    order: readonly number[],
    goOn: readonly number[],
  ): Promise<SendOutcome> {
    this.unsentTries.delete(claim.id);
    try {
      const [row] = await prepared<Partial<Claim> & { headId: string; headPriority: number }>(
        this.database,
        finishAndClaim,
        [
          claim.id,
          claim.accountId,
          end.status,
          end.status === 'sent' ? null : end.code,
          end.status === 'sent' ? null : end.message,
          order,
          goOn,
          this.config.instance.id,
          claim.epoch,
        ],
      );
      if (!row) return { kind: 'done', next: null, head: null };
      const { headId, headPriority, ...claimed } = row;
      if (claimed.id) return { kind: 'done', next: claimed as Claim, head: null };
      return { kind: 'done', next: null, head: { id: headId, priority: headPriority } };
    } catch (error) {
      // Somebody else claimed the lane's next message at the same moment, which undid this statement.
      if (isUniqueViolation(error)) return this.finish(claim, end, order, []);
      throw error;
    }
  }

  /**
   * How often in a row, and for the same reason, nothing of a message came to be sent; 0 when it may have left. After an
   * uncertain try this one counts as any other, or the message would hold its lane for as long as the reason lasts.
   */
  private countUnsentTry({ code }: Problem, { id, attempt }: Claim): number {
    if (attempt > 1 || !sentNothing.has(code)) return 0;
    const before = this.unsentTries.get(id);
    const tries = before?.code === code ? before.tries + 1 : 1;
    this.unsentTries.set(id, { code, tries });
    return tries;
  }

  /**
   * Nothing was sent: the try does not count. A message of whose earlier try nobody knows the outcome stays `sending`, since
   * it may have left already and must not be cancelled or overtaken by others of its lane. Any other one is `queued` again
   * and holds back only what follows of its own priority.
   */
  private async putBack(claim: Claim, outcome: 'not_tried' | 'not_sent', waitMs: number): Promise<void> {
    if (claim.isPaced && claim.attempt === 1) await this.pacing.release(claim, outcome);
    await this.database.query(
      `update messages set attempts = attempts - 1, next_attempt_at = now() + $2::int * interval '1 millisecond',
         status = case when attempts > 1 then 'sending' else 'queued' end
       where id = $1 and status = 'sending'`,
      [claim.id, waitMs],
    );
  }

  private async keepForAnotherTry(claim: Claim, policy: LaneRun['policy']): Promise<void> {
    await this.database.query(
      `update messages set next_attempt_at = now() + $2::int * interval '1 millisecond'
       where id = $1 and status = 'sending'`,
      [claim.id, backoffAfter(claim.attempt, policy.backoffMs, backoffJitter)],
    );
  }

  /**
   * Nobody can tell what became of it: `unknown`, and its lane goes on. Where the workspace's policy says so it is sent
   * again later instead, under its one id, at most {@link mostResends} times; one of which instances may die waits for a
   * person.
   */
  private async giveUp(claim: Claim, problem: Problem): Promise<void> {
    const [resent] = await this.database.query(
      `update messages m set status = 'scheduled', scheduled_for = now() + ${resendAfterMs} * interval '1 millisecond',
         resends = m.resends + 1, attempts = 1
       from workspaces w
       where m.id = $1 and m.status = 'sending' and w.id = m.workspace_id and w.unknown_policy = 'resend'
         and m.resends < ${mostResends} and (m.expires_at is null or m.expires_at > now()) and $2 <> 'send.interrupted'
       returning m.id`,
      [claim.id, problem.code],
    );
    if (resent.length > 0) return;
    await this.database.query(
      `update messages set status = 'unknown', error_code = $2, error_message = $3 where id = $1 and status = 'sending'`,
      [claim.id, problem.code, `After ${claim.attempt} tries: ${problem.message}`.slice(0, 1000)],
    );
  }
}

function isPermanent({ code }: Problem, { attempt }: Claim): boolean {
  return permanent.has(code) && (!provesNothing.has(code) || attempt === 1);
}

function isUniqueViolation(error: unknown): boolean {
  return (error as { code?: string }).code === '23505';
}
