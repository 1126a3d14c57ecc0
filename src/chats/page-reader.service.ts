import { Injectable } from '@nestjs/common';
import { AccountSessions } from '../accounts/account-sessions.service.js';
import { typeOf } from '../messages/message-types.js';
import { Problem } from '../platform/errors/problem.js';
import type { PageChats } from '../whatsapp/page-chats.js';
import type { PageHistoryItem } from '../whatsapp/page-reads.js';
import type { HistoryMessage, NumberResponse } from './chats.dto.js';
import { GroupActor } from './group-actor.service.js';
import { NumberChecks } from './number-checks.js';
import type { Listed, PageCall, PageCallName, PageCalls } from './page-calls.js';
import {
  CannotPin,
  ChatNotFound,
  ContactNotFound,
  GroupNotFound,
  NoPicture,
  PageSilent,
  PictureTooLarge,
} from './page-errors.js';
import { chatPersonOf, iso, personOf } from './persons.js';

/** WhatsApp's own pictures have some 100 kB. */
const pictureBytes = 1024 * 1024;

const outgoingStatuses = ['sending', 'sent', 'delivered', 'read', 'played'] as const;

type Handlers = {
  [Name in PageCallName]: (
    chats: PageChats,
    ask: PageCalls[Name]['ask'],
    accountId: string,
  ) => Promise<PageCalls[Name]['answer']>;
};

/** Answers what the API asks of the pages of this instance. */
@Injectable()
export class PageReader {
  private readonly numberChecks = new NumberChecks();
  private readonly handlers: Handlers;

  constructor(
    private readonly sessions: AccountSessions,
    groups: GroupActor,
  ) {
    this.handlers = {
      number: (chats, { phone }, accountId) => this.number(chats, accountId, phone),
      chats: async (chats, { limit, after }) => {
        const found = await chats.chats(limit, after);
        return listed(found, limit, ({ id, alias, t, ...rest }) => ({
          id,
          ...chatPersonOf({ id, alias }),
          ...rest,
          lastMessageAt: t > 0 ? iso(t) : null,
        }));
      },
      contacts: async (chats, { limit, after }) => {
        const found = (await chats.contacts(limit, after)).map((item) => ({ ...item, t: 0 }));
        return listed(found, limit, ({ id, alias, t: _t, ...rest }) => ({
          id,
          ...personOf({ id, alias }),
          ...rest,
        }));
      },
      history: async (chats, { chatId, limit, after }) => {
        const held = await this.find(chats, chatId);
        const found = (await chats.history(held, limit, after)).map((item) => ({ ...item, id: item.key }));
        return listed(found, limit, (item) => toHistoryMessage(held, item));
      },
      picture: (chats, { id, isGroup }) => this.picture(chats, id, isGroup),
      markRead: async (chats, { chatId }) => chats.markRead(await this.find(chats, chatId)),
      showState: async (chats, { chatId, state }) => chats.show(await this.find(chats, chatId), state),
      updateChat: async (chats, { chatId, changes }) => {
        if (!(await chats.changeChat(await this.find(chats, chatId), changes))) throw new CannotPin();
      },
      groups: async (chats, { limit, after }) => {
        const found = (await chats.groups(limit, after)).map((item) => ({ ...item, t: 0 }));
        return listed(found, limit, ({ t: _t, ...item }) => item);
      },
      group: (chats, { groupId }) => groups.read(chats, groupId),
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
  async answer(accountId: string, { epoch, call, ask }: PageCall): Promise<unknown> {
    const { chats } = this.sessions.readyDriver(accountId, epoch).current;
    const handler = this.handlers[call] as (
      chats: PageChats,
      ask: PageCall['ask'],
      accountId: string,
    ) => Promise<unknown>;
    try {
      return await handler(chats, ask, accountId);
    } catch (error) {
      if (error instanceof Problem) throw error;
      throw new PageSilent(error instanceof Error ? error.message : String(error));
    }
  }

  private async number(chats: PageChats, accountId: string, phone: string): Promise<NumberResponse> {
    const known = this.numberChecks.known(accountId, phone);
    if (known) return known;
    const { account, current } = this.sessions.readyDriver(accountId);
    if (account.environment === 'live') this.numberChecks.count(accountId);
    const chatId = await current.chatIdOf(phone);
    const [person] = chatId === null ? [] : await chats.aliases([`${phone}@c.us`]);
    const lid = person ? personOf(person).lid : null;
    const answer = { phone, registered: chatId !== null, chatId, lid };
    this.numberChecks.remember(accountId, answer);
    return answer;
  }

  private async find(chats: PageChats, chatId: string): Promise<string> {
    const held = await chats.find(chatId);
    if (held === null) throw new ChatNotFound(chatId);
    return held;
  }

  private async picture(chats: PageChats, id: string, isGroup: boolean): Promise<{ base64: string }> {
    const picture = await chats.picture(id, pictureBytes);
    switch (picture.outcome) {
      case 'found':
        return { base64: picture.base64 };
      case 'none':
        throw new NoPicture(isGroup);
      case 'too_large':
        throw new PictureTooLarge(pictureBytes);
      case 'not_found':
        throw isGroup ? new GroupNotFound(id) : new ContactNotFound(id);
    }
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
