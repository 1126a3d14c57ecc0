import { Injectable } from '@nestjs/common';
import { AccountSessions } from '../sessions/account-sessions.js';
import { personOf } from '../messages/persons.js';
import { typeOf } from '../messages/message-types.js';
import { RecipientIds } from '../messages/recipient-ids.service.js';
import { Problem } from '../platform/errors/problem.js';
import { countFitting } from '../platform/http/pagination.js';
import { NumberChecksPaused, RecipientChecks } from '../sending/recipient-checks.js';
import type { PagePerson } from '../whatsapp/in-page/page-functions.js';
import { Refused, type SessionChats } from '../whatsapp/session-chats.js';
import type { PageContactItem, PageCursor, PageHistoryItem } from '../whatsapp/in-page/page-reads.js';
import type { ContactResponse, HistoryMessage, NumberResponse, PresenceResponse } from './chats.dto.js';
import { GroupOperations } from './group-operations.js';
import { NumberChecks } from './number-checks.js';
import {
  type ListPage,
  type SessionCall,
  sessionCallMs,
  type SessionCallName,
  type SessionCalls,
} from './session-calls.js';
import {
  CannotPin,
  ChatNotFound,
  ContactNotFound,
  GroupNotFound,
  NoPicture,
  NoPresence,
  PageSilent,
  PictureTooLarge,
  TooManyWatches,
} from './chat-errors.js';
import { chatPersonOf, iso } from './chat-persons.js';
import { toPresence } from './presence-log.js';

/** The maximum size of a picture. WhatsApp's own pictures have about 100 kB. */
const maxPictureBytes = 1024 * 1024;

/** How many chats an account watches at most at the same time. */
const maxWatches = 100;

/** Later than every message. */
const maxCursorTime = 999_999_999_999;

const outgoingStatuses = ['sending', 'sent', 'delivered', 'read', 'played'] as const;

type Handlers = {
  [Name in SessionCallName]: (
    chats: SessionChats,
    ask: SessionCalls[Name]['ask'],
    accountId: string,
  ) => Promise<SessionCalls[Name]['answer']>;
};

/** The instance side of {@link SessionCalls}: runs the calls of the API in the pages of this instance. */
@Injectable()
export class CallDispatcher {
  private readonly numberChecks = new NumberChecks();
  private readonly handlers: Handlers;

  constructor(
    private readonly sessions: AccountSessions,
    groups: GroupOperations,
    private readonly recipients: RecipientIds,
    private readonly checks: RecipientChecks,
  ) {
    this.handlers = {
      number: (chats, { phone }, accountId) =>
        this.number(chats, accountId, phone.includes('@') ? phone : `${phone}@c.us`),
      chats: async (chats, { limit, after }) => {
        const found = await chats.chats(limit, after);
        return toListPage(found, limit, ({ id, alias, t, ...rest }) => ({
          id,
          ...chatPersonOf({ chatId: id, alias }),
          ...rest,
          lastMessageAt: t > 0 ? iso(t) : null,
        }));
      },
      contacts: async (chats, { limit, after }) => {
        const found = (await chats.contacts(limit, after)).map((item) => ({ ...item, t: 0 }));
        return toListPage(found, limit, ({ t: _t, ...item }) => toContact(item));
      },
      contact: (chats, { id }, accountId) => this.contact(chats, accountId, id),
      history: async (chats, { chatId, limit, after }, accountId) => {
        const knownId = await this.find(chats, accountId, chatId);
        const { items, isComplete } = await chats.history(knownId, limit, after);
        const found = items.map((item) => ({ ...item, id: item.key }));
        const page = toListPage(found, limit, (item) => toHistoryMessage(knownId, item));
        return isComplete ? page : { ...page, next: page.next ?? cursorAfter(found, after) };
      },
      picture: (chats, { id, isGroup }, accountId) => this.picture(chats, accountId, id, isGroup),
      markRead: async (chats, { chatId }, accountId) =>
        chats.markRead(await this.find(chats, accountId, chatId)),
      showState: async (chats, { chatId, state }, accountId) =>
        chats.show(await this.find(chats, accountId, chatId), state),
      presence: async (chats, { chatId, seconds }, accountId) =>
        this.watch(chats, await this.find(chats, accountId, chatId), seconds),
      updateChat: async (chats, { chatId, changes }, accountId) => {
        if (!(await chats.changeChat(await this.find(chats, accountId, chatId), changes)))
          throw new CannotPin();
      },
      groups: async (chats, { limit, after }) => {
        const found = (await chats.groups(limit, after)).map((item) => ({ ...item, t: 0 }));
        return toListPage(found, limit, ({ t: _t, ...item }) => item);
      },
      group: (chats, { groupId, withInvite }) => groups.read(chats, groupId, withInvite),
      createGroup: (chats, ask) => groups.create(chats, ask.subject, ask.participants),
      updateGroup: (chats, { groupId, changes }) => groups.update(chats, groupId, changes),
      changeParticipants: (chats, ask) =>
        groups.changeParticipants(chats, ask.groupId, ask.change, ask.participants),
      invite: (chats, { groupId, reset }) => groups.invite(chats, groupId, reset),
      join: (chats, { code }) => groups.join(chats, code),
      leave: (chats, { groupId }) => groups.leave(chats, groupId),
    };
  }

  /**
   * Runs one call in the page of an account.
   * @throws AccountNotDrivenHere, SessionNotReady (nothing was done), PageSilent if the page gave no answer, and the documented
   * errors of each call
   */
  async dispatch(accountId: string, { epoch, call, ask }: SessionCall): Promise<unknown> {
    const chats = this.sessions.readyDriver(accountId, epoch).current.chats(sessionCallMs);
    const handler = this.handlers[call] as (
      chats: SessionChats,
      ask: SessionCall['ask'],
      accountId: string,
    ) => Promise<unknown>;
    try {
      return await handler(chats, ask, accountId);
    } catch (error) {
      // An error of the code in the page arrives as a plain Error. TypeError and RangeError are bugs of ours.
      if (error instanceof Problem || error instanceof TypeError || error instanceof RangeError) throw error;
      throw new PageSilent(error);
    }
  }

  private async number(chats: SessionChats, accountId: string, asked: string): Promise<NumberResponse> {
    const known = this.numberChecks.known(accountId, asked);
    if (known) return known;
    const person = await this.person(chats, accountId, asked);
    if (person && asked.endsWith('@c.us')) await this.keepOtherId(accountId, asked, person);
    const { phone = null, lid = null } = person ? personOf(person) : {};
    const answer = {
      phone: asked.endsWith('@c.us') ? asked.slice(0, -'@c.us'.length) : phone,
      registered: person !== null,
      chatId: person?.chatId ?? null,
      lid,
    };
    this.numberChecks.remember(accountId, asked, answer);
    return answer;
  }

  /** Asks WhatsApp for a person; null if there is no such person. @throws TooManyNumberChecks, NumberChecksPaused */
  private async person(chats: SessionChats, accountId: string, chatId: string): Promise<PagePerson | null> {
    const until = this.checks.until(accountId);
    if (until !== null) throw new NumberChecksPaused(until, false);
    this.countCheck(accountId);
    const person = await chats.person(chatId);
    if (person instanceof Refused) throw new NumberChecksPaused(this.checks.throttled(accountId), true);
    return person;
  }

  /** Keeps the id under which WhatsApp has a number, so that messages to the number find their chat. */
  private async keepOtherId(accountId: string, asked: string, { chatId, alias }: PagePerson): Promise<void> {
    const ids = [chatId, alias].filter((id) => id !== null);
    if (ids.includes(asked)) return;
    const otherId = ids.find((id) => id.endsWith('@c.us')) ?? chatId;
    await this.recipients.remember(accountId, asked, otherId);
  }

  /** @throws TooManyNumberChecks */
  private countCheck(accountId: string): void {
    if (this.sessions.readyDriver(accountId).account.environment === 'live')
      this.numberChecks.count(accountId);
  }

  private async find(chats: SessionChats, accountId: string, chatId: string): Promise<string> {
    const knownId = (await chats.find(chatId)) ?? (await this.findUnderOtherId(chats, accountId, chatId));
    if (knownId === null) throw new ChatNotFound(chatId);
    return knownId;
  }

  private async findUnderOtherId(
    chats: SessionChats,
    accountId: string,
    chatId: string,
  ): Promise<string | null> {
    const [otherId = chatId] = await this.recipients.idsOf(accountId, [chatId]);
    return otherId === chatId ? null : chats.find(otherId);
  }

  private async watch(chats: SessionChats, chatId: string, seconds: number): Promise<PresenceResponse> {
    const result = await chats.watch(chatId, seconds * 1000, maxWatches);
    if (result.outcome === 'unsupported') throw new NoPresence();
    if (result.outcome === 'too_many') throw new TooManyWatches(maxWatches);
    const watchedUntil = new Date(Date.now() + seconds * 1000).toISOString();
    return { ...toPresence(result.presence), watchedUntil };
  }

  /** A person whom the page does not know has no name here, if WhatsApp knows the person. */
  private async contact(chats: SessionChats, accountId: string, chatId: string): Promise<ContactResponse> {
    const [otherId = chatId] = await this.recipients.idsOf(accountId, [chatId]);
    const known = (await chats.contact(chatId)) ?? (otherId === chatId ? null : await chats.contact(otherId));
    if (known) return toContact(known);
    const { registered, phone, lid, chatId: id } = await this.number(chats, accountId, chatId);
    if (!registered || id === null) throw new ContactNotFound(chatId);
    return {
      id,
      phone,
      lid,
      name: null,
      pushname: null,
      isBusiness: false,
      isMyContact: false,
      isBlocked: false,
    };
  }

  private async picture(
    chats: SessionChats,
    accountId: string,
    id: string,
    isGroup: boolean,
  ): Promise<{ base64: string }> {
    let picture = await chats.picture(id, maxPictureBytes, false);
    // A request for the picture of a stranger also checks a number, so it counts as a number check.
    if (picture.outcome === 'stranger' && (await this.exists(chats, accountId, id)))
      picture = await chats.picture(id, maxPictureBytes, true);
    switch (picture.outcome) {
      case 'found':
        return { base64: picture.base64 };
      case 'none':
        throw new NoPicture(isGroup);
      case 'too_large':
        throw new PictureTooLarge(maxPictureBytes);
      case 'stranger':
      case 'not_found':
        throw isGroup ? new GroupNotFound(id) : new ContactNotFound(id);
    }
  }

  /** Whether WhatsApp knows a person that the page does not know. @throws TooManyNumberChecks, NumberChecksPaused */
  private async exists(chats: SessionChats, accountId: string, chatId: string): Promise<boolean> {
    return (await this.number(chats, accountId, chatId)).registered;
  }
}

/**
 * A page of a list, which ends early when it is large.
 * @param rows up to `limit + 1` rows; the extra row shows that there is a next page
 */
function toListPage<Row extends { t: number; id: string }, Item>(
  rows: Row[],
  limit: number,
  toItem: (row: Row) => Item,
): ListPage<Item> {
  const items = rows.slice(0, limit).map(toItem);
  const count = countFitting(items.map((item) => Buffer.byteLength(JSON.stringify(item))));
  const last = rows[count - 1];
  return {
    items: items.slice(0, count),
    next: rows.length > count && last ? { t: last.t, id: last.id } : null,
  };
}

function toContact({ id, alias, ...rest }: PageContactItem): ContactResponse {
  return { id, ...personOf({ chatId: id, alias }), ...rest };
}

/** The next cursor of a list that may have more items: after the last found item, or the same cursor if nothing was found. */
function cursorAfter(found: PageCursor[], after: PageCursor | null): PageCursor {
  const last = found.at(-1);
  return last ? { t: last.t, id: last.id } : (after ?? { t: maxCursorTime, id: '-' });
}

function toHistoryMessage(chatId: string, message: PageHistoryItem): Omit<HistoryMessage, 'id'> {
  const { whatsappId, fromMe, sender, type, text, ack, t, quotedWhatsappId, editedAt } = message;
  const sentStatus = ack < 0 ? 'failed' : (outgoingStatuses[ack] ?? 'played');
  return {
    whatsappId,
    chatId,
    direction: fromMe ? 'outgoing' : 'incoming',
    // A deleted message has only the type `revoked`, which is not a type of the ledger.
    type: typeOf(type) ?? type,
    from: personOf(sender),
    text,
    status: fromMe ? sentStatus : 'received',
    replyToWhatsappId: quotedWhatsappId,
    createdAt: iso(t),
    editedAt: editedAt === null ? null : new Date(editedAt).toISOString(),
  };
}
