import { Injectable } from '@nestjs/common';
import { AccountSessions } from '../sessions/account-sessions.js';
import { type Ack, UpdatesService } from './updates.service.js';

/** How many messages of an account are looked up at the most, the latest ones. */
const askedAtOnce = 500;

/** Asks the sessions of this instance how far messages got of which that is not known. */
@Injectable()
export class OutcomeFinder {
  constructor(
    private readonly sessions: AccountSessions,
    private readonly updates: UpdatesService,
  ) {}

  /** @throws AccountNotDrivenHere, SessionNotReady */
  async read(accountId: string): Promise<Ack[]> {
    const session = this.sessions.readyDriver(accountId).current;
    const acks = await session.messages.acksOf(await this.updates.awaitingAcks(accountId, askedAtOnce));
    return acks.map((ack) => ({ accountId, ...ack }));
  }

  /** Reads and writes them. @throws AccountNotDrivenHere, SessionNotReady */
  async find(accountId: string): Promise<void> {
    await this.updates.writeAcks(await this.read(accountId));
  }
}
