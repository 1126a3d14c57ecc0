import { Injectable } from '@nestjs/common';
import { InjectDataSource, InjectRepository } from '@nestjs/typeorm';
import {
  DataSource,
  type FindOptionsWhere,
  In,
  LessThan,
  type ObjectLiteral,
  Repository,
  type SelectQueryBuilder,
} from 'typeorm';
import { firstIdAt } from '../platform/database/ids.js';
import { Problem } from '../platform/errors/problem.js';
import { given } from '../platform/database/given.js';
import { countFitting } from '../platform/http/pagination.js';
import { LimitsService, type Usage } from '../workspaces/limits.service.js';
import { Message, type MessageStatus } from './message.entity.js';
import type { ListMessagesQuery } from './messages.dto.js';
import { parseDestination } from './recipient.js';
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

/**
 * How many messages a search for one page looks at, if no index has the messages that it wants: so a page does not take longer when the
 * workspace has more messages (`npm run bench -- lists`).
 */
const maxScannedRows = 3_000;
/** The clock of the process that made the id of a message may differ by this from the clock of PostgreSQL, which made `createdAt`. */
const clockMarginMs = 3_600_000;
/** The statuses that the column `ended` has too. */
const endedStatuses: ReadonlySet<MessageStatus> = new Set(['failed', 'unknown', 'cancelled', 'expired']);
/** The statuses that acks change, and `queued`: no index has them, because each message would change it several times. */
const unindexedStatuses: ReadonlySet<MessageStatus> = new Set([
  'queued',
  'sent',
  'delivered',
  'read',
  'played',
]);

/** Whether no index has the messages that a query wants. */
function needsScan({ status, direction, campaignId }: ListMessagesQuery): boolean {
  if (status !== undefined && !unindexedStatuses.has(status)) return false;
  return status !== undefined || direction === 'outgoing' || campaignId !== undefined;
}

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

  /**
   * Messages, newest first: `limit`, or fewer if they are large or if {@link maxScannedRows} have fewer. `hasMore`: there are more after
   * them. `next`: where to go on if the search ended early.
   */
  async list(
    workspaceId: string,
    query: ListMessagesQuery,
  ): Promise<{ rows: Message[]; hasMore: boolean; next: string | null }> {
    const address = query.to === undefined ? undefined : parseDestination(query.to)?.address;
    // A message keeps the number as the caller wrote it.
    const forms = address === undefined ? undefined : await this.recipients.forms(workspaceId, address);
    const { status, direction, campaignId, accountId, since, cursor } = query;
    // Incoming messages are to an account of the workspace. All others have an index by their recipient.
    const isOwn =
      forms !== undefined && direction !== 'outgoing' && (await this.hasNumber(workspaceId, forms));
    const toOther = forms && !isOwn ? { direction: 'outgoing' as const, recipient: In(forms) } : {};
    const indexed = { ...given({ workspaceId, accountId }), ...toOther };
    const newest = given({ id: cursor === undefined ? undefined : LessThan(cursor) });
    const first = since === undefined ? null : firstIdAt(Date.parse(since) - clockMarginMs);
    const isScan = isOwn || needsScan(query);
    const end = isScan ? await this.scanEnd({ ...indexed, ...newest }) : null;
    const oldest = end !== null && first !== null && end <= first ? null : end;
    const candidates = this.messages.createQueryBuilder('m').where({ ...indexed, ...newest });
    // First the sizes: 200 messages may have more than 50 MB.
    const search = (isScan ? this.inside(candidates) : candidates)
      .select('m.id', 'id')
      .addSelect(messageBytes, 'bytes')
      .andWhere(status === undefined ? 'true' : 'm.status = :status', { status })
      .andWhere(forms === undefined ? 'true' : 'm.recipient = any(:forms)', { forms })
      .andWhere(campaignId === undefined ? 'true' : 'm.campaign_id = :campaignId', { campaignId })
      .andWhere(since === undefined ? 'true' : 'm.created_at >= :since', { since })
      .andWhere(direction === undefined ? 'true' : 'm.direction = :direction', { direction })
      .orderBy('m.id', 'DESC')
      .limit(query.limit + 1);
    // These conditions follow from the others. They let PostgreSQL use an index.
    if (oldest !== null) search.andWhere('m.id >= :oldest', { oldest });
    if (first !== null) search.andWhere('m.id >= :first', { first });
    if (status !== undefined && endedStatuses.has(status))
      search.andWhere('m.ended = :ended', { ended: status });
    if (status === 'scheduled' || status === 'sending') search.andWhere(`m.stage = '${status}'`);
    if (status === 'received') search.andWhere(`m.direction = 'incoming'`);
    const found = await search.getRawMany<{ id: string; bytes: number }>();
    const count = countFitting(found.slice(0, query.limit).map(({ bytes }) => bytes));
    const ids = found.slice(0, count).map(({ id }) => id);
    const rows = await this.messages.find({ where: { workspaceId, id: In(ids) }, order: { id: 'DESC' } });
    return { rows, hasMore: found.length > count, next: oldest };
  }

  /** Whether an account of the workspace has one of these numbers. */
  private async hasNumber(workspaceId: string, numbers: string[]): Promise<boolean> {
    const [found] = await this.database.query<{ exists: boolean }[]>(
      'select exists (select from accounts where workspace_id = $1 and phone_number = any($2))',
      [workspaceId, numbers],
    );
    return found!.exists;
  }

  /**
   * A search inside the newest {@link maxScannedRows} of these messages. The limit fences them: otherwise PostgreSQL, which expects many
   * messages of a status, may look for them among those of all accounts.
   */
  private inside(candidates: SelectQueryBuilder<Message>): SelectQueryBuilder<ObjectLiteral> {
    const newest = candidates.select('m.*').orderBy('m.id', 'DESC').limit(maxScannedRows);
    return this.database
      .createQueryBuilder()
      .from(`(${newest.getQuery()})`, 'm')
      .setParameters(newest.getParameters());
  }

  /** The last message that a search for one page may look at. Null if fewer than {@link maxScannedRows} are left. */
  private async scanEnd(where: FindOptionsWhere<Message>): Promise<string | null> {
    const last = await this.messages
      .createQueryBuilder('m')
      .select('m.id', 'id')
      .where(where)
      .orderBy('m.id', 'DESC')
      .offset(maxScannedRows - 1)
      .limit(1)
      .getRawOne<{ id: string }>();
    return last?.id ?? null;
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
