import { Inject, Injectable, type BeforeApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import type { Account } from '../accounts/account.entity.js';
import { keptDays } from '../events/events.service.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { AccountSessions } from '../sessions/account-sessions.js';
import { WriteBehind } from '../sessions/write-behind.js';
import type { PageCall } from '../whatsapp/in-page/page-calls.js';
import { PhoneCalls } from './phone-calls.js';

/** The maximum number of missed calls that are read again when a session becomes ready. */
const catchUpLimit = 500;
/** How much the clock of a phone may differ from ours. */
const clockSkewMs = 60_000;
/** Older calls are not read again: their events may have been pruned, so that they would be written twice. */
const catchUpMs = (keptDays - 1) * 24 * 3_600_000;
/** A call rings for less than a minute. What began earlier is over, and is neither rejected nor answered. */
const ringsForMs = 60_000 + clockSkewMs;
/** How many calls of an account are rejected at the same time. */
const maxRejections = 20;

/** Writes the calls of this instance's accounts into the log of events, and rejects them if the account wants it. */
@Injectable()
export class PhoneCallsListener implements OnModuleInit, BeforeApplicationShutdown {
  private calls: { accountId: string; call: PageCall }[] = [];
  private rejected: { accountId: string; call: PageCall; answer: string | null }[] = [];
  /** By account: the calls that are being rejected. */
  private readonly rejecting = new Map<string, Map<string, Promise<void>>>();
  private readonly writeBehind: WriteBehind;

  constructor(
    private readonly sessions: AccountSessions,
    private readonly log: PhoneCalls,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {
    this.writeBehind = new WriteBehind(
      () => this.write(),
      () => ({ calls: this.calls.length, rejected: this.rejected.length }),
      logger,
    );
  }

  onModuleInit(): void {
    this.sessions.on('session', ({ id: accountId }, session) => {
      session.on('call', (call) => {
        this.calls.push({ accountId, call });
        this.writeBehind.schedule();
      });
    });
    this.sessions.on('ready', (account) => {
      void this.writeBehind.catchUp(account.id, () => this.catchUp(account));
    });
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all([...this.rejecting.values()].flatMap((calls) => [...calls.values()]));
    await this.writeBehind.stop();
  }

  /** Reads the calls that the page got before this listener followed it. A call that was already written changes nothing. */
  private async catchUp(account: Account): Promise<void> {
    const linkedAt = account.linkedAt ?? account.lastConnectedAt;
    if (linkedAt === null) return;
    const since = Math.max(linkedAt.getTime() - clockSkewMs, Date.now() - catchUpMs);
    const { messages } = this.sessions.readyDriver(account.id).current;
    const read = await messages.recentCalls(Math.floor(since / 1000), catchUpLimit);
    // A page may keep a call that is over.
    const held = read.filter((call) => call.state === 'missed' || mayRing(call));
    this.calls.push(...held.map((call) => ({ accountId: account.id, call })));
    this.writeBehind.schedule();
  }

  /** Writes the calls of each account in their order. If one account fails, the calls of the others are written all the same. */
  private async write(): Promise<void> {
    const failures: unknown[] = [];
    const { calls, rejected } = this;
    [this.calls, this.rejected] = [[], []];
    for (const accountId of new Set(calls.map((told) => told.accountId))) {
      const own = calls.filter((told) => told.accountId === accountId);
      try {
        const written = own.map(({ call }) => call);
        await this.log.write(accountId, written);
        await this.rejectThose(accountId, written.filter(mayRing));
      } catch (error) {
        this.calls.unshift(...own);
        failures.push(error);
      }
    }
    for (const told of rejected) {
      try {
        await this.log.writeRejected(told.accountId, told.call, told.answer);
      } catch (error) {
        this.rejected.push(told);
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  private async rejectThose(accountId: string, calls: PageCall[]): Promise<void> {
    if (calls.length === 0) return;
    const { rejectCalls, answer } = await this.log.settingsOf(accountId);
    if (!rejectCalls) return;
    const own = this.rejecting.get(accountId) ?? new Map<string, Promise<void>>();
    this.rejecting.set(accountId, own);
    for (const call of calls) {
      if (own.has(call.callId) || own.size >= maxRejections) continue;
      const rejection = this.reject(accountId, call, answer)
        .catch((error: unknown) => this.logger.warn({ err: error, accountId }, 'a call was not rejected'))
        .finally(() => {
          own.delete(call.callId);
          if (own.size === 0) this.rejecting.delete(accountId);
        });
      own.set(call.callId, rejection);
    }
  }

  private async reject(accountId: string, call: PageCall, answer: string | null): Promise<void> {
    const { current } = this.sessions.readyDriver(accountId);
    const outcome = await current.rejectCall(call.callId, call.from.chatId);
    if (outcome === 'rejected') {
      this.rejected.push({ accountId, call, answer });
      this.writeBehind.schedule();
    } else if (outcome === 'unsupported')
      this.logger.warn(
        { accountId },
        'this version of WhatsApp Web has no way to reject calls: see docs/whatsapp-web.md',
      );
  }
}

/** Whether a call may ring now. */
function mayRing({ state, timestamp }: PageCall): boolean {
  return state === 'ringing' && timestamp !== null && Math.abs(Date.now() - timestamp * 1000) <= ringsForMs;
}
