import { Inject, Injectable, type BeforeApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import type { Account } from '../accounts/account.entity.js';
import { AccountSessions } from '../sessions/account-sessions.js';
import { WriteBehind } from '../sessions/write-behind.js';
import { keptDays } from '../events/events.service.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import type { PageGroupNotice } from '../whatsapp/in-page/page-functions.js';
import { GroupNotices } from './group-notices.js';

/** The maximum number of notices that are read again when a session becomes ready. */
const catchUpLimit = 500;
/** The maximum difference between the clock of a phone and ours. */
const clockSkewMs = 60_000;
/**
 * Older notices are not read again: their events may have been pruned, so that they would be written twice. A day less than
 * the retention of events, because clocks differ.
 */
const catchUpMs = (keptDays - 1) * 24 * 3_600_000;

/** Writes the changes of the groups of this instance's accounts into the log of events. */
@Injectable()
export class GroupsListener implements OnModuleInit, BeforeApplicationShutdown {
  private notices: { accountId: string; notice: PageGroupNotice }[] = [];
  /** Accounts whose page is being read. Their new notices wait, because the notices from the page are older. */
  private readonly reading = new Map<string, Promise<void>>();
  private readonly writeBehind: WriteBehind;
  private stopping = false;

  constructor(
    private readonly sessions: AccountSessions,
    private readonly log: GroupNotices,
    @Inject(LOGGER) logger: Logger,
  ) {
    this.writeBehind = new WriteBehind(
      () => this.write(),
      () => ({ notices: this.notices.filter(({ accountId }) => this.mayWrite(accountId)).length }),
      logger,
    );
  }

  onModuleInit(): void {
    this.sessions.on('session', ({ id: accountId }, session) => {
      session.on('group', (notice) => {
        this.notices.push({ accountId, notice });
        this.writeBehind.schedule();
      });
    });
    this.sessions.on('ready', (account) => {
      const reading = this.writeBehind
        .catchUp(account.id, () => this.catchUp(account))
        .finally(() => {
          if (this.reading.get(account.id) === reading) this.reading.delete(account.id);
          this.writeBehind.schedule();
        });
      this.reading.set(account.id, reading);
    });
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stopping = true;
    await this.writeBehind.stop();
  }

  /** Reads the notices that the page got before this listener was ready. A notice that was already written changes nothing. */
  private async catchUp(account: Account): Promise<void> {
    const linkedAt = account.linkedAt ?? account.lastConnectedAt;
    if (linkedAt === null) return;
    const since = Math.max(linkedAt.getTime() - clockSkewMs, Date.now() - catchUpMs);
    const { messages } = this.sessions.readyDriver(account.id).current;
    const read = await messages.recentNotices(Math.floor(since / 1000), catchUpLimit);
    this.notices = [...read.map((notice) => ({ accountId: account.id, notice })), ...this.notices];
  }

  private mayWrite(accountId: string): boolean {
    return this.stopping || !this.reading.has(accountId);
  }

  /** Writes the notices of each account in their order. If one account fails, the notices of the others are written all the same. */
  private async write(): Promise<void> {
    const failures: unknown[] = [];
    for (const id of new Set(this.notices.map(({ accountId }) => accountId))) {
      if (!this.mayWrite(id)) continue;
      const own = this.notices.filter(({ accountId }) => accountId === id);
      this.notices = this.notices.filter(({ accountId }) => accountId !== id);
      try {
        await this.log.write(
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
