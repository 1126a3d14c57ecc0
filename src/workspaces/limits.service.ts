import { Inject, Injectable, type OnModuleDestroy } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource, type EntityManager } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { prepared } from '../platform/database/prepared.js';
import { ReadCache } from '../platform/database/read-cache.js';
import { Problem } from '../platform/errors/problem.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { Workspace } from './workspace.entity.js';

/** The limits of a workspace. Null means no limit. */
export type Limits = Pick<Workspace, 'maxAccounts' | 'messagesPerMinute' | 'maxStorageBytes'>;

/** The messages that a call took from the limit of a minute. */
export interface Grant {
  workspaceId: string;
  /** The number of granted messages. */
  count: number;
  /** The limit of the minute; Infinity if there is no limit. */
  limit: number;
  /** The minute of the limit; null if there is no limit. */
  minute: Date | null;
}

/** The usage of a workspace. */
export interface Usage {
  accounts: number;
  messagesLastMinute: number;
  messagesLast24Hours: number;
  storageBytes: number;
}

export class AccountLimitReached extends Problem {
  constructor(limit: number) {
    super(
      409,
      'workspace.account_limit',
      `The workspace has reached its limit of ${limit} accounts. Delete an account, or let the admin raise limits.maxAccounts.`,
    );
  }
}

export class MessageLimitReached extends Problem {
  override readonly retryAfterSeconds = 60 - (Math.floor(Date.now() / 1_000) % 60);

  constructor(limit: number) {
    super(
      429,
      'workspace.message_limit',
      `The workspace has reached its limit of ${limit} messages per minute. Try again in the next minute, or let the admin raise limits.messagesPerMinute.`,
    );
  }
}

/** What workspaces may use, and what they use; storage is counted where media is stored. A workspace without limits costs no query. */
@Injectable()
export class LimitsService implements OnModuleDestroy {
  private readonly cache: ReadCache<Limits>;

  constructor(
    @InjectDataSource() private readonly database: DataSource,
    @Inject(CONFIG) config: Config,
    @Inject(LOGGER) logger: Logger,
  ) {
    this.cache = new ReadCache(config, logger, 'flotilla_limits', (changed, id) => changed === id);
  }

  async onModuleDestroy(): Promise<void> {
    await this.cache.stop();
  }

  /** The limits of a workspace. All are null if the workspace does not exist. */
  async of(workspaceId: string): Promise<Limits> {
    const limits = await this.cache.get(workspaceId, async () => {
      const workspace = await this.database.getRepository(Workspace).findOneBy({ id: workspaceId });
      if (!workspace) return null;
      const { maxAccounts, messagesPerMinute, maxStorageBytes } = workspace;
      return { maxAccounts, messagesPerMinute, maxStorageBytes };
    });
    return limits ?? { maxAccounts: null, messagesPerMinute: null, maxStorageBytes: null };
  }

  /** How much of what it may use a workspace uses. */
  async usage(workspaceId: string): Promise<Usage> {
    const [row]: [Usage & { storageBytes: string }] = await this.database.query(
      `select (select count(*)::int from accounts where workspace_id = $1) as accounts,
         (select count(*)::int from messages where workspace_id = $1 and id >= $2 and direction = 'outgoing'
           and created_at > now() - interval '1 minute') as "messagesLastMinute",
         (select count(*)::int from messages where workspace_id = $1 and id >= $3
           and created_at > now() - interval '1 day') as "messagesLast24Hours",
         (select coalesce(sum(size), 0)::bigint from media where workspace_id = $1) as "storageBytes"`,
      [workspaceId, firstIdAt(-2 * 60_000), firstIdAt(-25 * 3_600_000)],
    );
    return { ...row, storageBytes: Number(row.storageBytes) };
  }

  /**
   * Lets a transaction create an account only if the workspace may have one more; others that create one wait for its end.
   * @throws AccountLimitReached
   */
  async assertRoomForAccount(manager: EntityManager, workspaceId: string): Promise<void> {
    const [workspace]: { max_accounts: number | null }[] = await manager.query(
      'select max_accounts from workspaces where id = $1',
      [workspaceId],
    );
    const limit = workspace?.max_accounts ?? null;
    if (limit === null) return;
    await manager.query('select pg_advisory_xact_lock(hashtextextended($1, 0))', [`accounts ${workspaceId}`]);
    const [{ count }]: [{ count: number }] = await manager.query(
      'select count(*)::int as count from accounts where workspace_id = $1',
      [workspaceId],
    );
    if (count >= limit) throw new AccountLimitReached(limit);
  }

  /**
   * Takes messages from the limit of the current minute of the clock, before any other work for them. {@link giveBack} returns
   * the unused messages. One row counts for all API processes, so the limit is exact. The row exists only for workspaces with a
   * limit, and its lock is short, because its commit does not wait for the disk.
   * @param count the number of wanted messages; fewer may be granted
   */
  async takeMessages(workspaceId: string, count: number): Promise<Grant> {
    const { messagesPerMinute: limit } = await this.of(workspaceId);
    if (limit === null) return { workspaceId, count, limit: Infinity, minute: null };
    const [row] = await prepared<{ granted: number; minute: Date }>(this.database, take, [
      workspaceId,
      count,
      limit,
    ]);
    return { workspaceId, count: row!.granted, limit, minute: row!.minute };
  }

  /** Takes one message, as {@link takeMessages} does. @throws MessageLimitReached */
  async takeMessage(workspaceId: string): Promise<Grant> {
    const grant = await this.takeMessages(workspaceId, 1);
    if (grant.count === 0) throw new MessageLimitReached(grant.limit);
    return grant;
  }

  /** Gives back unused messages. After the end of their minute this does nothing, because they counted for that minute. */
  async giveBack({ workspaceId, minute }: Grant, count: number): Promise<void> {
    if (minute === null || count === 0) return;
    await prepared(
      this.database,
      `update message_rates set accepted = greatest(accepted - $2::int, 0) ${asyncCommit}
       where workspace_id = $1 and minute = $3`,
      [workspaceId, count, minute],
    );
  }
}

/** SQL: the number of messages that were already taken in this minute. */
const used = 'case when r.minute >= excluded.minute then r.accepted else 0 end';

/** SQL: the commit does not wait for the disk. A crash of the machine may lose this count and nothing else. */
const asyncCommit = `from (select set_config('synchronous_commit', 'off', true) as setting) as unsafe`;

const granted = (before: string) => `least($2::int, greatest($3::int - ${before}, 0))`;

/** Takes up to $2 messages of the limit $3, and returns their number and the minute. */
const take = `insert into message_rates as r (workspace_id, minute, accepted, granted)
  select $1::uuid, date_trunc('minute', now()), ${granted('0')}, ${granted('0')} ${asyncCommit}
  on conflict (workspace_id) do update set minute = greatest(r.minute, excluded.minute),
    granted = ${granted(used)}, accepted = ${used} + ${granted(used)}
  returning granted, minute`;

/** The smallest id that something made then can have: indexes are in the order of ids. */
function firstIdAt(ms: number): string {
  return uuidv7({ msecs: Date.now() + ms, seq: 0, random: new Uint8Array(16) });
}
