import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource, type EntityManager } from 'typeorm';
import type { Account } from '../accounts/account.entity.js';
import type { Message } from '../messages/message.entity.js';
import { prepared } from '../platform/database/prepared.js';
import { PacingReservations } from '../sending/pacing-reservations.js';
import type { PageSource } from '../whatsapp/in-page/page-functions.js';
import { type Incoming, type IncomingRow, isToAccount, toRow } from './incoming-message.js';

/**
 * $1 the account, $2 the rows. A message of ours has its row before it is sent, or its id is among the used ids: it is never taken for
 * a message from the phone. A message may answer another message of the same rows.
 */
const store = `with received as (
    select told.*, a.workspace_id, coalesce(a.phone_number, '') as own
    from accounts a, jsonb_to_recordset($2::jsonb) as told
      (id uuid, "fromMe" boolean, type text, "chatId" text, address text, text text, "whatsappId" text, media jsonb,
        content jsonb, "hasFile" boolean, source text, "sentAt" timestamptz)
    where a.id = $1 and (told.source is null or (a.receive ->> told.source)::boolean)
      and not exists (select from used_whatsapp_ids used
        where used.account_id = a.id and used.whatsapp_id = told."whatsappId"))
  insert into messages (id, workspace_id, account_id, direction, is_from_device, type, chat_id, recipient, sender, text,
    status, whatsapp_id, media, content, media_due_at, sent_at, reply_to)
  select id, workspace_id, $1, case when "fromMe" then 'outgoing' else 'incoming' end, "fromMe", type, "chatId",
    case when "fromMe" then address else own end, case when "fromMe" then own else address end, text,
    case when "fromMe" then 'sent' else 'received' end, "whatsappId", media, content, case when "hasFile" then now() end,
    "sentAt", coalesce(
      (select q.id from messages q where q.account_id = $1 and q.whatsapp_id = received.content ->> 'quotedWhatsappId'),
      (select q.id from received q where q."whatsappId" = received.content ->> 'quotedWhatsappId' limit 1))
  from received order by id
  on conflict (account_id, whatsapp_id) do nothing returning id, is_from_device as "isFromDevice", direction, chat_id as "chatId", whatsapp_id as "whatsappId", sender, content,
    (select auto_read from accounts where id = $1) as "isToRead"`;

/** A message that has just been stored. */
type Stored = MessageToRead & { id: string; isFromDevice: boolean; isToRead: boolean };

/** What is to be done in the transaction that stores messages. `ids` are those of the messages that are new. */
export type FollowUp = (manager: EntityManager, ids: ReadonlySet<string>) => Promise<void>;

/** A message to mark as read. */
export type MessageToRead = Pick<Message, 'chatId' | 'whatsappId' | 'direction' | 'sender' | 'content'>;

/**
 * Stores messages that came in or that the account's owner wrote elsewhere, and contacts. A message or a contact may come twice: the
 * second time changes nothing.
 */
@Injectable()
export class IncomingService {
  private readonly preparers: ((
    accountId: string,
    rows: readonly IncomingRow[],
  ) => Promise<FollowUp | null>)[] = [];

  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly pacing: PacingReservations,
  ) {}

  /**
   * Registers what looks at messages before they are stored, and may have more to do in the transaction that stores them. Nearly always
   * it must have nothing to do: then no transaction is needed.
   */
  onIncoming(prepare: (accountId: string, rows: readonly IncomingRow[]) => Promise<FollowUp | null>): void {
    this.preparers.push(prepare);
  }

  /**
   * Stores messages in the order of WhatsApp's own times, and their authors as contacts. Each message is stored once, however often it
   * comes. A message with media is published when its download has ended. Stories and posts of channels are stored only if the account
   * wants them.
   * @returns the new incoming messages to mark as read, as the account wants it
   */
  async storeIncoming(account: Pick<Account, 'id'>, messages: Incoming[]): Promise<MessageToRead[]> {
    // Contacts first: a reply may follow as soon as the message is published, and must not count as a cold message.
    await this.rememberContacts(account.id, messages);
    const ordered = [...messages].sort((a, b) => (a.timestamp ?? 0) - (b.timestamp ?? 0));
    // The ids grow in this order.
    const rows = ordered.map(toRow).filter((row) => row !== null);
    if (rows.length === 0) return [];
    const values = [account.id, JSON.stringify(rows)];
    const wanted = await Promise.all(this.preparers.map((prepare) => prepare(account.id, rows)));
    const followUps = wanted.filter((followUp) => followUp !== null);
    if (followUps.length === 0 && !rows.some(({ fromMe }) => fromMe))
      return toRead(await this.database.query<Stored[]>(store, values));
    return this.database.transaction(async (manager) => {
      const stored = await manager.query<Stored[]>(store, values);
      const fromDevice = stored.filter(({ isFromDevice }) => isFromDevice).map(({ id }) => id);
      if (fromDevice.length > 0) await this.pacing.countElsewhere(manager, account.id, fromDevice);
      const ids = new Set(stored.map(({ id }) => id));
      for (const followUp of followUps) await followUp(manager, ids);
      return toRead(stored);
    });
  }

  /** Those of the ids that neither a message of the account has, nor Flotilla has used for it. */
  async unknownIds(accountId: string, whatsappIds: string[]): Promise<string[]> {
    if (whatsappIds.length === 0) return [];
    const rows = await this.database.query<{ id: string }[]>(
      `select told.id from unnest($2::text[]) as told (id)
       where not exists (select from messages m where m.account_id = $1 and m.whatsapp_id = told.id)
         and not exists (select from used_whatsapp_ids used where used.account_id = $1 and used.whatsapp_id = told.id)`,
      [accountId, whatsappIds],
    );
    return rows.map(({ id }) => id);
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
    messages: Pick<Incoming, 'chatId' | 'alias' | 'type' | 'source' | 'fromMe'>[],
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

function toRead(stored: Stored[]): MessageToRead[] {
  return stored.filter(({ isToRead, direction }) => isToRead && direction === 'incoming');
}
