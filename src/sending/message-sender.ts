import { Inject, Injectable } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { SendMeter } from '../instances/stats-sampler.js';
import { AccountSessions } from '../sessions/account-sessions.js';
import { SessionNotReady } from '../accounts/account-errors.js';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import type { PageSendResult } from '../whatsapp/in-page/page-functions.js';
import type { OutgoingContent, OutgoingFile } from '../whatsapp/outgoing-content.js';
import type { WhatsAppSession } from '../whatsapp/whatsapp-session.js';
import { MessageFiles } from './message-files.js';
import { pollSecretOf } from '../messages/message.entity.js';
import { targetOf } from '../messages/message-rows.js';
import { isMediaType } from '../messages/message-types.js';
import { toVcard } from '../messages/vcard.js';
import { parseRecipient } from '../messages/recipient.js';
import type { Claim } from './claims.js';

export class RecipientNotRegistered extends Problem {
  constructor(chatId: string) {
    super(422, 'recipient.not_registered', `${chatId} has no WhatsApp.`);
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

/** Of a try whose outcome was uncertain: WhatsApp Web does not know the message, and it is too late to send it. */
export class MessageExpired extends Problem {
  constructor() {
    super(410, 'message.expired', 'It was not sent before expiresAt.');
  }
}

/** Of a message that was tried often enough: WhatsApp Web does not know it, and another try might be the end of its instance too. */
export class SendInterrupted extends Problem {
  constructor() {
    super(
      500,
      'send.interrupted',
      'Its last try was cut short by the end of its instance, and WhatsApp Web does not know the message.',
    );
  }
}

export class NoChat extends Problem {
  constructor(chatId: string, reason: string) {
    super(422, 'recipient.no_chat', `WhatsApp opens no chat ${chatId} for this account: ${reason}`);
  }
}

export class QuotedNotFound extends Problem {
  constructor() {
    super(
      422,
      'message.quoted_not_found',
      'WhatsApp Web does not have the message that this one answers any more. Send it again without replyTo.',
    );
  }
}

/** WhatsApp Web says itself that it could not: this try sent nothing, and a new browser would say the same. */
export class NotSent extends Problem {
  constructor(detail: string) {
    super(422, 'whatsapp.not_sent', `WhatsApp Web could not send the message: ${detail.slice(0, 500)}`);
  }
}

export class PendingInPage extends Problem {
  constructor() {
    super(504, 'whatsapp.pending', 'WhatsApp Web has the message and sends it as soon as it is connected.');
  }
}

export class SendFailed extends Problem {
  constructor(cause: unknown) {
    super(500, 'send.failed', 'The send broke off: WhatsApp Web did not say whether the message left.');
    this.cause = cause;
  }
}

const rememberedSends = 1_000;
/** How many different messages, one after the other, WhatsApp Web fails with before it is taken to be broken itself. */
const brokenAfter = 2;
/** How soon the browser of such a page is restarted again: what the messages are to blame for, no browser heals. */
const healEveryMs = 10 * 60_000;
/** The slowest connection of which an upload is waited for, in bytes a second, and the longest that one is. */
const slowestUpload = 256 * 1024;
const longestUploadMs = 5 * 60_000;

/** How much longer than a text a message with media may take. */
function uploadMsOf(bytes: number): number {
  return Math.min(longestUploadMs, Math.ceil((bytes / slowestUpload) * 1_000));
}

/** Sends through the sessions of this instance. The same message asked for twice is sent once: the calls are joined. */
@Injectable()
export class MessageSender {
  /** Counts the sends for the statistics of this instance. */
  readonly meter = new SendMeter();
  /** The WhatsApp ids of the latest sends. */
  private readonly sent = new LRUCache<string, true>({ max: rememberedSends });
  private readonly running = new Map<string, Promise<{ ack: number }>>();
  /** By account: what WhatsApp Web failed with since it sent one last, and when it was restarted for that. */
  private readonly failures = new Map<string, { whatsappIds: Set<string>; healedAt: number }>();

  constructor(
    private readonly sessions: AccountSessions,
    private readonly files: MessageFiles,
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  /** @throws AccountNotDrivenHere, SessionNotReady */
  require(accountId: string, epoch: number): void {
    this.sessions.readyDriver(accountId, epoch);
  }

  /** Whether a message was sent by this instance a short while ago: then its ack 1 says nothing new. */
  hasJustSent(whatsappId: string): boolean {
    return this.sent.has(whatsappId);
  }

  /** That a message was refused after all: if it is sent later, its ack 1 is news. */
  forget(whatsappId: string): void {
    this.sent.delete(whatsappId);
  }

  /**
   * @returns WhatsApp's ack, 1 or higher
   * @throws AccountNotDrivenHere, SessionNotReady (nothing was done), RecipientNotRegistered, RefusedByWhatsApp (nothing
   * more can be done), NotSent, MediaStorageUnavailable (this try sent nothing), or anything else: then the outcome is
   * uncertain, and asking again tells
   */
  async send(message: Claim): Promise<{ ack: number }> {
    const { accountId } = message;
    const driver = this.sessions.readyDriver(accountId, message.epoch);
    const key = `${accountId}/${message.whatsappId}`;
    let sending = this.running.get(key);
    if (!sending) {
      const started = performance.now();
      sending = this.sendNow(accountId, driver.current, message).finally(() => this.running.delete(key));
      sending.then(
        () => {
          this.sent.set(message.whatsappId, true);
          this.failures.get(accountId)?.whatsappIds.clear();
          this.meter.count('ok', performance.now() - started);
        },
        () => this.meter.count('failed', performance.now() - started),
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
    const ask = async (lookOnly: boolean) => {
      try {
        return await this.ask(session, message, timeoutMs, lookOnly);
      } catch (error) {
        // A page that hangs or is gone answers nothing, and says ready all the same. A storage is no page.
        if (!isFirst && !(error instanceof Problem)) this.revive(accountId, session, message.attempt);
        throw error;
      }
    };
    const looksOnly = message.isExpired || message.isLastLook === true;
    // What may have arrived is looked for before its file is fetched: the storage may be down, or have it no more.
    const looksFirst = !isFirst && message.media !== null;
    let result = await ask(looksFirst || looksOnly);
    if (result.outcome === 'absent' && !looksOnly) result = await ask(false);
    if (result.outcome === 'absent') throw message.isExpired ? new MessageExpired() : new SendInterrupted();
    if (result.outcome === 'not_registered') throw new RecipientNotRegistered(message.chatId);
    if (result.outcome === 'not_ready') throw new SessionNotReady(accountId);
    if (result.outcome === 'no_quoted') throw new QuotedNotFound();
    if (result.outcome === 'not_sent') {
      this.heal(accountId, session, message);
      throw new NotSent(result.detail);
    }
    if (result.outcome === 'no_chat') throw new NoChat(message.chatId, result.detail);
    if (result.outcome === 'pending' || result.outcome === 'timed_out') {
      this.revive(accountId, session, message.attempt);
      throw result.outcome === 'pending' ? new PendingInPage() : new NoAnswer(timeoutMs);
    }
    if (result.ack < 0) throw new RefusedByWhatsApp();
    return { ack: result.ack };
  }

  /** @param lookOnly nothing is sent, so that no file is needed */
  private async ask(
    session: WhatsAppSession,
    message: Claim,
    timeoutMs: number,
    lookOnly: boolean,
  ): Promise<PageSendResult> {
    const { chatId, whatsappId, typingMs = 0, checkNumber = false, quoted, content } = message;
    const isFirst = message.attempt === 1;
    const file = message.media && !lookOnly ? await this.files.copyOf(message.id, message.media) : null;
    try {
      return await session.send({
        chatId,
        content: toOutgoingContent(message, file),
        quoted: quoted && targetOf(quoted),
        mentions: content?.mentions?.map((person) => parseRecipient(person)!.chatId) ?? [],
        whatsappId,
        thorough: !isFirst,
        lookOnly,
        timeoutMs,
        typingMs: isFirst ? typingMs : 0,
        checkNumber,
      });
    } finally {
      if (file) await this.files.remove(file);
    }
  }

  /**
   * Restarts the browser of a page that is connected, but fails with one message after the other: not before a second one,
   * since it may be the first that cannot be sent. What may have left already holds its lane, so that no second one comes.
   */
  private heal(accountId: string, session: WhatsAppSession, { whatsappId, attempt }: Claim): void {
    const failures = this.failures.get(accountId) ?? { whatsappIds: new Set(), healedAt: -Infinity };
    this.failures.set(accountId, failures);
    failures.whatsappIds.add(whatsappId);
    const now = performance.now();
    if (attempt === 1 && failures.whatsappIds.size < brokenAfter) return;
    if (now < failures.healedAt + healEveryMs) return;
    failures.whatsappIds.clear();
    failures.healedAt = now;
    this.logger.warn({ accountId, attempt }, 'WhatsApp Web is connected and fails: it is restarted');
    if (session.ready) this.sessions.driver(accountId).restart('not_sent');
  }

  /**
   * The watchdog: a message without ack 1 says that the session is dead, whatever it calls itself. Its connection is made
   * anew, over which WhatsApp Web sends again what waits; if that does not help, its browser is.
   */
  private revive(accountId: string, session: WhatsAppSession, attempt: number): void {
    this.logger.warn({ accountId, attempt }, 'no ack in time: the connection is made anew');
    // It has ended by itself, or another one has taken its place: that one is not to blame.
    if (!session.ready) return;
    if (attempt > 1) this.sessions.driver(accountId).restart('no_ack');
    else
      session
        .reconnect()
        .catch((error: unknown) =>
          this.logger.warn(
            { err: error, accountId },
            'the page did not reconnect; the next attempt restarts it',
          ),
        );
  }
}

/** What a session is to send for a message of the ledger. @param file the copy of its media on this machine */
function toOutgoingContent(
  { id, type, text, content }: Pick<Claim, 'id' | 'type' | 'text' | 'content'>,
  file: OutgoingFile | null,
): OutgoingContent {
  if (isMediaType(type) && file) return { type, caption: text, file };
  if (type === 'location' && content?.location) {
    const { latitude, longitude, name, address } = content.location;
    const description = [name, address].filter((line) => line !== null).join('\n');
    return { type, latitude, longitude, description: description === '' ? null : description };
  }
  if (type === 'contact' && content?.contact)
    return {
      type,
      cards: content.contact.map((contact) => ({ name: contact.name, vcard: toVcard(contact) })),
    };
  if (type === 'poll' && content?.poll) return { type, ...content.poll, secret: pollSecretOf(id) };
  return { type: 'text', text: text ?? '' };
}
