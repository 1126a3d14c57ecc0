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
import { asPlatform } from '../platform/context.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { type Claim, claimColumns, claimHead, isDriven, finishAndClaim } from './claims.js';
import { LaneCampaignShare } from './lane-campaign-share.js';
import { claimMs, type LaneHead, type LaneResult, type LaneRun } from './lane-run.js';
import { MessageSender, NotSent, SendFailed } from './message-sender.js';
import { PacingReservations } from './pacing-reservations.js';
import { NumberChecksPaused } from './recipient-checks.js';
import { maxNotSentTries } from './web-breaker.js';

/** The result of a send, and the next message of the lane. */
type SendOutcome =
  /** The message is sent, or has failed for good. */
  | { kind: 'done'; next: Claim | null; head: LaneHead | null }
  /** A later attempt follows, and the lane waits for it. */
  | { kind: 'postponed' };

const renewClaimMs = 2_000;
/** How much longer than `forMs` a worker waits for a run. After that, its slot is free for other accounts. */
const graceMs = 750;
const backoffJitter: Jitter = [0.8, 1.2];
/** When, and how often, a message with an unknown outcome is sent again, if the policy of the workspace says so. */
const resendAfterMs = 60_000;
const maxResends = 5;
/** Errors that a retry would not change. */
const permanentCodes = new Set([
  'recipient.not_registered',
  'recipient.no_chat',
  'channel.not_admin',
  'whatsapp.cannot_post',
  'message.quoted_not_found',
  'media.not_found',
  'media.blob_missing',
  'media.unreadable',
  'whatsapp.refused',
  'message.expired',
]);
/** Permanent errors that are inconclusive after an uncertain attempt: the message may have left in that attempt. */
const inconclusiveCodes = new Set([
  'recipient.no_chat',
  'channel.not_admin',
  'whatsapp.cannot_post',
  'message.quoted_not_found',
  'media.not_found',
  'media.blob_missing',
  'media.unreadable',
]);
/** Permanent errors after which WhatsApp certainly does not have the message. */
const neverSentCodes = new Set(['recipient.not_registered', ...inconclusiveCodes]);
/** Temporary errors of an attempt that certainly sent nothing. */
const nothingSentCodes = new Set(['media.storage_unavailable', 'whatsapp.not_sent']);
/** How long a message steps aside. */
const asideMs = 60_000;
/** For how many messages the count of unsent tries is kept. */
const rememberedMessages = 1_000;
/** How long before its number check a message returns into its lane. The promotion of due messages takes less. */
const returnBeforeCheckMs = 1_000;
/** The delay before the next attempt if the session was not ready. */
const notReadyRetryMs = 400;

/**
 * Sends the messages of a lane, one after the other, in the instance that owns its account. The claim is a compare-and-set
 * in PostgreSQL under the owner's epoch, and a unique index prevents two sends of one account at the same time. Each message
 * has one WhatsApp id, so that a retry never sends it twice.
 */
@Injectable()
export class LaneRunner implements BeforeApplicationShutdown {
  private readonly campaigns: LaneCampaignShare;
  /** Sends that continue although no worker waits for them any more. */
  private readonly backgroundSends = new Set<Promise<void>>();
  /** By message: the attempts that sent nothing. If this process does not know a message, its next attempt only comes sooner. */
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
   * Sends the head of a lane, and then the following messages up to the limits of the run. A paced account types for seconds
   * and then pauses, and an account with a hanging page takes as long as its watchdog. The caller does not wait for these: the
   * sweep puts the next head when it is due.
   * @throws AccountNotDrivenHere, SessionNotReady: nothing was done
   */
  async run(accountId: string, run: LaneRun): Promise<LaneResult> {
    this.sender.requireReady(accountId, run.epoch);
    const until = performance.now() + run.forMs;
    const first = await this.claim(accountId, run.epoch, this.campaigns.order(accountId, run.order));
    if (!first) return { ended: 0, head: null, isUnclaimed: true };
    const sending = this.sendFrom(first, first.isPaced ? { ...run, most: 1 } : run, until);
    if (!first.isPaced) {
      const result = await Promise.race([sending, delay(run.forMs + graceMs, null, { ref: false })]);
      if (result) return result;
    }
    const background = sending
      .catch((error: unknown) =>
        this.logger.warn({ err: error, accountId }, 'a send was interrupted; its claim will be taken over'),
      )
      .then(() => void this.backgroundSends.delete(background));
    this.backgroundSends.add(background);
    return { ended: 0, head: null, isUnclaimed: false };
  }

  /** Resolves when all background sends have ended. */
  async settled(): Promise<void> {
    await Promise.all(this.backgroundSends);
  }

  /** The sessions are closed now, so these sends have an outcome. Waits until it is written. */
  async beforeApplicationShutdown(): Promise<void> {
    await this.settled();
  }

  /** Sends a claimed message, and then the following messages up to the limits of the run. */
  private async sendFrom(first: Claim, run: LaneRun, until: number): Promise<LaneResult> {
    const { accountId } = first;
    let ended = 0;
    for (let claim: Claim = first; ;) {
      this.campaigns.note(accountId, claim.priority);
      const order = this.campaigns.order(accountId, run.order);
      // Evaluated after the send, which may have taken long.
      const prioritiesToClaim = () => {
        const isOver = ended + 1 >= run.most || performance.now() >= until;
        return order.filter((other) => !isOver && (other >= claim.priority || !run.asUrgentOnly));
      };
      const outcome = await asPlatform(() => this.send(claim, run, order, prioritiesToClaim), {
        messageId: claim.id,
      });
      // The sweep puts a postponed message again when it is due.
      if (outcome.kind === 'postponed') return { ended, head: null, isUnclaimed: false };
      ended += 1;
      if (!outcome.next) return { ended, head: outcome.head, isUnclaimed: false };
      claim = outcome.next;
    }
  }

  /**
   * Claims the head of a lane, or takes over a send of the lane whose claim has run out.
   * @param order the priorities to send, in the order of sending
   */
  async claim(accountId: string, epoch: number, order: readonly number[]): Promise<Claim | null> {
    return (await this.claimQueued(accountId, epoch, order)) ?? (await this.takeOver(accountId, epoch));
  }

  /**
   * Sends a claimed message.
   * @param order the priorities to take the lane's next head from, in the order of sending
   * @param prioritiesToClaim that head is claimed in the same statement if it has one of these priorities
   */
  private async send(
    claim: Claim,
    { policy }: LaneRun,
    order: readonly number[],
    prioritiesToClaim: () => readonly number[],
  ): Promise<SendOutcome> {
    const renewal = setInterval(() => this.renew(claim), renewClaimMs);
    try {
      // Another attempt may kill this instance too, and with it the sessions of all its accounts.
      const isLastLook = claim.isTakenOver === true && policy.attempts > 0 && claim.attempt > policy.attempts;
      const problem = await this.tryToSend({ ...claim, isLastLook });
      // If PostgreSQL does not accept this write, the claim is taken over, and the next attempt finds the sent message.
      if (!problem) return await this.finish(claim, { status: 'sent' }, order, prioritiesToClaim());
      if (problem instanceof NumberChecksPaused) {
        await this.waitForCheck(claim, problem);
        return { kind: 'postponed' };
      }
      const tries = this.countUnsentTry(problem, claim);
      const isNotSent = problem.code === 'whatsapp.not_sent' && tries > 0;
      if (problem.code === 'account.web_incompatible') await this.bringBack(claim);
      else if (mayBeThePage(problem) && isNotSent) {
        await this.stepAside(claim, problem);
        return { kind: 'postponed' };
      }
      if (isPermanent(problem, claim) || (isNotSent && tries >= maxNotSentTries)) {
        if (claim.isPaced && (isNotSent || neverSentCodes.has(problem.code)))
          await this.pacing.release(claim, 'not_sent');
        const status = problem.code === 'message.expired' ? 'expired' : 'failed';
        const end = { status, code: problem.code, message: problem.message } as const;
        return await this.finish(claim, end, order, prioritiesToClaim());
      }
      this.logger.warn({ err: problem, code: problem.code, attempt: claim.attempt }, 'not sent yet');
      if (nothingDoneCodes.has(problem.code)) await this.putBack(claim, 'not_tried', notReadyRetryMs);
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

  /** @returns null if the message was sent; else why not, or why the outcome is unknown */
  private async tryToSend(claim: Claim): Promise<Problem | null> {
    try {
      await this.sender.send(claim.isPaced ? { ...claim, ...(await this.pacing.reserve(claim)) } : claim);
      return null;
    } catch (error) {
      return error instanceof Problem ? error : new SendFailed(error);
    }
  }

  /** Renews the claim of a slow send, so that it is not taken over while this instance lives. */
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

  /** Claims the head of a lane, if it is due and no message of the lane is being sent. */
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
      // Two claims at the same moment: the unique index allowed one, and its run continues the lane.
      if (isUniqueViolation(error)) return null;
      throw error;
    }
  }

  /** Takes over a send whose claim was not renewed. */
  private async takeOver(accountId: string, epoch: number): Promise<Claim | null> {
    const [[claim]] = await this.database.query<[Claim[], number]>(
      `update messages m set attempts = m.attempts + 1, claimed_by = $3, sender = a.phone_number,
         next_attempt_at = now() + ${claimMs} * interval '1 millisecond'
       from accounts a
       where m.account_id = $1 and m.stage = 'sending' and m.next_attempt_at <= now() and ${isDriven('$1', '$2')}
       returning ${claimColumns}`,
      [accountId, epoch, this.config.instance.id],
    );
    return claim ? { ...claim, isTakenOver: true } : null;
  }

  /** Writes the end of a send, and finds or claims the lane's next head, in one statement. */
  private async finish(
    claim: Claim,
    end: { status: 'sent' } | { status: 'failed' | 'expired'; code: string; message: string },
    order: readonly number[],
    prioritiesToClaim: readonly number[],
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
          prioritiesToClaim,
          this.config.instance.id,
          claim.epoch,
        ],
      );
      if (!row) return { kind: 'done', next: null, head: null };
      const { headId, headPriority, ...claimed } = row;
      if (claimed.id) return { kind: 'done', next: claimed as Claim, head: null };
      return { kind: 'done', next: null, head: { id: headId, priority: headPriority } };
    } catch (error) {
      // Another run claimed the lane's next head at the same moment, which undid this statement.
      if (isUniqueViolation(error)) return this.finish(claim, end, order, []);
      throw error;
    }
  }

  /**
   * Counts the attempts in a row that sent nothing, for the same reason.
   * @returns 0 if the message may have left. After an uncertain attempt, this attempt counts as usual: otherwise the message
   * would hold its lane as long as the reason lasts
   */
  private countUnsentTry({ code }: Problem, { id, attempt }: Claim): number {
    if (attempt > 1 || !nothingSentCodes.has(code)) return 0;
    const before = this.unsentTries.get(id);
    const tries = before?.code === code ? before.tries + 1 : 1;
    this.unsentTries.set(id, { code, tries });
    return tries;
  }

  /**
   * Nothing was sent: the attempt does not count. After an uncertain earlier attempt the message stays `sending`: it may have
   * left already, and must not be cancelled or overtaken by other messages of its lane. Any other message becomes `queued`
   * again, and holds back only the later messages of its own priority.
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

  /**
   * The message leaves its lane for a moment, because the page or the message itself may be the reason that it was not sent. The
   * lane's next message shows which.
   */
  private async stepAside(claim: Claim, problem: Problem): Promise<void> {
    if (claim.isPaced) await this.pacing.release(claim, 'not_sent');
    await this.database.query(
      `update messages set attempts = attempts - 1, status = 'scheduled',
         scheduled_for = now() + ${asideMs} * interval '1 millisecond', error_code = $2, error_message = $3
       where id = $1 and status = 'sending'`,
      [claim.id, problem.code, problem.message],
    );
  }

  /** The page was the reason: the messages that stepped aside wait in their lane again, in their order, with all their tries. */
  private async bringBack({ id, accountId }: Claim): Promise<void> {
    const [back] = await this.database.query<[{ id: string }[], number]>(
      `update messages set status = 'queued', next_attempt_at = now(), scheduled_for = null, error_code = null,
         error_message = null
       where account_id = $1 and stage = 'scheduled' and error_code = 'whatsapp.not_sent' returning id`,
      [accountId],
    );
    for (const message of [{ id }, ...back]) this.unsentTries.delete(message.id);
  }

  /**
   * WhatsApp throttles the number checks of the account. The message leaves the lane until the checks go on, so that messages to
   * known chats pass it. The attempt does not count.
   */
  private async waitForCheck(
    claim: Claim,
    { until, isAsked, code, message }: NumberChecksPaused,
  ): Promise<void> {
    const waitMs = until - Date.now();
    // Shortly before the checks go on, it waits at its place in the lane: a later message to the same stranger must not pass it.
    if (waitMs <= 2 * returnBeforeCheckMs) return this.putBack(claim, 'not_tried', Math.max(waitMs, 0));
    if (claim.isPaced && claim.attempt === 1)
      await this.pacing.release(claim, isAsked ? 'not_sent' : 'not_tried');
    await this.database.query(
      `update messages set status = 'scheduled', attempts = attempts - 1, error_code = $3, error_message = $4,
         scheduled_for = now() + $2::int * interval '1 millisecond'
       where id = $1 and status = 'sending'`,
      [claim.id, waitMs - returnBeforeCheckMs, code, message],
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
   * The outcome stays unknown: the message becomes `unknown`, and its lane continues. If the workspace's policy says so, the
   * message is instead sent again later, under the same id, at most {@link maxResends} times. A message that may kill
   * instances waits for a person.
   */
  private async giveUp(claim: Claim, problem: Problem): Promise<void> {
    const [resent] = await this.database.query<[{ id: string }[], number]>(
      `update messages m set status = 'scheduled', scheduled_for = now() + ${resendAfterMs} * interval '1 millisecond',
         resends = m.resends + 1, attempts = 1
       from workspaces w
       where m.id = $1 and m.status = 'sending' and w.id = m.workspace_id and w.unknown_policy = 'resend'
         and m.resends < ${maxResends} and (m.expires_at is null or m.expires_at > now()) and $2 <> 'send.interrupted'
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
  return permanentCodes.has(code) && (!inconclusiveCodes.has(code) || attempt === 1);
}

function isUniqueViolation(error: unknown): boolean {
  return (error as { code?: string }).code === '23505';
}

function mayBeThePage(problem: Problem): boolean {
  return problem instanceof NotSent && problem.verdict === 'aside';
}
