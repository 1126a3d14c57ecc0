import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { prepared } from '../platform/database/prepared.js';
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
  from: string;
  type: string;
  text: string;
}

/** An `unknown` message that turns out to have arrived has no error any more. */
const cleared = 'error_code = null, error_message = null';

/** What each ack makes of a message, and from which states: a status only moves forward. */
const transitions: { ack: number; set: string; from: string[] }[] = [
  {
    ack: -1,
    set: `status = 'failed', failed_at = now(), error_code = 'whatsapp.refused', error_message = 'WhatsApp refused the message (ack -1).'`,
    from: ['sending', 'sent', 'unknown'],
  },
  {
    ack: 1,
    set: `${cleared}, status = 'sent', sent_at = coalesce(m.sent_at, now())`,
    from: ['sending', 'unknown'],
  },
  {
    ack: 2,
    set: `${cleared}, status = 'delivered', sent_at = coalesce(m.sent_at, now()), delivered_at = coalesce(m.delivered_at, now())`,
    from: ['sending', 'sent', 'unknown'],
  },
  {
    ack: 3,
    set: `${cleared}, status = 'read', sent_at = coalesce(m.sent_at, now()), delivered_at = coalesce(m.delivered_at, now()), read_at = coalesce(m.read_at, now())`,
    from: ['sending', 'sent', 'delivered', 'unknown'],
  },
  {
    ack: 4,
    set: `${cleared}, status = 'played', sent_at = coalesce(m.sent_at, now()), delivered_at = coalesce(m.delivered_at, now()), read_at = coalesce(m.read_at, now())`,
    from: ['sending', 'sent', 'delivered', 'read', 'unknown'],
  },
];

/** An ack that has not come after two days is looked up no more. */
const awaitedForMs = 2 * 24 * 3_600_000;

/** The smallest version 7 UUID of a time: ids are ordered by it, so that an index on them is one on time. */
function firstIdOf(time: Date): string {
  const hex = time.getTime().toString(16).padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-000000000000`;
}

/** Writes what WhatsApp told an instance. Everything here may be written twice: the second time changes nothing. */
@Injectable()
export class ReceivedService {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /** Moves messages forward by their acks, step by step, so that no event is skipped. */
  async writeAcks(acks: Ack[]): Promise<void> {
    for (const { ack, set, from } of transitions) {
      const ofStep = acks.filter((candidate) => candidate.ack === ack);
      if (ofStep.length === 0) continue;
      await prepared(
        this.database,
        `update messages m set ${set}
         from unnest($1::uuid[], $2::text[]) as acked (account_id, whatsapp_id)
         where m.account_id = acked.account_id and m.whatsapp_id = acked.whatsapp_id and m.direction = 'outgoing'
           and m.status = any($3)`,
        [ofStep.map(({ accountId }) => accountId), ofStep.map(({ whatsappId }) => whatsappId), from],
      );
    }
  }

  /** Stores incoming messages, each once however often it comes. What waits for who has written is cold no more. */
  async storeIncoming(account: Account, messages: Incoming[]): Promise<void> {
    if (messages.length === 0) return;
    await this.database.query(
      `with stored as (
       insert into messages (id, workspace_id, account_id, direction, type, chat_id, recipient, sender, text, status, whatsapp_id)
       select received.id, a.workspace_id, a.id, 'incoming', received.type, received."chatId", coalesce(a.phone_number, ''),
         received.sender, received.text, 'received', received."whatsappId"
       from accounts a, jsonb_to_recordset($2::jsonb) as received
         (id uuid, type text, "chatId" text, sender text, text text, "whatsappId" text)
       where a.id = $1 order by received.id
       on conflict (account_id, whatsapp_id) do nothing returning account_id, chat_id)
       update messages m set is_cold = false from stored
       where m.account_id = stored.account_id and m.chat_id = stored.chat_id and m.is_cold and m.stage in ('scheduled', 'queued')`,
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
  }

  /** The latest messages of an account of which a further ack may have come while nobody listened, newest first. */
  async awaitingAcks(accountId: string, limit: number): Promise<{ chatId: string; whatsappId: string }[]> {
    return this.database.query(
      `select chat_id as "chatId", whatsapp_id as "whatsappId" from messages
       where account_id = $1 and direction = 'outgoing' and status in ('sending', 'sent', 'delivered', 'unknown')
         and id > $3
       order by id desc limit $2`,
      [accountId, limit, firstIdOf(new Date(Date.now() - awaitedForMs))],
    );
  }
}

/** A text as PostgreSQL can store it; what a stranger sends must not keep the others out. */
function storable(text: string): string {
  return text.replaceAll('\u0000', '').toWellFormed();
}

/** A phone number's digits, or the chat id of what is none. */
export function addressOf(chatId: string): string {
  return chatId.endsWith('@c.us') ? chatId.slice(0, -'@c.us'.length) : chatId;
}
