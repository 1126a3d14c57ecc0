import { Inject, Injectable, type BeforeApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import type { Account } from '../accounts/account.entity.js';
import { AccountSessions } from '../sessions/account-sessions.js';
import { WriteBehind } from '../sessions/write-behind.js';
import { keptDays } from '../events/events.service.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import type { PageGroupNotice } from '../whatsapp/in-page/page-functions.js';
import { GroupNotices } from './group-notices.js';

/** How many notices are looked up again when a session becomes ready. */
const catchUpLimit = 500;
/** A phone's clock and ours may differ by this much. */
const clockSkewMs = 60_000;
/** Of what is older the log has forgotten whether it was told: a day less than it keeps, for clocks that differ. */
const toldForMs = (keptDays - 1) * 24 * 3_600_000;

/** Writes down what is done to the groups of this instance's accounts. */
@Injectable()
export class GroupsListener implements OnModuleInit, BeforeApplicationShutdown {
  private notices: { accountId: string; notice: PageGroupNotice }[] = [];
  /** Accounts whose page is being read: what they tell meanwhile waits, since what is read comes before it. */
  private readonly reading = new Map<string, Promise<void>>();
  private readonly behind: WriteBehind;
  private stopping = false;

  constructor(
    private readonly sessions: AccountSessions,
    private readonly written: GroupNotices,
    @Inject(LOGGER) logger: Logger,
  ) {
    this.behind = new WriteBehind(
      () => this.write(),
      () => ({ notices: this.notices.filter(({ accountId }) => this.mayWrite(accountId)).length }),
      logger,
    );
  }

  onModuleInit(): void {
    this.sessions.on('group', ({ id: accountId }, notice) => {
      this.notices.push({ accountId, notice });
      this.behind.schedule();
    });
    this.sessions.on('ready', (account) => {
      const reading = this.behind
        .catchUp(account.id, () => this.catchUp(account))
        .finally(() => {
          if (this.reading.get(account.id) === reading) this.reading.delete(account.id);
          this.behind.schedule();
        });
      this.reading.set(account.id, reading);
    });
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stopping = true;
    await this.behind.stop();
  }

  /** Reads what the page learned before anybody listened. What was told already changes nothing. */
  private async catchUp(account: Account): Promise<void> {
    const linkedAt = account.linkedAt ?? account.lastConnectedAt;
    if (linkedAt === null) return;
    const since = Math.max(linkedAt.getTime() - clockSkewMs, Date.now() - toldForMs);
    const { messages } = this.sessions.readyDriver(account.id).current;
    const read = await messages.recentNotices(Math.floor(since / 1000), catchUpLimit);
    this.notices = [...read.map((notice) => ({ accountId: account.id, notice })), ...this.notices];
  }

  private mayWrite(accountId: string): boolean {
    return this.stopping || !this.reading.has(accountId);
  }

  /** Writes each account's in their order; one account's that could not be written keep nobody else's out. */
  private async write(): Promise<void> {
    const failures: unknown[] = [];
    for (const id of new Set(this.notices.map(({ accountId }) => accountId))) {
      if (!this.mayWrite(id)) continue;
      const own = this.notices.filter(({ accountId }) => accountId === id);
      this.notices = this.notices.filter(({ accountId }) => accountId !== id);
      try {
        await this.written.write(
          id,
          own.map(({ notice }) => notice),
        );
      } catch (error) {
        this.notices = [...own, ...this.notices];
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}
