import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { AccountSessions } from '../sessions/account-sessions.js';
import { PresenceLog } from './presence-log.js';

/** Writes what the watched chats of this instance's accounts do. A presence that cannot be written is lost: it is soon out of date. */
@Injectable()
export class PresenceListener implements OnModuleInit {
  constructor(
    private readonly sessions: AccountSessions,
    private readonly log: PresenceLog,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  onModuleInit(): void {
    this.sessions.on('session', ({ id: accountId }, session) => {
      session.on('presence', (presence) => {
        this.log
          .write(accountId, presence)
          .catch((error: unknown) =>
            this.logger.warn({ err: error, accountId }, 'a presence was not written'),
          );
      });
    });
  }
}
