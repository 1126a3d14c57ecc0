import { Injectable } from '@nestjs/common';
import { InjectDataSource, InjectRepository } from '@nestjs/typeorm';
import { DataSource, In, LessThan, MoreThanOrEqual, Repository } from 'typeorm';
import { firstIdAt } from '../platform/database/ids.js';
import { Problem } from '../platform/errors/problem.js';
import { given } from '../platform/database/given.js';
import { countFitting } from '../platform/http/pagination.js';
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

/** The columns of a message that may be large. Only for texts does PostgreSQL know the size without reading the value. */
const largeColumns = ['text', 'media', 'content', 'metadata', 'reactions', 'votes'];
/** SQL: about the size of a message in JSON. */
const messageBytes = `1000 + ${largeColumns.map((name) => `coalesce(octet_length(m.${name}::text), 0)`).join(' + ')}`;

type MessageUsage = Pick<Usage, 'messagesLastMinute' | 'messagesLast24Hours'>;

/** Reads messages from the ledger, and cancels them. */
@Injectable()
export class MessagesService {
  constructor(
    @InjectRepository(Message) private readonly messages: Repository<Message>,
    @InjectDataSource() private readonly database: DataSource,
    private readonly recipients: RecipientIds,
    limits: LimitsService,
  ) {
    limits.onUsage((workspaceId) => this.usage(workspaceId));
  }

  /** How many messages a workspace posted in the last minute, and how many it sent and received in the last 24 hours. */
  private async usage(workspaceId: string): Promise<MessageUsage> {
    const now = Date.now();
    const [counts] = await this.database.query<MessageUsage[]>(
      `select (select count(*)::int from messages where workspace_id = $1 and id >= $2 and direction = 'outgoing' and not is_from_device
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

  /** Messages, newest first: `limit` or, if they are large, fewer. `hasMore`: there are more after them. */
  async list(workspaceId: string, query: ListMessagesQuery): Promise<{ rows: Message[]; hasMore: boolean }> {
    const address = query.to === undefined ? undefined : parseRecipient(query.to)?.address;
    // A message keeps the number as the caller wrote it.
    const forms = address === undefined ? undefined : await this.recipients.forms(workspaceId, address);
    // First the sizes: 200 messages may have more than 50 MB.
    const found = await this.messages
      .createQueryBuilder('m')
      .select('m.id', 'id')
      .addSelect(messageBytes, 'bytes')
      .where({
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
      })
      .orderBy('m.id', 'DESC')
      .limit(query.limit + 1)
      .getRawMany<{ id: string; bytes: number }>();
    const count = countFitting(found.slice(0, query.limit).map(({ bytes }) => bytes));
    const ids = found.slice(0, count).map(({ id }) => id);
    const rows = await this.messages.find({ where: { workspaceId, id: In(ids) }, order: { id: 'DESC' } });
    return { rows, hasMore: found.length > count };
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
}
