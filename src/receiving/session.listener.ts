import { Inject, Injectable, type BeforeApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import type { Account } from '../accounts/account.entity.js';
import { AccountSessions } from '../sessions/account-sessions.js';
import { WriteBehind } from '../sessions/write-behind.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import type { WhatsAppSession } from '../whatsapp/whatsapp-session.js';
import type { PageChange, PageMessage } from '../whatsapp/in-page/page-functions.js';
import { addressesOf } from '../messages/persons.js';
import { MediaDownloader } from './media-downloader.js';
import { targetOf } from '../messages/message-rows.js';
import { OutcomeFinder } from './outcome-finder.js';
import { MessageSender } from '../sending/message-sender.js';
import { IncomingService, type MessageToRead } from './incoming.service.js';
import { type Ack, UpdatesService } from './updates.service.js';

/** How many messages of each kind are read again when a session becomes ready. */
const catchUpLimit = 500;
/** How much a phone's clock may differ from ours. */
const clockSkewMs = 60_000;

/** Writes what the sessions of this instance report: acks, incoming messages, messages from the phone, and changes of messages. */
@Injectable()
export class SessionListener implements OnModuleInit, BeforeApplicationShutdown {
  private acks: Ack[] = [];
  private incoming: { account: Account; message: PageMessage }[] = [];
  private changes: { account: Account; change: PageChange }[] = [];
  private readonly writeBehind: WriteBehind;

  constructor(
    private readonly sessions: AccountSessions,
    private readonly incomingMessages: IncomingService,
    private readonly updates: UpdatesService,
    private readonly sender: MessageSender,
    private readonly outcomes: OutcomeFinder,
    private readonly media: MediaDownloader,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {
    this.writeBehind = new WriteBehind(
      () => this.write(),
      () => ({ acks: this.acks.length, incoming: this.incoming.length, changes: this.changes.length }),
      logger,
    );
  }

  onModuleInit(): void {
    this.sessions.on('session', (account, session) => this.follow(account, session));
    this.sessions.on('ready', (account) => {
      void this.writeBehind.catchUp(account.id, () => this.catchUp(account));
    });
  }

  private follow(account: Account, session: WhatsAppSession): void {
    session.on('ack', ({ whatsappId, ack }) => {
      // The send has already returned this ack.
      if (ack === 1 && this.sender.hasJustSent(whatsappId)) return;
      if (ack < 0) this.sender.forget(whatsappId);
      this.acks.push({ accountId: account.id, whatsappId, ack });
      this.writeBehind.schedule();
    });
    session.on('message', (message) => {
      this.incoming.push({ account, message });
      this.writeBehind.schedule();
    });
    session.on('change', (change) => {
      this.changes.push({ account, change });
      this.writeBehind.schedule();
    });
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.writeBehind.stop();
  }

  /**
   * Reads what the page learned before this listener followed it. Each kind is read even if another kind fails. Everything
   * since the link that the page holds is written again, because an earlier reading may be incomplete. Known data changes
   * nothing.
   */
  private async catchUp(account: Account): Promise<void> {
    const session = this.sessions.readyDriver(account.id).current;
    const linkedAt = account.linkedAt ?? account.lastConnectedAt;
    const since = linkedAt && linkedAt.getTime() - clockSkewMs;
    const readings = await Promise.allSettled([
      this.readMessages(account, session, since),
      since === null ? null : this.readChanges(account, session, since),
      this.readReactions(account, session),
      this.outcomes.read(account.id).then((acks) => this.acks.push(...acks)),
    ]);
    this.writeBehind.schedule();
    const failed = readings.find((reading) => reading.status === 'rejected');
    if (failed) throw failed.reason;
  }

  private async readMessages(
    account: Account,
    session: WhatsAppSession,
    since: number | null,
  ): Promise<void> {
    const sources = await this.incomingMessages.wantedSources(account.id);
    const own = since === null ? [] : await this.unknownOwn(account, session, since);
    const held = await session.messages.recentMessages(catchUpLimit, sources, own);
    if (since !== null) {
      const missed = held.filter(({ timestamp }) => timestamp * 1000 >= since);
      this.incoming.push(...missed.map((message) => ({ account, message })));
    }
    // Also the contacts from before the link, if WhatsApp Web has their messages.
    await this.incomingMessages.rememberContacts(account.id, held);
  }

  /** What the account's owner wrote elsewhere. Nearly all messages of the account that a page holds are ours, and have rows. */
  private async unknownOwn(account: Account, session: WhatsAppSession, since: number): Promise<string[]> {
    const ids = await session.messages.recentOwnIds(since / 1000, catchUpLimit);
    return this.incomingMessages.unknownIds(account.id, ids);
  }

  private async readChanges(account: Account, session: WhatsAppSession, since: number): Promise<void> {
    const changes = await session.messages.recentChanges(since, catchUpLimit);
    this.changes.push(...changes.map((change) => ({ account, change })));
  }

  /** A removed reaction leaves no trace in the page. Finds removals as known reactions that no longer stand. */
  private async readReactions(account: Account, session: WhatsAppSession): Promise<void> {
    const known = await this.updates.reactedTo(account.id, catchUpLimit);
    if (known.length === 0) return;
    const at = Date.now();
    const standing = new Map(
      (await session.messages.reactionsTo(known.map(targetOf))).map(({ whatsappId, from }) => [
        whatsappId,
        from,
      ]),
    );
    for (const { whatsappId, reactions } of known) {
      const from = standing.get(whatsappId);
      if (!from) continue;
      const own = [account.phoneNumber, account.lid];
      const those = new Set(from.flatMap((person) => (person === null ? own : addressesOf(person))));
      for (const { from: address, phone, lid, emoji } of reactions) {
        if (emoji === '' || those.has(address) || (lid && those.has(lid)) || (phone && those.has(phone)))
          continue;
        const person = own.includes(address)
          ? null
          : { chatId: phone ? `${phone}@c.us` : address, alias: lid };
        this.changes.push({ account, change: { kind: 'reaction', whatsappId, from: person, emoji: '', at } });
      }
    }
  }

  /** Marks the chats of new messages as read. A failure changes nothing: the next message of a chat marks all of the chat. */
  private async markRead(accountId: string, messages: MessageToRead[]): Promise<void> {
    const lastOfChats = new Map(messages.map((message) => [message.chatId, message]));
    for (const [chatId, last] of lastOfChats) {
      // Stories and posts of channels are in no chat.
      if (/@(broadcast|newsletter)$/.test(chatId)) continue;
      try {
        const { current } = this.sessions.readyDriver(accountId);
        const { outcome } = await current.act(targetOf(last), { kind: 'read' });
        if (outcome !== 'done') throw new Error(`the page says ${outcome}`);
        const inChat = messages.filter((message) => message.chatId === chatId);
        const ids = inChat.map(({ whatsappId }) => whatsappId);
        await this.updates.markRead(accountId, ids);
      } catch (error) {
        this.logger.warn({ err: error, accountId }, 'new messages could not be marked as read');
      }
    }
  }

  /** Writes the gathered items. Items that could not be written stay, and hold back later items of the same account only. */
  private async write(): Promise<void> {
    const failures = new Map<string, unknown>();
    const { incoming, changes } = this;
    // A message that the owner wrote elsewhere may have acks already, and others follow: they come after the message.
    const acks = [...incoming.flatMap(ackOf), ...this.acks];
    [this.acks, this.incoming, this.changes] = [[], [], []];
    const byAccount = new Map<Account, PageMessage[]>();
    for (const { account, message } of incoming)
      byAccount.set(account, [...(byAccount.get(account) ?? []), message]);
    for (const [account, messages] of byAccount) {
      try {
        const toRead = await this.incomingMessages.storeIncoming(account, messages);
        if (toRead.length > 0) void this.markRead(account.id, toRead);
        if (messages.some(({ media }) => media !== null)) this.media.wake();
      } catch (error) {
        failures.set(account.id, error);
        this.incoming.unshift(...messages.map((message) => ({ account, message })));
      }
    }
    try {
      await this.updates.writeAcks(acks);
    } catch (error) {
      failures.set('acks', error);
      this.acks.unshift(...acks);
    }
    // Changes come after messages, because both may have arrived at the same moment.
    const left: typeof changes = [];
    for (const { account, change } of changes) {
      try {
        if (!failures.has(account.id)) await this.updates.writeChanges(account.id, [change]);
      } catch (error) {
        failures.set(account.id, error);
      }
      if (failures.has(account.id)) left.push({ account, change });
    }
    this.changes.unshift(...left);
    if (failures.size > 0)
      throw new AggregateError(failures.values(), [...failures.keys()].join(', '), {
        cause: [...failures.values()][0],
      });
  }
}

/** The ack that a message of the account's owner had when the page reported it. It is stored as sent, which is ack 1. */
function ackOf({ account, message }: { account: Account; message: PageMessage }): Ack[] {
  const { fromMe, ack, whatsappId } = message;
  return fromMe && ack > 1 ? [{ accountId: account.id, whatsappId, ack }] : [];
}
