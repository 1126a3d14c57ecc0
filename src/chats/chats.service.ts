import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { fileTypeFromBuffer } from 'file-type';
import { DataSource } from 'typeorm';
import { AccountsService } from '../accounts/accounts.service.js';
import { parsePhoneNumber } from '../platform/http/phone-number.js';
import type { Page } from '../platform/http/pagination.js';
import { SessionCaller, pageAfter } from './session-caller.js';
import type {
  ChatResponse,
  ContactResponse,
  HistoryMessage,
  NumberResponse,
  PageListQuery,
  ShowStateDto,
  UpdateChatDto,
} from './chats.dto.js';
import { NumberInvalid } from './chat-errors.js';

const pictureTypes = new Set(['image/jpeg', 'image/png', 'image/webp']);

/**
 * Chats and people as the WhatsApp of an account has them. Nothing of it is stored here: each call reads the account's page,
 * so the account has to be ready.
 */
@Injectable()
export class ChatsService {
  constructor(
    private readonly page: SessionCaller,
    private readonly accounts: AccountsService,
    @InjectDataSource() private readonly database: DataSource,
  ) {}

  /** Whether a number has WhatsApp; what was found is remembered for ten minutes. @throws NumberInvalid, TooManyNumberChecks */
  async number(workspaceId: string, accountId: string, text: string): Promise<NumberResponse> {
    const phone = parsePhoneNumber(text);
    if (phone === null) {
      await this.accounts.get(workspaceId, accountId);
      throw new NumberInvalid();
    }
    return this.page.call(workspaceId, accountId, 'number', { phone });
  }

  /** The latest first. */
  chats(
    workspaceId: string,
    accountId: string,
    { limit, cursor }: PageListQuery,
  ): Promise<Page<ChatResponse>> {
    return pageAfter(cursor, (after) => this.page.call(workspaceId, accountId, 'chats', { limit, after }));
  }

  /** In the order of their ids. */
  contacts(
    workspaceId: string,
    accountId: string,
    { limit, cursor }: PageListQuery,
  ): Promise<Page<ContactResponse>> {
    return pageAfter(cursor, (after) => this.page.call(workspaceId, accountId, 'contacts', { limit, after }));
  }

  /** A chat's messages, the newest first, with the ids of those that are messages of ours. @throws ChatNotFound */
  async history(
    workspaceId: string,
    accountId: string,
    chatId: string,
    { limit, cursor }: PageListQuery,
  ): Promise<Page<HistoryMessage>> {
    const { items, nextCursor } = await pageAfter(cursor, (after) =>
      this.page.call(workspaceId, accountId, 'history', { chatId, limit, after }),
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
    const { base64 } = await this.page.call(workspaceId, accountId, 'picture', { id, isGroup });
    const bytes = Buffer.from(base64, 'base64');
    return { type: await imageTypeOf(bytes), bytes };
  }

  /** Marks a chat as read, which its writers see. @throws ChatNotFound */
  markRead(workspaceId: string, accountId: string, chatId: string): Promise<void> {
    return this.page.call(workspaceId, accountId, 'markRead', { chatId });
  }

  /** @throws ChatNotFound */
  showState(workspaceId: string, accountId: string, chatId: string, { state }: ShowStateDto): Promise<void> {
    return this.page.call(workspaceId, accountId, 'showState', { chatId, state });
  }

  /** @throws ChatNotFound, CannotPin */
  update(workspaceId: string, accountId: string, chatId: string, changes: UpdateChatDto): Promise<void> {
    return this.page.call(workspaceId, accountId, 'updateChat', { chatId, changes });
  }
}

/** What a stranger's picture is, its bytes say; what is no picture must not be shown as anything. */
async function imageTypeOf(bytes: Buffer): Promise<string> {
  const type = (await fileTypeFromBuffer(bytes))?.mime;
  return type !== undefined && pictureTypes.has(type) ? type : 'application/octet-stream';
}
