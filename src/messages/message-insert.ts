import type { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { AccountNotFound } from '../accounts/account-errors.js';
import { isColdSql } from '../pacing/pacing-rows.js';
import type { RunSql } from '../platform/database/prepared.js';
import { toEntity } from '../platform/database/typeorm-internals.js';
import { ValidationFailed } from '../platform/errors/problem.js';
import type { PreparedContent } from './content-preparation.js';
import { Message, priorities, whatsappIdOf } from './message.entity.js';
import type { SendMessageDto } from './messages.dto.js';
import { parseRecipient } from './recipient.js';
import { chooseAccountFor } from './account-choice.js';

/** A message that has been accepted. */
export interface Accepted {
  message: Message;
  /** Nothing as urgent was waiting: its queue has to be told. */
  isHead: boolean;
}

/** @returns when it is to be sent; null is now. @throws ValidationFailed when it would be too late by then */
export function sendTimeOf({ sendAt, expiresAt }: SendMessageDto): Date | null {
  const at = !sendAt || Date.parse(sendAt) <= Date.now() ? null : new Date(sendAt);
  if (expiresAt && Date.parse(expiresAt) <= (at?.getTime() ?? Date.now()))
    throw new ValidationFailed([{ path: 'expiresAt', message: 'must be later than now and than sendAt' }]);
  return at;
}

/**
 * Writes a message into the ledger.
 * @param run on the pool, or in a transaction
 * @throws ValidationFailed, AccountNotFound, NoAccountReady
 */
export async function insertMessage(
  database: DataSource,
  run: RunSql,
  workspaceId: string,
  wanted: SendMessageDto,
  { text, media, content }: PreparedContent,
  id = uuidv7(),
): Promise<Accepted> {
  const recipient = parseRecipient(wanted.to)!;
  const sendAt = sendTimeOf(wanted);
  const accountId = await chooseAccountFor(run, workspaceId, wanted);
  // The most urgent one that waits, as the first entry of its index: asked whether there is one, PostgreSQL expects to
  // find it soon among many and reads the whole table.
  const [row] = await run(
    `insert into messages (id, workspace_id, account_id, direction, priority, type, chat_id, recipient, sender, text,
       status, whatsapp_id, metadata, scheduled_for, expires_at, is_cold, media, content, reply_to)
     select $1, a.workspace_id, a.id, 'outgoing', $4, $5, $6, $7, a.phone_number, $8,
       case when $11::timestamptz is null then 'queued' else 'scheduled' end, $9, $10, $11, $12, ${isColdSql('a.id', '$6')},
       $13, $14, $15
     from accounts a where a.id = $2 and a.workspace_id = $3
     returning *, status = 'queued' and coalesce((select waiting.priority from messages waiting
       where waiting.account_id = $2 and waiting.stage = 'queued' order by waiting.priority desc limit 1) < $4, true) as is_head`,
    [
      id,
      accountId,
      workspaceId,
      priorities.indexOf(wanted.priority),
      wanted.type,
      recipient.chatId,
      recipient.address,
      text,
      whatsappIdOf(id),
      wanted.metadata ?? {},
      sendAt,
      wanted.expiresAt ? new Date(wanted.expiresAt) : null,
      media,
      content,
      wanted.replyTo ?? null,
    ],
  );
  if (!row) throw new AccountNotFound(accountId);
  return { message: toEntity(database, Message, row), isHead: row.is_head === true };
}
