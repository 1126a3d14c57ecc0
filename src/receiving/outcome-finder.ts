import { Injectable } from '@nestjs/common';
import { AccountSessions } from '../sessions/account-sessions.js';
import { type Ack, UpdatesService } from './updates.service.js';

/** How many messages of an account are looked up at most, the latest first. */
const maxLookups = 500;

/** Asks the sessions of this instance for the acks of messages with an unknown outcome or a missing ack. */
@Injectable()
export class OutcomeFinder {
  constructor(
    private readonly sessions: AccountSessions,
    private readonly updates: UpdatesService,
  ) {}

  /** @throws AccountNotDrivenHere, SessionNotReady */
  async read(accountId: string): Promise<Ack[]> {
    const session = this.sessions.readyDriver(accountId).current;
    await this.updates.questionSent(accountId);
    const acks = await session.messages.acksOf(await this.updates.awaitingAcks(accountId, maxLookups));
    return acks.map((ack) => ({ accountId, ...ack }));
  }

  /** Reads and writes the acks. @throws AccountNotDrivenHere, SessionNotReady */
  async find(accountId: string): Promise<void> {
    await this.updates.writeAcks(await this.read(accountId));
  }
}
