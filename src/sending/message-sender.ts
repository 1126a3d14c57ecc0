import { Inject, Injectable } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { SendMeter } from '../instances/stats-sampler.js';
import { AccountSessions } from '../sessions/account-sessions.js';
import { SessionNotReady, WebIncompatible } from '../accounts/account-errors.js';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { foreignText } from '../platform/errors/foreign-text.js';
import { Problem } from '../platform/errors/problem.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import type { NumberCheck, PageSend, PageSendResult } from '../whatsapp/in-page/page-functions.js';
import type { OutgoingContent, OutgoingFile } from '../whatsapp/outgoing-content.js';
import type { WhatsAppSession } from '../whatsapp/whatsapp-session.js';
import { MessageFiles } from './message-files.js';
import { NumberChecksPaused, RecipientChecks } from './recipient-checks.js';
import { pollSecretOf } from '../messages/message.entity.js';
import { targetOf } from '../messages/message-rows.js';
import { isMediaType } from '../messages/message-types.js';
import { wholeContact } from '../messages/vcard.js';
import { isPostPlace, parseRecipient } from '../messages/recipient.js';
import type { Claim } from './claims.js';
import { type Verdict, WebBreaker } from './web-breaker.js';

export class RecipientNotRegistered extends Problem {
  constructor(chatId: string) {
    super(422, 'recipient.not_registered', `${chatId} is not registered on WhatsApp. Check the number.`);
  }
}

export class RefusedByWhatsApp extends Problem {
  constructor() {
    super(422, 'whatsapp.refused', 'WhatsApp refused the message (ack -1).');
  }
}

export class NoAnswer extends Problem {
  constructor(ms: number) {
    super(504, 'whatsapp.no_answer', `WhatsApp Web did not take the message within ${ms} ms.`);
  }
}

/** After an uncertain attempt: WhatsApp Web does not know the message, and its deadline has passed. */
export class MessageExpired extends Problem {
  constructor() {
    super(410, 'message.expired', 'The message was not sent before expiresAt.');
  }
}

/** The message has no attempts left, and WhatsApp Web does not know it. Another attempt might kill its instance too. */
export class SendInterrupted extends Problem {
  constructor() {
    super(
      500,
      'send.interrupted',
      'The instance ended during the last attempt, and WhatsApp Web does not know the message.',
    );
  }
}

export class NoChat extends Problem {
  constructor(chatId: string, reason: string) {
    super(
      422,
      'recipient.no_chat',
      `WhatsApp does not open the chat ${chatId} for this account: ${foreignText(reason)}`,
    );
    this.cause = new Error(reason);
  }
}

export class QuotedNotFound extends Problem {
  constructor() {
    super(
      422,
      'message.quoted_not_found',
      'WhatsApp Web no longer has the message in replyTo. Send a new message without replyTo.',
    );
  }
}

/** WhatsApp Web reports that it could not send: this attempt sent nothing, and a new browser would report the same. */
export class NotSent extends Problem {
  /** @param verdict whether the message or the page may be the reason */
  constructor(
    detail: string,
    readonly verdict: Verdict['at'] = 'message',
  ) {
    super(422, 'whatsapp.not_sent', `WhatsApp Web could not send the message: ${foreignText(detail)}`);
    this.cause = new Error(detail);
  }
}

/** A post of an account that may not post in the channel. */
export class ChannelNotAdmin extends Problem {
  constructor(channelId: string) {
    super(
      422,
      'channel.not_admin',
      `The account is neither the owner nor an admin of the channel ${channelId}, or there is no such channel. Let its owner invite the account as an admin, and accept that on the phone.`,
    );
  }
}

/** The page has no way to post as Flotilla knows it. */
export class PostUnsupported extends Problem {
  constructor(missing: string) {
    super(
      422,
      'whatsapp.cannot_post',
      `This version of WhatsApp Web lacks what this post needs (${foreignText(missing)}). Pin a version that has it: docs/whatsapp-web.md.`,
    );
  }
}

export class PendingInPage extends Problem {
  constructor() {
    super(504, 'whatsapp.pending', 'WhatsApp Web has the message and will send it when it is connected.');
  }
}

/** The page has the message, and gave it up without an answer of WhatsApp. */
export class GivenUpByPage extends Problem {
  constructor() {
    super(
      504,
      'whatsapp.given_up',
      'WhatsApp Web has the message and gave it up. WhatsApp did not say whether it has the message.',
    );
  }
}

export class SendFailed extends Problem {
  constructor(cause: unknown) {
    super(
      500,
      'send.failed',
      'The send was interrupted: WhatsApp Web did not report whether the message left.',
    );
    this.cause = cause;
  }
}

const rememberedSends = 1_000;
/** If WhatsApp Web fails with this many different messages in a row, the page counts as broken. */
const maxFailedMessages = 2;
/** The minimum time between two such restarts: a restart does not help if the messages cause the failures. */
const minRestartIntervalMs = 10 * 60_000;
/** The slowest upload that a send waits for, in bytes per second, and the longest wait for it. */
const minUploadRate = 256 * 1024;
const maxUploadMs = 5 * 60_000;

/** How much longer a message with media may take than a text. */
function uploadMsOf(bytes: number): number {
  return Math.min(maxUploadMs, Math.ceil((bytes / minUploadRate) * 1_000));
}

/** Sends through the sessions of this instance. Two calls for the same message share one send. */
@Injectable()
export class MessageSender {
  /** Counts the sends for the statistics of this instance. */
  readonly meter = new SendMeter();
  /** The WhatsApp ids of the latest sends. */
  private readonly sent = new LRUCache<string, true>({ max: rememberedSends });
  private readonly running = new Map<string, Promise<{ ack: number }>>();
  /** By account: the messages that WhatsApp Web failed with since the last successful send, and the last restart for that. */
  private readonly failures = new Map<string, { whatsappIds: Set<string>; restartedAt: number }>();
  private readonly breaker = new WebBreaker();

  constructor(
    private readonly sessions: AccountSessions,
    private readonly files: MessageFiles,
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
    private readonly checks: RecipientChecks,
  ) {}

  /** @throws AccountNotDrivenHere, SessionNotReady, WebIncompatible */
  requireReady(accountId: string, epoch: number): void {
    this.sessions.sendingDriver(accountId, epoch);
  }

  /** Whether this instance has just sent the message: then its ack 1 is no news. */
  hasJustSent(whatsappId: string): boolean {
    return this.sent.has(whatsappId);
  }

  /** WhatsApp refused the message after the send: if it is sent later, its ack 1 is news. */
  forget(whatsappId: string): void {
    this.sent.delete(whatsappId);
  }

  /**
   * @returns WhatsApp's ack, 1 or higher
   * @throws AccountNotDrivenHere, SessionNotReady, WebIncompatible (nothing was done), RecipientNotRegistered, RefusedByWhatsApp (a retry would
   * not help), NotSent, MediaStorageUnavailable (this attempt sent nothing). After any other error the outcome is uncertain,
   * and another call finds it out
   */
  async send(message: Claim): Promise<{ ack: number }> {
    const { accountId } = message;
    const driver = this.sessions.sendingDriver(accountId, message.epoch);
    const key = `${accountId}/${message.whatsappId}`;
    let sending = this.running.get(key);
    if (!sending) {
      const started = performance.now();
      sending = this.sendNow(accountId, driver.current, message).finally(() => this.running.delete(key));
      sending.then(
        () => {
          this.sent.set(message.whatsappId, true);
          this.failures.get(accountId)?.whatsappIds.clear();
          this.sessions.countSend(driver, true);
          this.meter.count('ok', performance.now() - started);
        },
        (error: unknown) => {
          // The message only waits.
          if (error instanceof NumberChecksPaused) return;
          this.meter.count('failed', performance.now() - started);
          if (isFailureOfPage(error)) this.sessions.countSend(driver, false);
        },
      );
      this.running.set(key, sending);
    }
    return sending;
  }

  private async sendNow(
    accountId: string,
    session: WhatsAppSession,
    message: Claim,
  ): Promise<{ ack: number }> {
    const isFirst = message.attempt === 1;
    const timeoutMs = this.config.ackTimeoutMs + uploadMsOf(message.media?.size ?? 0);
    const isLookOnly = message.isExpired || message.isLastLook === true;
    // WhatsApp Web took an expired message before its deadline, so it may have left. Only to finish it tells.
    const mayResend = message.isLastLook !== true;
    const ask = async (lookOnly: boolean) => {
      try {
        return await this.ask(session, message, timeoutMs, { lookOnly, mayResend });
      } catch (error) {
        // A page that hangs or is gone does not answer, but its session still says ready. A Problem is not the page's fault.
        if (!isFirst && !(error instanceof Problem)) this.recoverSession(accountId, session, message.attempt);
        throw error;
      }
    };
    // A message that may have arrived is looked up before its file is copied: the storage may be down, or the file deleted.
    const isLookFirst = !isFirst && message.media !== null;
    let result = await ask(isLookFirst || isLookOnly);
    if (result.outcome === 'absent' && !isLookOnly) result = await ask(false);
    if (result.outcome === 'absent') throw message.isExpired ? new MessageExpired() : new SendInterrupted();
    if (result.outcome === 'throttled' || result.outcome === 'paused') {
      const isAsked = result.outcome === 'throttled';
      // A pause may have ended since the page was told of it.
      const until = isAsked ? this.checks.throttled(accountId) : (this.checks.until(accountId) ?? Date.now());
      if (isAsked) this.logger.warn({ accountId, until }, 'WhatsApp throttles number checks: they pause');
      throw new NumberChecksPaused(until, isAsked);
    }
    // WhatsApp answered with an id, and then with another id for that id.
    if (result.outcome === 'other_id') throw new NotSent(`its number has the other id ${result.chatId}`);
    if (result.outcome === 'not_registered') throw new RecipientNotRegistered(message.chatId);
    if (result.outcome === 'not_ready') throw new SessionNotReady(accountId);
    if (result.outcome === 'no_quoted') throw new QuotedNotFound();
    if (result.outcome === 'not_admin') throw new ChannelNotAdmin(message.chatId);
    if (result.outcome === 'cannot_post') throw new PostUnsupported(result.detail);
    if (isPostPlace(message.chatId)) {
      // A post that fails says nothing about messages: neither the page nor its browser is distrusted for it.
      if (result.outcome === 'not_sent') throw new NotSent(result.detail, 'known');
      if (result.outcome === 'unsent') throw new GivenUpByPage();
      if (result.outcome === 'timed_out') throw new NoAnswer(timeoutMs);
    }
    if (result.outcome === 'not_sent') {
      const verdict = this.breaker.noteFailure(message, result.detail);
      // After an uncertain attempt this attempt counts: a single bad message must not hold its lane for ever.
      this.distrustIf(verdict, accountId, session, message.attempt === 1);
      if (verdict.at === 'known') this.restartIfBroken(accountId, session, message);
      throw new NotSent(result.detail, verdict.at);
    }
    if (result.outcome === 'no_chat') throw new NoChat(message.chatId, result.detail);
    if (result.outcome === 'unsent') {
      if (!isLookOnly) this.restartIfBroken(accountId, session, message);
      throw new GivenUpByPage();
    }
    if (result.outcome === 'pending' || result.outcome === 'timed_out') {
      this.recoverSession(accountId, session, message.attempt);
      throw result.outcome === 'pending' ? new PendingInPage() : new NoAnswer(timeoutMs);
    }
    if (result.isUnfound) this.distrustIf(this.breaker.noteUnfound(message), accountId, session, false);
    else this.breaker.noteSuccess(accountId);
    if (result.ack < 0) throw new RefusedByWhatsApp();
    return { ack: result.ack };
  }

  /**
   * Counts the page as broken if sends have shown that.
   * @param isUntried whether the attempt is to count as not made
   * @throws WebIncompatible if so, and the attempt is not to count
   */
  private distrustIf(
    verdict: Verdict,
    accountId: string,
    session: WhatsAppSession,
    isUntried: boolean,
  ): void {
    if (verdict.at !== 'page') return;
    this.logger.warn(
      { accountId, reason: verdict.reason },
      'sends fail with errors of the page: no more are sent',
    );
    session.distrust(verdict.reason, verdict.reloadAfterMs);
    if (isUntried) throw new WebIncompatible(verdict.reason);
  }

  /** @param how `lookOnly` adds no message to the page, so no file is needed; `mayResend` sends what the page has and left */
  private async ask(
    session: WhatsAppSession,
    message: Claim,
    timeoutMs: number,
    { lookOnly, mayResend }: Pick<PageSend, 'lookOnly' | 'mayResend'>,
  ): Promise<PageSendResult> {
    const { whatsappId, typingMs = 0, checkNumber = false, quoted, content } = message;
    const isFirst = message.attempt === 1;
    const mentioned = content?.mentions?.map((person) => parseRecipient(person)!.chatId) ?? [];
    const mentions = await this.checks.idsOf(message.accountId, mentioned);
    const file = message.media && !lookOnly ? await this.files.copyOf(message.id, message.media) : null;
    const sendTo = (chatId: string, numberCheck: NumberCheck) =>
      session.send({
        chatId,
        content: toOutgoingContent(message, file),
        quoted: quoted && targetOf(quoted),
        mentions,
        whatsappId,
        searchStorage: !isFirst,
        lookOnly,
        mayResend,
        timeoutMs,
        typingMs: isFirst ? typingMs : 0,
        checkNumber,
        numberCheck,
      });
    try {
      const isPaused = this.checks.until(message.accountId) !== null;
      const result = await sendTo(message.chatId, isPaused ? 'paused' : 'allowed');
      if (result.outcome !== 'other_id') return result;
      // Kept before the send: another attempt finds the message under this id only.
      await this.checks.answered(message, result.chatId);
      message.chatId = result.chatId;
      return await sendTo(result.chatId, 'done');
    } finally {
      if (file) await this.files.remove(file);
    }
  }

  /**
   * Restarts the browser of a connected page that fails with several messages in a row. It waits for a second message, because
   * only the first one may be unsendable. After an uncertain attempt it does not wait: that message holds its lane, so no
   * second message comes.
   */
  private restartIfBroken(accountId: string, session: WhatsAppSession, { whatsappId, attempt }: Claim): void {
    const failures = this.failures.get(accountId) ?? { whatsappIds: new Set(), restartedAt: -Infinity };
    this.failures.set(accountId, failures);
    failures.whatsappIds.add(whatsappId);
    const now = performance.now();
    if (attempt === 1 && failures.whatsappIds.size < maxFailedMessages) return;
    if (now < failures.restartedAt + minRestartIntervalMs) return;
    failures.whatsappIds.clear();
    failures.restartedAt = now;
    this.logger.warn({ accountId, attempt }, 'WhatsApp Web is connected but fails: restarting its browser');
    if (session.ready) this.sessions.driver(accountId).restart('not_sent');
  }

  /**
   * The watchdog: a message without ack 1 means that the session is dead, even if it says ready. First it reconnects the page,
   * and WhatsApp Web then resends the pending messages. If that does not help, it restarts the browser.
   */
  private recoverSession(accountId: string, session: WhatsAppSession, attempt: number): void {
    this.logger.warn({ accountId, attempt }, 'no ack in time: recovering the session');
    // The session has ended by itself, or a new session has replaced it: the new session is not to blame.
    if (!session.ready) return;
    if (attempt > 1) this.sessions.driver(accountId).restart('no_ack');
    else
      session
        .reconnect()
        .catch((error: unknown) =>
          this.logger.warn(
            { err: error, accountId },
            'the page did not reconnect; the next attempt restarts its browser',
          ),
        );
  }
}

/** Whether WhatsApp Web failed with the message. Other errors say nothing about its version. */
function isFailureOfPage(error: unknown): boolean {
  if (!(error instanceof Problem)) return true;
  return error instanceof NotSent || error instanceof NoAnswer || error instanceof PendingInPage;
}

/** The content that a session sends for a message of the ledger. @param file the copy of its media on this machine */
function toOutgoingContent(
  { id, type, text, content }: Pick<Claim, 'id' | 'type' | 'text' | 'content'>,
  file: OutgoingFile | null,
): OutgoingContent {
  if (isMediaType(type) && file) {
    const { viewOnce = false, gif = false } = content ?? {};
    return { type, caption: text, file, viewOnce, gif };
  }
  if (type === 'location' && content?.location) {
    const { latitude, longitude, name, address } = content.location;
    const description = [name, address].filter((line) => line !== null).join('\n');
    return { type, latitude, longitude, description: description === '' ? null : description };
  }
  if (type === 'contact' && content?.contact)
    return {
      type,
      cards: content.contact.map(wholeContact).map(({ name, vcard }) => ({ name, vcard })),
    };
  if (type === 'poll' && content?.poll) return { type, ...content.poll, secret: pollSecretOf(id) };
  return { type: 'text', text: text ?? '', linkPreview: content?.linkPreview !== false };
}
