import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource, InjectRepository } from '@nestjs/typeorm';
import { DataSource, In, LessThan, MoreThanOrEqual, Repository } from 'typeorm';
import { firstIdAt } from '../platform/database/ids.js';
import { Problem } from '../platform/errors/problem.js';
import { given } from '../platform/database/given.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { poll } from '../platform/poll.js';
import { LimitsService, type Usage } from '../workspaces/limits.service.js';
import { Message } from './message.entity.js';
import type { ListMessagesQuery } from './messages.dto.js';
import { parseRecipient } from './recipient.js';
import { RecipientIds } from './recipient-ids.service.js';

export class MessageNotFound extends Problem {
  constructor(id: string) {
    super(404, 'message.not_found', `This workspace has no message ${id}.`);
  }
}

export class MessageAlreadySending extends Problem {
  constructor({ status }: Message, hint = 'It can no longer be cancelled.') {
    super(409, 'message.already_sending', `The message is ${status}. ${hint}`);
  }
}

const reached = { sent: ['sent', 'delivered', 'read', 'played'], delivered: ['delivered', 'read', 'played'] };
const final = new Set(['read', 'played', 'failed', 'unknown', 'cancelled', 'expired']);
const minWaitPauseMs = 40;
const maxWaitPauseMs = 1_000;

type MessageUsage = Pick<Usage, 'messagesLastMinute' | 'messagesLast24Hours'>;

/** Reads messages from the ledger, waits for their status, and cancels them. */
@Injectable()
export class MessagesService {
  constructor(
    @InjectRepository(Message) private readonly messages: Repository<Message>,
    @InjectDataSource() private readonly database: DataSource,
    private readonly recipients: RecipientIds,
    limits: LimitsService,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {
    limits.onUsage((workspaceId) => this.usage(workspaceId));
  }

  /** How many messages a workspace posted in the last minute, and how many it sent and received in the last 24 hours. */
  private async usage(workspaceId: string): Promise<MessageUsage> {
    const now = Date.now();
    const [counts] = await this.database.query<MessageUsage[]>(
      `select (select count(*)::int from messages where workspace_id = $1 and id >= $2 and direction = 'outgoing'
           and created_at > now() - interval '1 minute') as "messagesLastMinute",
         (select count(*)::int from messages where workspace_id = $1 and id >= $3
           and created_at > now() - interval '1 day') as "messagesLast24Hours"`,
      [workspaceId, firstIdAt(now - 2 * 60_000), firstIdAt(now - 25 * 3_600_000)],
    );
    return counts!;
  }

  /** @throws MessageNotFound, also for a message of another workspace */
  async get(workspaceId: string, id: string): Promise<Message> {
    const message = await this.messages.findOneBy({ id, workspaceId });
    if (!message) throw new MessageNotFound(id);
    return message;
  }

  /** Up to `limit + 1` messages, newest first. */
  async list(workspaceId: string, query: ListMessagesQuery): Promise<Message[]> {
    const address = query.to === undefined ? undefined : parseRecipient(query.to)?.address;
    // A message keeps the number as the caller wrote it.
    const forms = address === undefined ? undefined : await this.recipients.forms(workspaceId, address);
    return this.messages.find({
      where: {
        workspaceId,
        ...given({
          accountId: query.accountId,
          status: query.status,
          direction: query.direction,
          campaignId: query.campaignId,
          recipient: forms && In(forms),
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
      // With attempts, the message may have arrived: an uncertain message is queued or scheduled again.
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
   * Waits until a message reaches the wanted status or a final one, or until the timeout. The message is already accepted, so
   * the wait goes on while PostgreSQL does not answer: after an error the caller would send the message again.
   * @param gone ends the wait, because the caller has disconnected
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
        this.logger.warn(
          { err: error, messageId: message.id },
          'the status of a message could not be read; still waiting',
        );
      }
    };
    const isOver = async (asked: number) => {
      if (asked > 0) await read();
      return reached[goal].includes(current.status) || final.has(current.status);
    };
    await poll(isOver, {
      // Short pauses first, because most messages are sent at once; then long ones, so that a wait for a phone costs little.
      pauseMs: (asked) => Math.min(minWaitPauseMs * 1.25 ** (asked - 1), maxWaitPauseMs),
      limitMs: timeoutMs,
      signal: gone,
    });
    return { message: current, isReached: reached[goal].includes(current.status) };
  }
}
