import type { MessageMedia } from '../messages/content.dto.js';
import type { Message, MessageContent } from '../messages/message.entity.js';
import type { MessageType } from '../messages/message-types.js';
import { knownIdSql } from '../messages/recipient-ids.service.js';
import { laneHead } from './lane-order.js';
import { claimMs } from './lane-run.js';
import type { PacedSendOptions } from './pacing-reservations.js';

/* The fields of a claim, and the SQL that makes it. */

/** A message that this instance is sending. */
export interface Claim extends PacedSendOptions {
  id: string;
  accountId: string;
  chatId: string;
  type: MessageType;
  text: string | null;
  media: MessageMedia | null;
  content: MessageContent | null;
  /** The message that it replies to. */
  quoted: QuotedMessage | null;
  whatsappId: string;
  priority: number;
  /** From 1. Attempts that certainly sent nothing do not count. */
  attempt: number;
  epoch: number;
  /** Its deadline has passed, so it must not be sent any more. After an uncertain attempt the runner only looks for it. */
  isExpired: boolean;
  /** Its last attempt never ended: that attempt may have killed its instance. */
  isTakenOver?: boolean;
  /** It has no attempts left, and its last attempt never ended: the runner only looks for it. */
  isLastLook?: boolean;
  /** Whether its account is paced: then the message is counted before it is sent. */
  isPaced: boolean;
}

/** A message of the ledger that another message replies to. */
export interface QuotedMessage {
  chatId: string;
  whatsappId: string;
  direction: Message['direction'];
  sender: string | null;
  content: MessageContent | null;
}

/** SQL: the account is ready, and its page has what sending needs. */
export function maySend(account: string): string {
  return `${account}.status = 'ready' and ${account}.web_contract is distinct from 'broken'`;
}

/** SQL: the account may send, and is assigned under this epoch. A claim under an earlier epoch changes nothing. */
export function isDriven(account: string, epoch: string): string {
  return `a.id = ${account} and ${maySend('a')} and a.epoch = ${epoch}`;
}

function setClaimed(instance: string): string {
  return `status = 'sending', attempts = m.attempts + 1, claimed_by = ${instance}, sender = a.phone_number,
    next_attempt_at = now() + ${claimMs} * interval '1 millisecond', chat_id = ${knownIdSql('m.account_id', 'm.chat_id')}`;
}

/**
 * Compares `status` and not `stage`, so that no index on waiting messages fits. If the statistics say that no message waits,
 * PostgreSQL would use such an index, and would search all waiting messages for the one id.
 */
const isWaiting = `m.status = 'queued'`;

export const claimColumns = `m.id, coalesce(m.expires_at <= now(), false) as "isExpired", m.priority, m.account_id as "accountId", m.chat_id as "chatId", m.type, m.text,
  m.media, m.content, (select jsonb_build_object('chatId', q.chat_id, 'whatsappId', q.whatsapp_id, 'direction', q.direction,
    'sender', q.sender, 'content', q.content) from messages q where q.id = m.reply_to::uuid) as quoted, m.whatsapp_id as "whatsappId", m.attempts as attempt, a.epoch,
  exists (select from account_pacing p where p.account_id = m.account_id) as "isPaced"`;

/** $1 the account, $2 the epoch of its assignment, $3 the priorities in the order of sending, $4 the instance */
export const claimHead = `update messages m set ${setClaimed('$4')}
  from accounts a
  where m.id = (select head.id from ${laneHead('$1', '$3')} head) and ${isWaiting} and m.next_attempt_at <= now()
    -- A campaign may give it to another account at the same moment.
    and m.account_id = $1
    and ${isDriven('$1', '$2')}
    and not exists (select from messages s where s.account_id = $1 and s.stage = 'sending')
  returning ${claimColumns}`;

/**
 * $1 the message, $2 its account, $3 the status, $4 and $5 the error's code and message, $6 the priorities to take the lane's
 * next head from, in order, $7 the head is also claimed if it has one of these priorities, $8 the instance, $9 the epoch
 */
export const finishAndClaim = `with finished as (
    update messages set status = $3, error_code = $4, error_message = $5,
      sent_at = case when $3 = 'sent' then now() else sent_at end,
      failed_at = case when $3 in ('failed', 'expired') then now() else failed_at end
    where id = $1 and status = 'sending' returning id),
  head as (select * from ${laneHead('$2', '$6')} head),
  claimed as (
    update messages m set ${setClaimed('$8')}
    from head, accounts a
    where m.id = head.id and head.priority = any($7::smallint[]) and ${isWaiting} and ${isDriven('$2', '$9')}
      and m.account_id = $2
      and not exists (select from messages s where s.account_id = $2 and s.stage = 'sending' and s.id <> $1)
      -- Finish the old message first: the unique index allows an account only one message that is being sent.
      and (select count(*) from finished) >= 0
    returning ${claimColumns})
  select claimed.*, head.id as "headId", head.priority as "headPriority" from head left join claimed on true`;
