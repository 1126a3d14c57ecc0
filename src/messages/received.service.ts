import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { prepared } from '../platform/database/prepared.js';
import type { PageChange } from '../whatsapp/page-functions.js';
import type { Account } from '../accounts/account.entity.js';

/** WhatsApp's ack of a message that an account sent: −1 error, 1 server, 2 device, 3 read, 4 played. */
export interface Ack {
  accountId: string;
  whatsappId: string;
  ack: number;
}

/** A message that an account received. */
export interface Incoming {
  whatsappId: string;
  chatId: string;
  /** The other chat id of the same person, who has a phone number and a hidden one, where the page knows it. */
  alias?: string | null;
  from: string;
  type: string;
  text: string;
}

/**
 * Moves messages forward by their acks; each takes the highest of its own, and the trigger tells the steps between. One that is
 * tried again because its outcome is unknown may be acknowledged at any moment, and one that has arrived has no error.
 */
const moveForward = `update messages m set
    status = (array['sent', 'delivered', 'read', 'played'])[acked.ack], error_code = null, error_message = null,
    sent_at = coalesce(m.sent_at, now()),
    delivered_at = case when acked.ack >= 2 then coalesce(m.delivered_at, now()) else m.delivered_at end,
    read_at = case when acked.ack >= 3 then coalesce(m.read_at, now()) else m.read_at end
  from (select account_id, whatsapp_id, max(ack) as ack from unnest($1::uuid[], $2::text[], $3::int[])
    as told (account_id, whatsapp_id, ack) group by 1, 2) acked
  where m.account_id = acked.account_id and m.whatsapp_id = acked.whatsapp_id and m.direction = 'outgoing'
    and (m.status = any((array['scheduled', 'queued', 'sending', 'unknown', 'sent', 'delivered', 'read'])[:acked.ack + 3])
      -- What was given up after an uncertain try did arrive.
      or m.status in ('failed', 'expired') and m.error_code <> 'whatsapp.refused' and m.attempts > 1)`;

const refuse = `update messages m set status = 'failed', failed_at = now(), error_code = 'whatsapp.refused',
    error_message = 'WhatsApp refused the message (ack -1).'
  from unnest($1::uuid[], $2::text[]) as refused (account_id, whatsapp_id)
  where m.account_id = refused.account_id and m.whatsapp_id = refused.whatsapp_id and m.direction = 'outgoing'
    and m.status in ('scheduled', 'queued', 'sending', 'unknown', 'sent')`;

/** An ack that has not come after two days is looked up no more. */
const awaitedForMs = 2 * 24 * 3_600_000;

/** The smallest version 7 UUID of a time: ids are ordered by it, so that an index on them is one on time. */
function firstIdOf(time: Date): string {
  const hex = time.getTime().toString(16).padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-000000000000`;
}

/** Longer than any emoji that WhatsApp's programs make. */
const emojiLength = 40;

/** $1 the account, $2 the WhatsApp id, $3 when, $4 the text. What is older than the last edit came late. */
const edited = `update messages set text = $4, edited_at = $3
  where account_id = $1 and whatsapp_id = $2 and revoked_at is null and text is distinct from $4
    and (edited_at is null or edited_at < $3)`;

/** $1 the account, $2 the WhatsApp id, $3 when */
const revoked = `update messages set revoked_at = $3
  where account_id = $1 and whatsapp_id = $2 and revoked_at is null`;

/** $1 the account, $2 the WhatsApp id, $3 when, $4 who (null: the account itself), $5 the emoji. The last one of each counts. */
const reacted = `update messages m
  set reactions = jsonb_path_query_array(m.reactions, '$[*] ? (@.from != $who)', jsonb_build_object('who', who.address))
    || jsonb_build_array(jsonb_build_object('from', who.address, 'emoji', $5::text, 'at', iso_time($3)))
  from accounts a cross join lateral (select coalesce($4, a.phone_number, a.lid, '') as address) who
  where a.id = $1 and m.account_id = a.id and m.whatsapp_id = $2
    and not exists (select from jsonb_array_elements(m.reactions) r where r ->> 'from' = who.address
      and (r ->> 'emoji' = $5 or (r ->> 'at')::timestamptz >= $3))
    -- Taking back what is not there changes nothing.
    and ($5 <> '' or exists (select from jsonb_array_elements(m.reactions) r where r ->> 'from' = who.address))`;

/** Writes what WhatsApp told an instance. Everything here may be written twice: the second time changes nothing. */
@Injectable()
export class ReceivedService {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /** Writes how far messages got, and which WhatsApp refused. */
  async writeAcks(acks: Ack[]): Promise<void> {
    const [refused, passed] = [
      acks.filter(({ ack }) => ack < 0),
      acks.filter(({ ack }) => ack >= 1 && ack <= 4),
    ];
    const ids = (some: Ack[]) => [
      some.map(({ accountId }) => accountId),
      some.map(({ whatsappId }) => whatsappId),
    ];
    if (passed.length > 0)
      await prepared(this.database, moveForward, [...ids(passed), passed.map(({ ack }) => ack)]);
    if (refused.length > 0) await this.database.query(refuse, ids(refused));
  }

  /** Stores incoming messages, each once however often it comes, and who wrote them. */
  async storeIncoming(account: Account, messages: Incoming[]): Promise<void> {
    if (messages.length === 0) return;
    await this.database.query(
      `insert into messages (id, workspace_id, account_id, direction, type, chat_id, recipient, sender, text, status, whatsapp_id)
       select received.id, a.workspace_id, a.id, 'incoming', received.type, received."chatId", coalesce(a.phone_number, ''),
         received.sender, received.text, 'received', received."whatsappId"
       from accounts a, jsonb_to_recordset($2::jsonb) as received
         (id uuid, type text, "chatId" text, sender text, text text, "whatsappId" text)
       where a.id = $1 order by received.id
       on conflict (account_id, whatsapp_id) do nothing`,
      [
        account.id,
        JSON.stringify(
          messages.map(({ whatsappId, chatId, from, type, text }) => ({
            id: uuidv7(),
            type: type === 'chat' ? 'text' : type,
            chatId,
            sender: addressOf(from),
            text: storable(text),
            whatsappId,
          })),
        ),
      ],
    );
    await this.rememberContacts(account.id, messages);
  }

  /** Remembers who has written to an account: what waits for them is cold no more. */
  async rememberContacts(accountId: string, chats: Pick<Incoming, 'chatId' | 'alias'>[]): Promise<void> {
    const ids = new Set(chats.flatMap(({ chatId, alias }) => (alias ? [chatId, alias] : [chatId])));
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

  /** Writes what became of messages after they were sent: each change is told once, however often it comes. */
  async writeChanges(accountId: string, changes: PageChange[]): Promise<void> {
    for (const change of changes) {
      const message = [accountId, change.whatsappId, timeOf(change.at)];
      if (change.kind === 'edited') await this.database.query(edited, [...message, storable(change.text)]);
      else if (change.kind === 'revoked') await this.database.query(revoked, message);
      else {
        const from = change.from === null ? null : addressOf(change.from);
        await this.database.query(reacted, [...message, from, storable(change.emoji.slice(0, emojiLength))]);
      }
    }
  }

  /**
   * The messages of an account of which a further ack may have come while nobody listened: those of unknown outcome first,
   * then the latest.
   */
  async awaitingAcks(accountId: string, limit: number): Promise<{ chatId: string; whatsappId: string }[]> {
    return this.database.query(
      `(select m.chat_id as "chatId", m.whatsapp_id as "whatsappId" from failed_jobs f join messages m on m.id = f.message_id
        where m.account_id = $1 and m.status = 'unknown' and m.id > $3 order by m.id desc limit $2)
       union all
       (select chat_id, whatsapp_id from messages
        where account_id = $1 and direction = 'outgoing' and id > $3
          and (status in ('sending', 'sent', 'delivered') or (stage in ('queued', 'scheduled') and attempts > 0))
        order by id desc limit $2)
       limit $2`,
      [accountId, limit, firstIdOf(new Date(Date.now() - awaitedForMs))],
    );
  }
}

/** A time that a stranger's device gave: it may be nonsense, but is never later than now. */
function timeOf(ms: number): Date {
  return new Date(ms > 0 ? Math.min(ms, Date.now()) : Date.now());
}

/** A text as PostgreSQL can store it; what a stranger sends must not keep the others out. */
function storable(text: string): string {
  return text.replaceAll('\u0000', '').toWellFormed();
}

/** A phone number's digits, or the chat id of what is none. */
export function addressOf(chatId: string): string {
  return chatId.endsWith('@c.us') ? chatId.slice(0, -'@c.us'.length) : chatId;
}
