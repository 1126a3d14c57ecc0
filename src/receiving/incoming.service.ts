import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import type { Account } from '../accounts/account.entity.js';
import { prepared } from '../platform/database/prepared.js';
import type { PageSource } from '../whatsapp/in-page/page-functions.js';
import { type Incoming, isToAccount, toRow } from './incoming-message.js';

/** Stores incoming messages and contacts. A message or a contact may come twice: the second time changes nothing. */
@Injectable()
export class IncomingService {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /**
   * Stores incoming messages and their authors as contacts. Each message is stored once, however often it comes. A message with
   * media is published when its download has ended. Stories and posts of channels are stored only if the account wants them.
   */
  async storeIncoming(account: Pick<Account, 'id'>, messages: Incoming[]): Promise<void> {
    // Contacts first: a reply may follow as soon as the message is published, and must not count as a cold message.
    await this.rememberContacts(account.id, messages);
    const rows = messages.map(toRow).filter((row) => row !== null);
    if (rows.length > 0)
      await this.database.query(
        `insert into messages (id, workspace_id, account_id, direction, type, chat_id, recipient, sender, text, status,
           whatsapp_id, media, content, media_due_at, reply_to)
         select received.id, a.workspace_id, a.id, 'incoming', received.type, received."chatId", coalesce(a.phone_number, ''),
           received.sender, received.text, 'received', received."whatsappId", received.media, received.content,
           case when received."hasFile" then now() end,
           (select q.id from messages q where q.account_id = a.id and q.whatsapp_id = received.content ->> 'quotedWhatsappId')
         from accounts a, jsonb_to_recordset($2::jsonb) as received
           (id uuid, type text, "chatId" text, sender text, text text, "whatsappId" text, media jsonb, content jsonb,
             "hasFile" boolean, source text)
         where a.id = $1 and (received.source is null or (a.receive ->> received.source)::boolean) order by received.id
         on conflict (account_id, whatsapp_id) do nothing`,
        [account.id, JSON.stringify(rows)],
      );
  }

  /** The messages outside of chats that an account wants. */
  async wantedSources(accountId: string): Promise<PageSource[]> {
    const [row] = await this.database.query<Pick<Account, 'receive'>[]>(
      'select receive from accounts where id = $1',
      [accountId],
    );
    return (['stories', 'channels'] as const).filter((source) => row?.receive[source]);
  }

  /** Records who has written to an account. Waiting messages to them are no longer cold. */
  async rememberContacts(
    accountId: string,
    messages: Pick<Incoming, 'chatId' | 'alias' | 'type' | 'source'>[],
  ): Promise<void> {
    const ids = new Set(
      messages.filter(isToAccount).flatMap(({ chatId, alias }) => (alias ? [chatId, alias] : [chatId])),
    );
    if (ids.size === 0) return;
    await prepared(
      this.database,
      `with heard as (
         insert into contacts (account_id, chat_id)
         select a.id, known.chat_id from accounts a, unnest($2::text[]) as known (chat_id) where a.id = $1
         on conflict do nothing returning account_id, chat_id)
       update messages m set is_cold = false from heard
       where m.account_id = heard.account_id and m.chat_id = heard.chat_id and m.is_cold and m.stage is not null`,
      [accountId, [...ids].sort()],
    );
  }
}
