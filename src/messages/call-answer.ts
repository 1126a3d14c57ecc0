import { v7 as uuidv7 } from 'uuid';
import { isColdSql } from '../pacing/pacing-rows.js';
import type { RunSql } from '../platform/database/prepared.js';
import { priorities, whatsappIdOf } from './message.entity.js';
import { knownIdSql } from './recipient-ids.service.js';

/** The answer to a call that was rejected. */
export interface CallAnswer {
  accountId: string;
  callId: string;
  chatId: string;
  /** The caller's address in the API. */
  address: string;
  text: string;
  expiresAt: Date;
}

/** A person who calls again within this time gets no other answer. */
export const oneAnswerMs = 10 * 60_000;

/**
 * Accepts the answer to a call as a message, once for each call: its WhatsApp id is made from the id of the call. The sweep of the
 * lanes finds the message.
 * @param run runs SQL in a transaction
 * @returns the id of the message; null if the caller has got an answer a moment ago, or this call has its answer
 */
export async function acceptCallAnswer(run: RunSql, answer: CallAnswer): Promise<string | null> {
  const { accountId, callId, chatId, address, text, expiresAt } = answer;
  // Two calls of a person at the same moment wait for each other.
  await run('select pg_advisory_xact_lock(hashtextextended($1, 0))', [`call ${accountId} ${address}`]);
  const [row] = await run(
    `insert into messages (id, workspace_id, account_id, direction, priority, type, chat_id, recipient, sender, text, status,
       whatsapp_id, metadata, expires_at, is_cold)
     select $1, a.workspace_id, a.id, 'outgoing', $3, 'text', known.chat_id, $5, a.phone_number, $6, 'queued', $7,
       jsonb_build_object('callId', $8::text), $9, ${isColdSql('a.id', 'known.chat_id')}
     from accounts a cross join lateral (select ${knownIdSql('a.id', '$4::text')} as chat_id) known
     where a.id = $2 and not exists (select from messages earlier
       where earlier.workspace_id = a.workspace_id and earlier.recipient = $5 and earlier.direction = 'outgoing'
         and earlier.account_id = a.id and earlier.id > $10 and earlier.metadata ? 'callId')
     on conflict (account_id, whatsapp_id) do nothing returning id`,
    [
      uuidv7(),
      accountId,
      priorities.indexOf('normal'),
      chatId,
      address,
      text,
      whatsappIdOf(`call ${callId}`),
      callId,
      expiresAt,
      // The smallest id of that time.
      uuidv7({ msecs: Date.now() - oneAnswerMs, seq: 0, random: new Uint8Array(16) }),
    ],
  );
  return (row?.id as string | undefined) ?? null;
}
