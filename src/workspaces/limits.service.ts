import { Inject, Injectable, type OnModuleDestroy } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { LRUCache } from 'lru-cache';
import { DataSource } from 'typeorm';
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

/** Messages that this process took from the limit of a minute in advance. */
interface Reserve extends Grant {
  minute: Date;
  /** When the minute ends, on the clock of `performance.now()`. */
  endsAt: number;
}

/** The share of a limit that a process takes in advance, and the most messages. */
const reservedShare = 0.01;
const maxReserved = 100;
const maxReserves = 10_000;

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

/** What workspaces may use, and what they use, which the owners of the tables count. A workspace without limits costs no query. */
@Injectable()
export class LimitsService implements OnModuleDestroy {
  private readonly cache: ReadCache<Limits>;
  private readonly reserves = new LRUCache<string, Reserve>({ max: maxReserves });
  /** The workspaces for which a query takes a reserve. */
  private readonly taking = new Set<string>();
  private readonly counts: ((workspaceId: string) => Promise<Partial<Usage>>)[] = [];

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

  /** Registers a count of what a workspace uses. The owner of a table counts its rows. */
  onUsage(count: (workspaceId: string) => Promise<Partial<Usage>>): void {
    this.counts.push(count);
  }

  /** How much of what it may use a workspace uses. */
  async usage(workspaceId: string): Promise<Usage> {
    const usage = {};
    for (const count of this.counts) Object.assign(usage, await count(workspaceId));
    return usage as Usage;
  }

  /**
   * Takes messages from the limit of the current minute of the clock, before any other work for them. {@link giveBack} returns
   * the unused messages. One row counts for all API processes, so the limit is never exceeded. The row exists only for workspaces
   * with a limit, and its lock is short, because its commit does not wait for the disk.
   *
   * A process takes up to a hundredth of the limit in advance, so that not every message costs a query. What it does not use of
   * that is lost at the end of the minute, or earlier to the other processes.
   * @param count the number of wanted messages; fewer may be granted
   */
  async takeMessages(workspaceId: string, count: number): Promise<Grant> {
    const { messagesPerMinute: limit } = await this.of(workspaceId);
    if (limit === null) return { workspaceId, count, limit: Infinity, minute: null };
    const reserve = this.reserveOf(workspaceId, limit);
    if (reserve && reserve.count >= count) {
      reserve.count -= count;
      return { workspaceId, count, limit, minute: reserve.minute };
    }
    // Many requests at the same moment take one reserve, not one each.
    const takesReserve = !this.taking.has(workspaceId);
    if (takesReserve) this.taking.add(workspaceId);
    const wanted = count + (takesReserve ? reservedOf(limit) - (reserve?.count ?? 0) : 0);
    const askedAt = performance.now();
    const [row] = await prepared<{ granted: number; minute: Date; leftMs: number }>(this.database, take, [
      workspaceId,
      wanted,
      limit,
    ]).finally(() => takesReserve && this.taking.delete(workspaceId));
    const { granted, minute, leftMs } = row!;
    const grant = { workspaceId, count: Math.min(granted, count), limit, minute };
    // The minute has ended at the latest when it ends on this clock, because the question came before its answer.
    this.keep({ ...grant, count: granted - grant.count, endsAt: askedAt + leftMs });
    const missing = count - grant.count;
    const kept = missing > 0 ? this.reserveOf(workspaceId, limit, minute) : undefined;
    if (kept) {
      const more = Math.min(missing, kept.count);
      kept.count -= more;
      grant.count += more;
    }
    return grant;
  }

  /** Takes one message, as {@link takeMessages} does. @throws MessageLimitReached */
  async takeMessage(workspaceId: string): Promise<Grant> {
    const grant = await this.takeMessages(workspaceId, 1);
    if (grant.count === 0) throw new MessageLimitReached(grant.limit);
    return grant;
  }

  /** Gives back unused messages. After the end of their minute this does nothing, because they counted for that minute. */
  async giveBack({ workspaceId, minute, limit }: Grant, count: number): Promise<void> {
    if (minute === null || count === 0) return;
    const reserve = this.reserveOf(workspaceId, limit, minute);
    if (reserve && reserve.count + count <= reservedOf(limit)) {
      reserve.count += count;
      return;
    }
    await prepared(
      this.database,
      `update message_rates set accepted = greatest(accepted - $2::int, 0) ${asyncCommit}
       where workspace_id = $1 and minute = $3`,
      [workspaceId, count, minute],
    );
  }

  /** What is left of the reserve for the present minute, or for this minute. */
  private reserveOf(workspaceId: string, limit: number, minute?: Date): Reserve | undefined {
    const reserve = this.reserves.get(workspaceId);
    if (!reserve || reserve.limit !== limit || reserve.endsAt <= performance.now()) return undefined;
    return minute === undefined || reserve.minute.getTime() === minute.getTime() ? reserve : undefined;
  }

  /** Adds to the reserve of the same minute. */
  private keep(taken: Reserve): void {
    const reserve = this.reserveOf(taken.workspaceId, taken.limit, taken.minute);
    if (reserve) reserve.count += taken.count;
    else if (taken.count > 0) this.reserves.set(taken.workspaceId, taken);
  }
}

function reservedOf(limit: number): number {
  return Math.min(maxReserved, Math.floor(limit * reservedShare));
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
  returning granted, minute,
    (extract(epoch from minute + interval '1 minute' - clock_timestamp()) * 1000)::float as "leftMs"`;
