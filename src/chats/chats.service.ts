import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { fileTypeFromBuffer } from 'file-type';
import { DataSource } from 'typeorm';
import { AccountsService } from '../accounts/accounts.service.js';
import { parseRecipient, recipientHint } from '../messages/recipient.js';
import type { Page } from '../platform/http/pagination.js';
import { RemoteSession, pageAfter } from './remote-session.js';
import type {
  ChatResponse,
  ContactResponse,
  HistoryMessage,
  NumberResponse,
  PageListQuery,
  PresenceResponse,
  ShowStateDto,
  UpdateChatDto,
  WatchPresenceDto,
} from './chats.dto.js';
import { NumberInvalid } from './chat-errors.js';

const pictureTypes = new Set(['image/jpeg', 'image/png', 'image/webp']);

/**
 * Chats and contacts of an account's WhatsApp. Flotilla does not store them: each call reads the page of the account, so the
 * account must be ready. Every call throws as {@link RemoteSession.call} does.
 */
@Injectable()
export class ChatsService {
  constructor(
    private readonly session: RemoteSession,
    private readonly accounts: AccountsService,
    @InjectDataSource() private readonly database: DataSource,
  ) {}

  /** Whether a number has WhatsApp. The answer is cached for ten minutes. @throws NumberInvalid, TooManyNumberChecks */
  async number(workspaceId: string, accountId: string, text: string): Promise<NumberResponse> {
    const person = parseRecipient(text);
    if (!person || person.chatId.endsWith('@g.us')) {
      await this.accounts.get(workspaceId, accountId);
      throw new NumberInvalid(recipientHint(text, '@c.us or @lid'));
    }
    return this.session.call(workspaceId, accountId, 'number', { phone: person.address });
  }

  /** The chats, the latest first. */
  chats(
    workspaceId: string,
    accountId: string,
    { limit, cursor }: PageListQuery,
  ): Promise<Page<ChatResponse>> {
    return pageAfter(cursor, (after) => this.session.call(workspaceId, accountId, 'chats', { limit, after }));
  }

  /** The contacts, in the order of their ids. */
  contacts(
    workspaceId: string,
    accountId: string,
    { limit, cursor }: PageListQuery,
  ): Promise<Page<ContactResponse>> {
    return pageAfter(cursor, (after) =>
      this.session.call(workspaceId, accountId, 'contacts', { limit, after }),
    );
  }

  /** @throws ContactNotFound, TooManyNumberChecks, NumberChecksPaused */
  contact(workspaceId: string, accountId: string, id: string): Promise<ContactResponse> {
    return this.session.call(workspaceId, accountId, 'contact', { id });
  }

  /** The messages of a chat, the newest first, with their ids in the ledger. @throws ChatNotFound */
  async history(
    workspaceId: string,
    accountId: string,
    chatId: string,
    { limit, cursor }: PageListQuery,
  ): Promise<Page<HistoryMessage>> {
    const { items, nextCursor } = await pageAfter(cursor, (after) =>
      this.session.call(workspaceId, accountId, 'history', { chatId, limit, after }),
    );
    const rows: { id: string; whatsapp_id: string }[] = await this.database.query(
      `select id, whatsapp_id from messages where workspace_id = $1 and account_id = $2 and whatsapp_id = any($3)`,
      [workspaceId, accountId, items.map(({ whatsappId }) => whatsappId)],
    );
    const ids = new Map(rows.map(({ id, whatsapp_id }) => [whatsapp_id, id]));
    return { items: items.map((item) => ({ id: ids.get(item.whatsappId) ?? null, ...item })), nextCursor };
  }

  /** The picture's bytes. @throws ContactNotFound, GroupNotFound, NoPicture, PictureTooLarge */
  async picture(
    workspaceId: string,
    accountId: string,
    id: string,
  ): Promise<{ type: string; bytes: Buffer }> {
    const isGroup = id.endsWith('@g.us');
    const { base64 } = await this.session.call(workspaceId, accountId, 'picture', { id, isGroup });
    const bytes = Buffer.from(base64, 'base64');
    return { type: await imageTypeOf(bytes), bytes };
  }

  /** Marks a chat as read. The senders of its messages see that. @throws ChatNotFound */
  markRead(workspaceId: string, accountId: string, chatId: string): Promise<void> {
    return this.session.call(workspaceId, accountId, 'markRead', { chatId });
  }

  /** @throws ChatNotFound */
  showState(workspaceId: string, accountId: string, chatId: string, { state }: ShowStateDto): Promise<void> {
    return this.session.call(workspaceId, accountId, 'showState', { chatId, state });
  }

  /** @throws ChatNotFound, NoPresence, TooManyWatches */
  watch(
    workspaceId: string,
    accountId: string,
    chatId: string,
    { seconds }: WatchPresenceDto,
  ): Promise<PresenceResponse> {
    return this.session.call(workspaceId, accountId, 'presence', { chatId, seconds });
  }

  /** @throws ChatNotFound, CannotPin */
  update(workspaceId: string, accountId: string, chatId: string, changes: UpdateChatDto): Promise<void> {
    return this.session.call(workspaceId, accountId, 'updateChat', { chatId, changes });
  }
}

/** The media type from the bytes, because a stranger made the file. A browser must not show a file that is not a picture. */
async function imageTypeOf(bytes: Buffer): Promise<string> {
  const type = (await fileTypeFromBuffer(bytes))?.mime;
  return type !== undefined && pictureTypes.has(type) ? type : 'application/octet-stream';
}
