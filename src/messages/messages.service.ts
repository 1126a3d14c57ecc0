import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource, InjectRepository } from '@nestjs/typeorm';
import { DataSource, LessThan, MoreThanOrEqual, Repository } from 'typeorm';
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

const reached = { sent: ['sent', 'delivered', 'read', 'played'], delivered: ['delivered', 'read', 'played'] };
const final = new Set(['read', 'played', 'failed', 'unknown', 'cancelled', 'expired']);
const firstWaitPauseMs = 40;
const longestWaitPauseMs = 1_000;

/** The ledger for its readers: one message, lists, waiting and cancelling. */
@Injectable()
export class MessagesService {
  constructor(
    @InjectRepository(Message) private readonly messages: Repository<Message>,
    @InjectDataSource() private readonly database: DataSource,
    limits: LimitsService,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {
    limits.onUsage((workspaceId) => this.usage(workspaceId));
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
}
