import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import stringify from 'safe-stable-stringify';
import { createHash } from 'node:crypto';
import { DataSource, type EntityManager } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { AccountNotFound } from '../accounts/account-errors.js';
import { isColdSql } from '../pacing/pacing-rows.js';
import { prepared, preparedIn, type RunSql } from '../platform/database/prepared.js';
import { toEntity } from '../platform/database/typeorm-internals.js';
import { Problem, ValidationFailed } from '../platform/errors/problem.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { QueuesService } from '../queues/queues.service.js';
import { type Grant, LimitsService, MessageLimitReached } from '../workspaces/limits.service.js';
import {
  type CheckBeforeFile,
  ContentPreparation,
  type Prepared,
  type PreparedContent,
} from './content-preparation.js';
import { headJob, Message, priorities, whatsappIdOf } from './message.entity.js';
import { type BatchItemResponse, SendMessageDto, toMessageResponse } from './messages.dto.js';
import type { AwaitedStatus } from './message-waits.js';
import { MessagesService } from './messages.service.js';
import { parseDestination } from './recipient.js';
import { formsSql, knownIdSql } from './recipient-ids.service.js';

export class NoAccountReady extends Problem {
  constructor() {
    super(
      409,
      'account.none_ready',
      'No account of this workspace is ready to send. Connect an account, or set accountId: then the message waits for that account.',
    );
  }
}

export class MessageNotResendable extends Problem {
  constructor(message: Message) {
    super(
      409,
      'message.not_resendable',
      `The message is ${message.status}. Only a failed or unknown message can be sent again.`,
    );
  }
}

export class IdempotencyMismatch extends Problem {
  constructor() {
    super(
      422,
      'idempotency.mismatch',
      'This Idempotency-Key belongs to a different request. Use a new key for a new message.',
    );
  }
}

export class IdempotencyInProgress extends Problem {
  constructor() {
    super(
      409,
      'idempotency.in_progress',
      'A request with this Idempotency-Key is still running. Repeat the request in a moment to get its answer.',
    );
  }
}

/** A message that has been accepted. */
export interface Accepted {
  message: Message;
  /** No message of the same or a higher priority was waiting in the lane, so its queue needs a job for this message. */
  isHead: boolean;
}

/** Writes each accepted message into the ledger once, and puts a job for its lane. */
@Injectable()
export class AcceptService {
  private readonly runOnPool: RunSql = (text, values) => prepared(this.database, text, values);

  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly queues: QueuesService,
    private readonly messages: MessagesService,
    private readonly contents: ContentPreparation,
    private readonly limits: LimitsService,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  /**
   * Accepts a message. From then on Flotilla sends it once, even if any process dies. Works while Redis is down.
   * @param idempotencyKey the same key with the same request returns the first answer again
   * @param awaited the status that the caller will wait for
   * @throws AccountNotFound, NoAccountReady, ValidationFailed, ContentMismatch, MessageLimitReached, IdempotencyMismatch,
   * IdempotencyInProgress, and the errors of `MediaService.take`
   */
  async accept(
    workspaceId: string,
    wanted: SendMessageDto,
    idempotencyKey?: string,
    awaited?: AwaitedStatus,
  ): Promise<Message> {
    if (idempotencyKey !== undefined) return this.acceptOnce(workspaceId, wanted, idempotencyKey, awaited);
    const grant = await this.limits.takeMessage(workspaceId);
    try {
      const content = await this.contents.prepare(workspaceId, wanted, this.checkBeforeFile);
      const accepted = await insertMessage(this.database, this.runOnPool, workspaceId, wanted, content, {
        awaited,
      });
      this.putJob(accepted);
      return accepted.message;
    } catch (error) {
      await this.limits.giveBack(grant, 1);
      throw error;
    }
  }

  /**
   * Accepts a message whose content is prepared already.
   * @throws AccountNotFound, NoAccountReady, MessageLimitReached
   */
  async acceptPrepared(
    workspaceId: string,
    wanted: SendMessageDto,
    content: PreparedContent,
  ): Promise<Message> {
    const grant = await this.limits.takeMessage(workspaceId);
    try {
      const accepted = await insertMessage(this.database, this.runOnPool, workspaceId, wanted, content, {});
      this.putJob(accepted);
      return accepted.message;
    } catch (error) {
      await this.limits.giveBack(grant, 1);
      throw error;
    }
  }

  /** Accepts up to 1,000 messages. Each message has its own result. */
  async acceptBatch(workspaceId: string, wanted: Record<string, unknown>[]): Promise<BatchItemResponse[]> {
    const grant = await this.limits.takeMessages(workspaceId, wanted.length);
    let outcomes: (Accepted | Problem)[] = [];
    try {
      const candidates = await this.contents.prepareBatch(workspaceId, wanted, grant, this.checkBeforeFile);
      outcomes = await this.insertAll(workspaceId, candidates, grant);
    } finally {
      const used = outcomes.filter((outcome) => !(outcome instanceof Problem)).length;
      await this.limits.giveBack(grant, grant.count - used);
    }
    return outcomes.map((outcome, index) => {
      if (!(outcome instanceof Problem)) {
        this.putJob(outcome);
        return { index, status: 202, message: toMessageResponse(outcome.message) };
      }
      const { status, code, message, errors } = outcome;
      return { index, status, error: { code, detail: message, errors } };
    });
  }

  /**
   * Sends a failed or unknown message again. A failed message gets a new WhatsApp id. An unknown message keeps its id: if the
   * first send did arrive, the recipient's WhatsApp drops the second one.
   * @throws MessageNotFound, MessageNotResendable
   */
  async resend(workspaceId: string, id: string): Promise<Message> {
    const message = await this.messages.get(workspaceId, id);
    // The id of a refused message cannot be used again: WhatsApp Web remembers that it was refused.
    const whatsappId =
      message.status === 'failed' ? whatsappIdOf(`${id}/${message.resends + 1}`) : message.whatsappId;
    const { affected } = await this.database
      .createQueryBuilder()
      .update(Message)
      .set({
        status: 'queued',
        resends: message.resends + 1,
        whatsappId,
        // With 1, the next attempt counts as a retry: it looks for the message in WhatsApp Web before it sends.
        attempts: message.status === 'unknown' ? 1 : 0,
        nextAttemptAt: () => 'now()',
        isCold: () => isColdSql('messages.account_id', 'messages.chat_id'),
        errorCode: null,
        errorMessage: null,
        failedAt: null,
        // The caller wants the message sent now, even after its deadline.
        expiresAt: null,
      })
      .where(
        `id = :id and workspace_id = :workspaceId and direction = 'outgoing' and status = :status and resends = :resends
         and status in ('failed', 'unknown')`,
        { id, workspaceId, status: message.status, resends: message.resends },
      )
      .execute();
    const now = await this.messages.get(workspaceId, id);
    if (!affected) throw new MessageNotResendable(now);
    this.putJob({ message: now, isHead: true });
    return now;
  }

  /** Deletes idempotency keys that are older than two days. */
  async forgetIdempotencyKeys(): Promise<void> {
    await this.database.query(`delete from idempotency_keys where created_at < now() - interval '2 days'`);
  }

  private async acceptOnce(
    workspaceId: string,
    wanted: SendMessageDto,
    key: string,
    awaited?: AwaitedStatus,
  ): Promise<Message> {
    // A stable order: the same request may list its fields in another order.
    const hash = createHash('sha256').update(stringify(wanted)).digest();
    const known = await this.findByKey(this.runOnPool, workspaceId, key, hash);
    if (known !== null) return this.repeated(workspaceId, known, wanted, awaited);
    const grant = await this.limits.takeMessage(workspaceId);
    let accepted: Accepted | null = null;
    let messageId = uuidv7();
    try {
      const content = await this.contents.prepare(workspaceId, wanted, this.checkBeforeFile);
      const outcome = await this.database.transaction(async (manager) => {
        const [lock] = await manager.query<{ free: boolean }[]>(
          'select pg_try_advisory_xact_lock(hashtextextended($1, 0)) as free',
          [`${workspaceId} ${key}`],
        );
        if (!lock?.free) throw new IdempotencyInProgress();
        const claimed: unknown[] = await manager.query(
          `insert into idempotency_keys (workspace_id, key, request_hash, message_id) values ($1, $2, $3, $4)
           on conflict do nothing returning key`,
          [workspaceId, key, hash, messageId],
        );
        const inside = runIn(manager);
        return claimed.length > 0
          ? await insertMessage(this.database, inside, workspaceId, wanted, content, {
              id: messageId,
              awaited,
            })
          : (await this.findByKey(inside, workspaceId, key, hash))!;
      });
      if (typeof outcome === 'string') messageId = outcome;
      else accepted = outcome;
    } finally {
      if (!accepted) await this.limits.giveBack(grant, 1);
    }
    if (!accepted) return this.repeated(workspaceId, messageId, wanted, awaited);
    this.putJob(accepted);
    return accepted.message;
  }

  /** The answer to a repeated request. The first request may have waited for nothing or for less. */
  private async repeated(
    workspaceId: string,
    id: string,
    wanted: SendMessageDto,
    awaited?: AwaitedStatus,
  ): Promise<Message> {
    if (awaited !== undefined)
      await this.database.query(
        `update messages set awaited_status = $3 where id = $1 and workspace_id = $2
           and awaited_status is distinct from $3 and awaited_status is distinct from 'delivered'`,
        [id, workspaceId, awaited],
      );
    return asAccepted(await this.messages.get(workspaceId, id), wanted);
  }

  /** One transaction for all messages: a commit for each of 1,000 messages would wait for the disk 1,000 times. */
  private async insertAll(
    workspaceId: string,
    candidates: Prepared[],
    grant: Grant,
  ): Promise<(Accepted | Problem)[]> {
    return this.database.transaction(async (manager) => {
      // If a file was deleted meanwhile, only its own message fails.
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

  /** @returns the id of the message that a request with this key created; null without one. @throws IdempotencyMismatch */
  private async findByKey(
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

  /** Puts a job for the head of a lane. This is best effort: the sweep finds every lane without a job. */
  private putJob({ message, isHead }: Accepted): void {
    if (!isHead) return;
    this.queues
      .put([headJob(message.id, message.priority)])
      .catch((error: unknown) =>
        this.logger.warn({ err: error }, 'a job was not put; the sweep will put it'),
      );
  }

  /** Checks the other reasons to refuse a message that are known before the message is written. */
  private readonly checkBeforeFile: CheckBeforeFile = async (workspaceId, wanted) => {
    sendTimeOf(wanted);
    const run: RunSql = (text, values) => this.database.query(text, values);
    const accountId = await chooseAccountFor(run, workspaceId, wanted);
    const found = await run('select from accounts where id = $1 and workspace_id = $2', [
      accountId,
      workspaceId,
    ]);
    if (found.length === 0) throw new AccountNotFound(accountId);
  };
}

/** @returns when to send the message; null means now. @throws ValidationFailed if it expires before that */
function sendTimeOf({ sendAt, expiresAt }: SendMessageDto): Date | null {
  const at = !sendAt || Date.parse(sendAt) <= Date.now() ? null : new Date(sendAt);
  if (expiresAt && Date.parse(expiresAt) <= (at?.getTime() ?? Date.now()))
    throw new ValidationFailed([{ path: 'expiresAt', message: 'must be later than now and than sendAt' }]);
  return at;
}

/**
 * Writes a message into the ledger.
 * @param run runs SQL on the pool or in a transaction
 * @throws ValidationFailed, AccountNotFound, NoAccountReady
 */
async function insertMessage(
  database: DataSource,
  run: RunSql,
  workspaceId: string,
  wanted: SendMessageDto,
  { text, media, content }: PreparedContent,
  { id = uuidv7(), awaited }: { id?: string; awaited?: AwaitedStatus | undefined } = {},
): Promise<Accepted> {
  const recipient = parseDestination(wanted.to)!;
  const sendAt = sendTimeOf(wanted);
  const accountId = await chooseAccountFor(run, workspaceId, wanted);
  // Reads the most urgent waiting message as the first entry of the index. With `exists`, PostgreSQL would expect to find a
  // match soon, and would scan the whole table.
  const [row] = await run(
    `insert into messages (id, workspace_id, account_id, direction, priority, type, chat_id, recipient, sender, text,
       status, whatsapp_id, metadata, scheduled_for, expires_at, is_cold, media, content, reply_to, awaited_status)
     select $1, a.workspace_id, a.id, 'outgoing', $4, $5, known.chat_id, $7, a.phone_number, $8,
       case when $11::timestamptz is null then 'queued' else 'scheduled' end, $9, $10, $11, $12,
       ${isColdSql('a.id', 'known.chat_id')}, $13, $14, $15, $16
     from accounts a cross join lateral (select ${knownIdSql('a.id', '$6::text')} as chat_id) known where a.id = $2 and a.workspace_id = $3
     returning *, status = 'queued' and coalesce((select waiting.priority from messages waiting
       where waiting.account_id = $2 and waiting.stage = 'queued' order by waiting.priority desc limit 1) < $4, true) as is_head`,
    [
      id,
      accountId,
      workspaceId,
      priorities.indexOf(wanted.priority),
      wanted.type,
      recipient.chatId,
      recipient.address,
      text,
      whatsappIdOf(id),
      wanted.metadata ?? {},
      sendAt,
      wanted.expiresAt ? new Date(wanted.expiresAt) : null,
      media,
      content,
      wanted.replyTo ?? null,
      awaited ?? null,
    ],
  );
  if (!row) throw new AccountNotFound(accountId);
  return { message: toEntity(database, Message, row), isHead: row.is_head === true };
}

/**
 * The account that sends a message. If the request names an account, this does not check that the account exists.
 * @throws ValidationFailed, NoAccountReady
 */
async function chooseAccountFor(run: RunSql, workspaceId: string, wanted: SendMessageDto): Promise<string> {
  const recipient = parseDestination(wanted.to)!;
  if (wanted.replyTo !== undefined) return accountOfQuoted(run, workspaceId, wanted, recipient.chatId);
  return wanted.accountId ?? (await chooseAccount(run, workspaceId, recipient.address));
}

/** SQL: the person of the chat of a message that came in or was written on the phone. */
const personSql = `(content -> case direction when 'incoming' then 'participant' else 'recipient' end)`;

/** The account of the quoted message, which must be in the chat of the reply. @throws ValidationFailed */
async function accountOfQuoted(
  run: RunSql,
  workspaceId: string,
  { replyTo, accountId }: SendMessageDto,
  chatId: string,
): Promise<string> {
  const [quoted] = await run(
    `select account_id from messages where id = $1 and workspace_id = $2 and account_id = coalesce($3, account_id)
       and (chat_id = $4 or chat_id = ${knownIdSql('messages.account_id', '$4::text')}
         or chat_id not like '%@g.us' and (direction = 'incoming' or is_from_device)
         and $4 in (${personSql} ->> 'lid', (${personSql} ->> 'phone') || '@c.us'))`,
    [replyTo, workspaceId, accountId ?? null, chatId],
  );
  if (!quoted)
    throw new ValidationFailed([
      {
        path: 'replyTo',
        message: 'must be the id of a message of the same account, in the chat with `to`',
      },
    ]);
  return quoted.account_id as string;
}

/** The count of an account's waiting messages stops here: beyond that, all accounts are equally busy. */
const maxCountedBacklog = 100;

/**
 * A ready account of the workspace: the account that last wrote to this recipient, else an account with the fewest waiting
 * messages, and rather an account whose page has what sending needs. The query counts waiting messages only if no account has written, and in the order of their index, so that
 * PostgreSQL does not scan the table.
 */
async function chooseAccount(run: RunSql, workspaceId: string, address: string): Promise<string> {
  const [row] = await run(
    `(select a.id from (
         select m.id, m.account_id from (${formsSql('$1::uuid', '$2::text')}) address cross join lateral (
           select id, account_id from messages where workspace_id = $1 and recipient = address.form
             and direction = 'outgoing' order by id desc limit 20) m) latest
       join accounts a on a.id = latest.account_id and a.status = 'ready' order by latest.id desc limit 1)
     union all
     (select a.id from accounts a
       cross join lateral (select count(*) as waiting from (
         select from messages q where q.account_id = a.id and q.stage = 'queued'
         order by q.priority desc, q.seq limit ${maxCountedBacklog}) queued) backlog
       where a.workspace_id = $1 and a.status = 'ready'
       order by a.web_contract is not distinct from 'broken', backlog.waiting, random() limit 1)
     limit 1`,
    [workspaceId, address],
  );
  if (!row) throw new NoAccountReady();
  return row.id as string;
}

/** A message as the answer to its acceptance showed it. */
function asAccepted(message: Message, { text, media }: SendMessageDto): Message {
  // Flotilla may schedule a later try of a message: that time is not the caller's sendAt.
  const isLaterTry = message.attempts > 0 || message.errorCode !== null;
  const scheduledFor = message.status === 'scheduled' && isLaterTry ? null : message.scheduledFor;
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
    inQuestionSince: null,
    reactions: [],
    votes: [],
  });
}

function runIn(manager: EntityManager): RunSql {
  return (text, values) => preparedIn(manager, text, values);
}
