import { Inject, Injectable, type BeforeApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { setTimeout as delay } from 'node:timers/promises';
import type { Account } from '../accounts/account.entity.js';
import { AccountSessions } from '../accounts/account-sessions.service.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import type { PageGroupNotice } from '../whatsapp/page-functions.js';
import { GroupNotices } from './group-notices.service.js';

/** How many notices are looked up again when a session becomes ready. */
const catchUpLimit = 500;
/** A phone's clock and ours may differ by this much. */
const clockSkewSeconds = 60;
const retryMs = 500;
/** What the database did not take by then is looked up in the page when the session is ready the next time. */
const attempts = 20;

/** Writes down what is done to the groups of this instance's accounts. */
@Injectable()
export class GroupsListener implements OnModuleInit, BeforeApplicationShutdown {
  private writing: Promise<void> = Promise.resolve();
  private stopping = false;

  constructor(
    private readonly sessions: AccountSessions,
    private readonly notices: GroupNotices,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  onModuleInit(): void {
    this.sessions.on('group', (account, notice) => this.enqueue(account, [notice]));
    this.sessions.on('ready', (account) => void this.catchUp(account));
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stopping = true;
    await this.writing;
  }

  /** Reads what the page learned before anybody listened. */
  private async catchUp(account: Account): Promise<void> {
    const since = account.linkedAt ?? account.lastConnectedAt;
    if (since === null) return;
    try {
      const session = this.sessions.readyDriver(account.id).current;
      const from = Math.floor(since.getTime() / 1000) - clockSkewSeconds;
      this.enqueue(account, await session.messages.recentNotices(from, catchUpLimit));
    } catch (error) {
      this.logger.warn({ err: error, accountId: account.id }, 'what happened to groups could not be read');
    }
  }

  /** One after the other, so that the log has them in their order. */
  private enqueue(account: Account, notices: PageGroupNotice[]): void {
    this.writing = this.writing.then(() => this.write(account, notices));
  }

  private async write(account: Account, notices: PageGroupNotice[]): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.notices.write(account.id, notices);
        return;
      } catch (error) {
        this.logger.warn({ err: error, accountId: account.id, attempt }, 'group events are not written yet');
        if (this.stopping || attempt >= attempts) return;
        await delay(retryMs);
      }
    }
  }
}
