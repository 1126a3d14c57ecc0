import { Injectable } from '@nestjs/common';
import { AccountSessions } from '../sessions/account-sessions.js';
import { personOf } from '../messages/persons.js';
import { typeOf } from '../messages/message-types.js';
import { Problem } from '../platform/errors/problem.js';
import type { SessionChats } from '../whatsapp/session-chats.js';
import type { PageCursor, PageHistoryItem } from '../whatsapp/in-page/page-reads.js';
import type { HistoryMessage, NumberResponse } from './chats.dto.js';
import { GroupOperations } from './group-operations.js';
import { NumberChecks } from './number-checks.js';
import {
  type Listed,
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
  PageSilent,
  PictureTooLarge,
} from './chat-errors.js';
import { chatPersonOf, iso } from './chat-persons.js';

/** WhatsApp's own pictures have some 100 kB. */
const pictureBytes = 1024 * 1024;

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

/** Reads and changes what the API asks for, through the pages of this instance. */
@Injectable()
export class SessionAnswerer {
  private readonly numberChecks = new NumberChecks();
  private readonly handlers: Handlers;

  constructor(
    private readonly sessions: AccountSessions,
    groups: GroupOperations,
  ) {
    this.handlers = {
      number: (chats, { phone }, accountId) => this.number(chats, accountId, phone),
      chats: async (chats, { limit, after }) => {
        const found = await chats.chats(limit, after);
        return listed(found, limit, ({ id, alias, t, ...rest }) => ({
          id,
          ...chatPersonOf({ chatId: id, alias }),
          ...rest,
          lastMessageAt: t > 0 ? iso(t) : null,
        }));
      },
      contacts: async (chats, { limit, after }) => {
        const found = (await chats.contacts(limit, after)).map((item) => ({ ...item, t: 0 }));
        return listed(found, limit, ({ id, alias, t: _t, ...rest }) => ({
          id,
          ...personOf({ chatId: id, alias }),
          ...rest,
        }));
      },
      history: async (chats, { chatId, limit, after }) => {
        const held = await this.find(chats, chatId);
        const { items, isComplete } = await chats.history(held, limit, after);
        const found = items.map((item) => ({ ...item, id: item.key }));
        const page = listed(found, limit, (item) => toHistoryMessage(held, item));
        return isComplete ? page : { ...page, next: placeAfter(found, after) };
      },
      picture: (chats, { id, isGroup }, accountId) => this.picture(chats, accountId, id, isGroup),
      markRead: async (chats, { chatId }) => chats.markRead(await this.find(chats, chatId)),
      showState: async (chats, { chatId, state }) => chats.show(await this.find(chats, chatId), state),
      updateChat: async (chats, { chatId, changes }) => {
        if (!(await chats.changeChat(await this.find(chats, chatId), changes))) throw new CannotPin();
      },
      groups: async (chats, { limit, after }) => {
        const found = (await chats.groups(limit, after)).map((item) => ({ ...item, t: 0 }));
        return listed(found, limit, ({ t: _t, ...item }) => item);
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
   * @throws AccountNotDrivenHere, SessionNotReady (nothing was done), PageSilent when the page gave no answer, and what each
   * call is documented with
   */
  async answer(accountId: string, { epoch, call, ask }: SessionCall): Promise<unknown> {
    const chats = this.sessions.readyDriver(accountId, epoch).current.chats(sessionCallMs);
    const handler = this.handlers[call] as (
      chats: SessionChats,
      ask: SessionCall['ask'],
      accountId: string,
    ) => Promise<unknown>;
    try {
      return await handler(chats, ask, accountId);
    } catch (error) {
      // An error of the page's code comes as a plain one: these are mistakes of ours, and no silence.
      if (error instanceof Problem || error instanceof TypeError || error instanceof RangeError) throw error;
      throw new PageSilent(error);
    }
  }

  private async number(chats: SessionChats, accountId: string, phone: string): Promise<NumberResponse> {
    const known = this.numberChecks.known(accountId, phone);
    if (known) return known;
    this.countCheck(accountId);
    const person = await chats.person(`${phone}@c.us`);
    const answer = {
      phone,
      registered: person !== null,
      chatId: person?.chatId ?? null,
      lid: person && personOf(person).lid,
    };
    this.numberChecks.remember(accountId, answer);
    return answer;
  }

  /** @throws TooManyNumberChecks */
  private countCheck(accountId: string): void {
    if (this.sessions.readyDriver(accountId).account.environment === 'live')
      this.numberChecks.count(accountId);
  }

  private async find(chats: SessionChats, chatId: string): Promise<string> {
    const held = await chats.find(chatId);
    if (held === null) throw new ChatNotFound(chatId);
    return held;
  }

  private async picture(
    chats: SessionChats,
    accountId: string,
    id: string,
    isGroup: boolean,
  ): Promise<{ base64: string }> {
    let picture = await chats.picture(id, pictureBytes, false);
    // Asking for strangers' pictures is asking which numbers there are.
    if (picture.outcome === 'stranger' && (await this.exists(chats, accountId, id)))
      picture = await chats.picture(id, pictureBytes, true);
    switch (picture.outcome) {
      case 'found':
        return { base64: picture.base64 };
      case 'none':
        throw new NoPicture(isGroup);
      case 'too_large':
        throw new PictureTooLarge(pictureBytes);
      case 'stranger':
      case 'not_found':
        throw isGroup ? new GroupNotFound(id) : new ContactNotFound(id);
    }
  }

  /** Whether WhatsApp knows a person whom the page does not. @throws TooManyNumberChecks */
  private async exists(chats: SessionChats, accountId: string, chatId: string): Promise<boolean> {
    const phone = /^(\d+)@c\.us$/.exec(chatId)?.[1];
    if (phone !== undefined) return (await this.number(chats, accountId, phone)).registered;
    this.countCheck(accountId);
    return (await chats.person(chatId)) !== null;
  }
}

/** A page of a list that was read with one item more than asked for. */
function listed<Row extends { t: number; id: string }, Item>(
  rows: Row[],
  limit: number,
  toItem: (row: Row) => Item,
): Listed<Item> {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  return {
    items: shown.map(toItem),
    next: rows.length > limit && last ? { t: last.t, id: last.id } : null,
  };
}

/** Where a list goes on that may have more than was found: after what was found, else where it was begun. */
function placeAfter(found: PageCursor[], after: PageCursor | null): PageCursor {
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
    // One that was deleted has no type but that.
    type: typeOf(type) ?? type,
    from: personOf(sender),
    text,
    status: fromMe ? sentStatus : 'received',
    replyToWhatsappId: quotedWhatsappId,
    createdAt: iso(t),
    editedAt: editedAt === null ? null : new Date(editedAt).toISOString(),
  };
}
