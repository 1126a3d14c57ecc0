import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource, InjectRepository } from '@nestjs/typeorm';
import stringify from 'safe-stable-stringify';
import { createHash } from 'node:crypto';
import { DataSource, type EntityManager, LessThan, MoreThanOrEqual, Repository } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { isColdSql } from '../pacing/pacing-rows.js';
import { firstIdAt } from '../platform/database/ids.js';
import { prepared, preparedIn, type RunSql } from '../platform/database/prepared.js';
import { Problem } from '../platform/errors/problem.js';
import { given } from '../platform/database/given.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { poll } from '../platform/poll.js';
import { QueuesService } from '../queues/queues.service.js';
import { type Grant, LimitsService, MessageLimitReached, type Usage } from '../workspaces/limits.service.js';
import { headJob } from './head-job.js';
import { ContentPreparation, type Prepared } from './content-preparation.js';
import { type Accepted, insertMessage } from './message-insert.js';
import { Message, whatsappIdOf } from './message.entity.js';
import {
  type BatchItemResponse,
  type ListMessagesQuery,
  SendMessageDto,
  toMessageResponse,
} from './messages.dto.js';
import { parseRecipient } from './recipient.js';

export class MessageNotFound extends Problem {
  constructor(id: string) {
    super(404, 'message.not_found', `This workspace has no message ${id}.`);
  }
}

export class MessageAlreadySending extends Problem {
  constructor({ status }: Message, hint = 'can no longer be cancelled') {
    super(409, 'message.already_sending', `The message is ${status} and ${hint}.`);
  }
}

export class MessageNotResendable extends Problem {
  constructor(message: Message) {
    super(
      409,
      'message.not_resendable',
      `The message is ${message.status}. Only one that failed, or whose outcome is unknown, can be sent again.`,
    );
  }
}

export class IdempotencyMismatch extends Problem {
  constructor() {
    super(
      422,
      'idempotency.mismatch',
      'This Idempotency-Key was used for another request. Use a new key for a new message.',
    );
  }
}

export class IdempotencyInProgress extends Problem {
  constructor() {
    super(
      409,
      'idempotency.in_progress',
      'A request with this Idempotency-Key is still running. Ask again in a moment: it gets the answer of that one.',
    );
  }
}

const reached = { sent: ['sent', 'delivered', 'read', 'played'], delivered: ['delivered', 'read', 'played'] };
const final = new Set(['read', 'played', 'failed', 'unknown', 'cancelled', 'expired']);
const firstWaitPauseMs = 40;
const longestWaitPauseMs = 1_000;

/** The ledger as its owners see it: accepting, reading, cancelling. Sending is `sending.service.ts`. */
@Injectable()
export class MessagesService {
  private readonly runOnPool: RunSql = (text, values) => prepared(this.database, text, values);

  constructor(
    @InjectRepository(Message) private readonly messages: Repository<Message>,
    @InjectDataSource() private readonly database: DataSource,
    private readonly queues: QueuesService,
    private readonly contents: ContentPreparation,
    private readonly limits: LimitsService,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {
    limits.onUsage((workspaceId) => this.usage(workspaceId));
  }

  /**
   * Accepts a message: from now on it is sent once, whatever dies. Works while Redis is down.
   * @param idempotencyKey the same key with the same request gives the first answer again
   * @throws AccountNotFound, NoAccountReady, ValidationFailed, ContentMismatch, MessageLimitReached, IdempotencyMismatch,
   * IdempotencyInProgress, and what is wrong with its media (see `MediaService.take`)
   */
  async accept(workspaceId: string, wanted: SendMessageDto, idempotencyKey?: string): Promise<Message> {
    if (idempotencyKey !== undefined) return this.acceptOnce(workspaceId, wanted, idempotencyKey);
    const grant = await this.limits.takeMessage(workspaceId);
    try {
      const content = await this.contents.prepare(workspaceId, wanted);
      const accepted = await insertMessage(this.database, this.runOnPool, workspaceId, wanted, content);
      this.kick(accepted);
      return accepted.message;
    } catch (error) {
      await this.limits.giveBack(grant, 1);
      throw error;
    }
  }

  /** Accepts up to 1,000 messages; each has its own outcome. */
  async acceptBatch(workspaceId: string, wanted: Record<string, unknown>[]): Promise<BatchItemResponse[]> {
    const grant = await this.limits.takeMessages(workspaceId, wanted.length);
    let outcomes: (Accepted | Problem)[] = [];
    try {
      const candidates = await this.contents.prepareBatch(workspaceId, wanted, grant);
      outcomes = await this.insertAll(workspaceId, candidates, grant);
    } finally {
      const used = outcomes.filter((outcome) => !(outcome instanceof Problem)).length;
      await this.limits.giveBack(grant, grant.count - used);
    }
    return outcomes.map((outcome, index) => {
      if (!(outcome instanceof Problem)) {
        this.kick(outcome);
        return { index, status: 202, message: toMessageResponse(outcome.message) };
      }
      const { status, code, message, errors } = outcome;
      return { index, status, error: { code, detail: message, errors } };
    });
  }

  /** How many messages a workspace posted in the last minute, and had in the last 24 hours. */
  private async usage(
    workspaceId: string,
  ): Promise<Pick<Usage, 'messagesLastMinute' | 'messagesLast24Hours'>> {
    const now = Date.now();
    const [counts] = await this.database.query(
      `select (select count(*)::int from messages where workspace_id = $1 and id >= $2 and direction = 'outgoing'
           and created_at > now() - interval '1 minute') as "messagesLastMinute",
         (select count(*)::int from messages where workspace_id = $1 and id >= $3
           and created_at > now() - interval '1 day') as "messagesLast24Hours"`,
      [workspaceId, firstIdAt(now - 2 * 60_000), firstIdAt(now - 25 * 3_600_000)],
    );
    return counts;
  }

  /** @throws MessageNotFound, also for a message of another workspace */
  async get(workspaceId: string, id: string): Promise<Message> {
    const message = await this.messages.findOneBy({ id, workspaceId });
    if (!message) throw new MessageNotFound(id);
    return message;
  }

  /** Up to `limit + 1` messages, newest first. */
  async list(workspaceId: string, query: ListMessagesQuery): Promise<Message[]> {
    return this.messages.find({
      where: {
        workspaceId,
        ...given({
          accountId: query.accountId,
          status: query.status,
          direction: query.direction,
          campaignId: query.campaignId,
          recipient: query.to === undefined ? undefined : parseRecipient(query.to)?.address,
          createdAt: query.since === undefined ? undefined : MoreThanOrEqual(new Date(query.since)),
          id: query.cursor === undefined ? undefined : LessThan(query.cursor),
        }),
      },
      order: { id: 'DESC' },
      take: query.limit + 1,
    });
  }

  /** Cancels a message that has never been tried. @throws MessageNotFound, MessageAlreadySending */
  async cancel(workspaceId: string, id: string): Promise<Message> {
    const { affected } = await this.messages
      .createQueryBuilder()
      .update({ status: 'cancelled' })
      // One that is sent again because its outcome was unknown may have arrived.
      .where(
        `id = :id and workspace_id = :workspaceId and status in ('scheduled', 'queued') and attempts = 0`,
        { id, workspaceId },
      )
      .execute();
    const message = await this.get(workspaceId, id);
    if (!affected && message.status !== 'cancelled') throw new MessageAlreadySending(message);
    return message;
  }

  /**
   * Sends a message again that failed, under a new WhatsApp id, or whose outcome is unknown: under the same id, which its
   * recipient drops when the first one did arrive.
   * @throws MessageNotFound, MessageNotResendable
   */
  async resend(workspaceId: string, id: string): Promise<Message> {
    const message = await this.get(workspaceId, id);
    // The id of a refused message is burnt: WhatsApp Web keeps it as refused.
    const whatsappId =
      message.status === 'failed' ? whatsappIdOf(`${id}/${message.resends + 1}`) : message.whatsappId;
    const { affected } = await this.messages
      .createQueryBuilder()
      .update({
        status: 'queued',
        resends: message.resends + 1,
        whatsappId,
        // The first try looks for an unknown one before it sends, as every later try does.
        attempts: message.status === 'unknown' ? 1 : 0,
        nextAttemptAt: () => 'now()',
        isCold: () => isColdSql('messages.account_id', 'messages.chat_id'),
        errorCode: null,
        errorMessage: null,
        failedAt: null,
        // It is wanted now, however late.
        expiresAt: null,
      })
      .where(
        `id = :id and workspace_id = :workspaceId and direction = 'outgoing' and status = :status and resends = :resends
         and status in ('failed', 'unknown')`,
        { id, workspaceId, status: message.status, resends: message.resends },
      )
      .execute();
    const now = await this.get(workspaceId, id);
    if (!affected) throw new MessageNotResendable(now);
    this.kick({ message: now, isHead: true });
    return now;
  }

  /**
   * Waits until a message has got as far as asked, or can get no further, or the time is over. It has been accepted, so that
   * while PostgreSQL does not answer, it goes on waiting: whoever is told of an error would send it once more.
   * @param gone ends the waiting: nobody is there to be told
   */
  async waitFor(
    message: Message,
    goal: 'sent' | 'delivered',
    timeoutMs: number,
    gone?: AbortSignal,
  ): Promise<{ message: Message; isReached: boolean }> {
    let current = message;
    const read = async () => {
      try {
        current = await this.get(message.workspaceId, message.id);
      } catch (error) {
        if (error instanceof MessageNotFound) throw error;
        this.logger.warn({ err: error, messageId: message.id }, 'how far a message has got is not known now');
      }
    };
    const isOver = async (asked: number) => {
      if (asked > 0) await read();
      return reached[goal].includes(current.status) || final.has(current.status);
    };
    await poll(isOver, {
      // Most are sent at once; a wait for a phone that is off costs little.
      pauseMs: (asked) => Math.min(firstWaitPauseMs * 1.25 ** (asked - 1), longestWaitPauseMs),
      limitMs: timeoutMs,
      signal: gone,
    });
    return { message: current, isReached: reached[goal].includes(current.status) };
  }

  /** Forgets idempotency keys after two days. */
  async forgetIdempotencyKeys(): Promise<void> {
    await this.database.query(`delete from idempotency_keys where created_at < now() - interval '2 days'`);
  }

  private async acceptOnce(workspaceId: string, wanted: SendMessageDto, key: string): Promise<Message> {
    // The same request may name its fields in another order.
    const hash = createHash('sha256').update(stringify(wanted)).digest();
    const known = await this.idempotent(this.runOnPool, workspaceId, key, hash);
    if (known !== null) return asAccepted(await this.get(workspaceId, known), wanted);
    const grant = await this.limits.takeMessage(workspaceId);
    let accepted: Accepted | null = null;
    let messageId = uuidv7();
    try {
      const content = await this.contents.prepare(workspaceId, wanted);
      const outcome = await this.database.transaction(async (manager) => {
        const [{ free }] = await manager.query(
          'select pg_try_advisory_xact_lock(hashtextextended($1, 0)) as free',
          [`${workspaceId} ${key}`],
        );
        if (!free) throw new IdempotencyInProgress();
        const claimed: unknown[] = await manager.query(
          `insert into idempotency_keys (workspace_id, key, request_hash, message_id) values ($1, $2, $3, $4)
           on conflict do nothing returning key`,
          [workspaceId, key, hash, messageId],
        );
        const inside = runIn(manager);
        return claimed.length > 0
          ? await insertMessage(this.database, inside, workspaceId, wanted, content, messageId)
          : (await this.idempotent(inside, workspaceId, key, hash))!;
      });
      if (typeof outcome === 'string') messageId = outcome;
      else accepted = outcome;
    } finally {
      if (!accepted) await this.limits.giveBack(grant, 1);
    }
    if (!accepted) return asAccepted(await this.get(workspaceId, messageId), wanted);
    this.kick(accepted);
    return accepted.message;
  }

  /** One transaction: its one commit is what a thousand would have to wait for a thousand times. */
  private async insertAll(
    workspaceId: string,
    candidates: Prepared[],
    grant: Grant,
  ): Promise<(Accepted | Problem)[]> {
    return this.database.transaction(async (manager) => {
      // What was deleted meanwhile is missing to its own message only.
      const held = await this.contents.hold(manager, workspaceId, candidates);
      const outcomes: (Accepted | Problem)[] = [];
      let left = grant.count;
      for (const candidate of held) {
        try {
          if (candidate instanceof Problem) throw candidate;
          if (left === 0) throw new MessageLimitReached(grant.limit);
          const { dto, content } = candidate;
          outcomes.push(await insertMessage(this.database, runIn(manager), workspaceId, dto, content));
          left -= 1;
        } catch (error) {
          if (!(error instanceof Problem)) throw error;
          outcomes.push(error);
        }
      }
      return outcomes;
    });
  }

  /** The message that a request with this key made; null when there was none. @throws IdempotencyMismatch */
  private async idempotent(
    run: RunSql,
    workspaceId: string,
    key: string,
    hash: Buffer,
  ): Promise<string | null> {
    const [first] = await run(
      'select request_hash, message_id from idempotency_keys where workspace_id = $1 and key = $2',
      [workspaceId, key],
    );
    if (!first) return null;
    if (!hash.equals(first.request_hash as Buffer)) throw new IdempotencyMismatch();
    return first.message_id as string;
  }

  /** Tells the queue, as best effort: the sweep finds whatever Redis does not hear of. */
  private kick({ message, isHead }: Accepted): void {
    if (!isHead) return;
    this.queues
      .put([headJob(message.id, message.priority)])
      .catch((error: unknown) => this.logger.warn({ err: error }, 'a queue was not told; the sweep will'));
  }
}

/** A message as the answer to its acceptance showed it. @param wanted what was accepted */
function asAccepted(message: Message, { text, media }: SendMessageDto): Message {
  // Where the policy says so, an uncertain message is scheduled to be sent again.
  const scheduledFor = message.status === 'scheduled' && message.attempts > 0 ? null : message.scheduledFor;
  return Object.assign(message, {
    status: scheduledFor === null ? 'queued' : 'scheduled',
    scheduledFor,
    text: media?.caption ?? text ?? null,
    editedAt: null,
    attempts: 0,
    whatsappId: whatsappIdOf(message.id),
    errorCode: null,
    errorMessage: null,
    sentAt: null,
    deliveredAt: null,
    readAt: null,
    failedAt: null,
    revokedAt: null,
    reactions: [],
    votes: [],
  });
}

function runIn(manager: EntityManager): RunSql {
  return (text, values) => preparedIn(manager, text, values);
}
