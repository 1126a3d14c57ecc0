import type { MessageMedia } from '../messages/content.dto.js';
import type { Message, MessageContent } from '../messages/message.entity.js';
import type { MessageType } from '../messages/message-types.js';
import { laneHead } from './lane-order.js';
import { claimMs } from './lane-run.js';
import type { PacedSendOptions } from './pacing-reservations.js';

/* A claim: what it holds, and the SQL that makes it. */

/** A message that this instance is sending. */
export interface Claim extends PacedSendOptions {
  id: string;
  accountId: string;
  chatId: string;
  type: MessageType;
  text: string | null;
  media: MessageMedia | null;
  content: MessageContent | null;
  /** The message that it answers. */
  quoted: QuotedMessage | null;
  whatsappId: string;
  priority: number;
  /** 1 for the first try whose outcome may be uncertain. */
  attempt: number;
  epoch: number;
  /** A try is uncertain, and it is too late for another: it is only looked for. */
  isExpired: boolean;
  /** Nothing ended its last try: its instance may have died of it. */
  isTakenOver?: boolean;
  /** It was tried as often as it may be, and its last try had no end: it is only looked for. */
  isLastLook?: boolean;
  /** Whether its account is paced: then the message is counted before it leaves. */
  isPaced: boolean;
}

/** A message of the ledger that another one answers. */
export interface QuotedMessage {
  chatId: string;
  whatsappId: string;
  direction: Message['direction'];
  sender: string | null;
  content: MessageContent | null;
}

/** The account $account, ready and ours: a claim under an epoch that has passed changes nothing. */
export function driven(account: string, epoch: string): string {
  return `a.id = ${account} and a.status = 'ready' and a.epoch = ${epoch}`;
}

function claiming(instance: string): string {
  return `status = 'sending', attempts = m.attempts + 1, claimed_by = ${instance},
    next_attempt_at = now() + ${claimMs} * interval '1 millisecond'`;
}

/**
 * Asked of the status, not of the stage, so that no index on what waits fits: where statistics say that nothing waits,
 * PostgreSQL would look for the one id among all that does.
 */
const isWaiting = `m.status = 'queued'`;

export const claimColumns = `m.id, coalesce(m.expires_at <= now(), false) as "isExpired", m.priority, m.account_id as "accountId", m.chat_id as "chatId", m.type, m.text,
  m.media, m.content, (select jsonb_build_object('chatId', q.chat_id, 'whatsappId', q.whatsapp_id, 'direction', q.direction,
    'sender', q.sender, 'content', q.content) from messages q where q.id = m.reply_to::uuid) as quoted, m.whatsapp_id as "whatsappId", m.attempts as attempt, a.epoch,
  exists (select from account_pacing p where p.account_id = m.account_id) as "isPaced"`;

/** $1 the account, $2 the epoch under which it is driven, $3 the priorities in their order, $4 the instance */
export const claimHead = `update messages m set ${claiming('$4')}
  from accounts a
  where m.id = (select head.id from ${laneHead('$1', '$3')} head) and ${isWaiting} and m.next_attempt_at <= now()
    and ${driven('$1', '$2')}
    and not exists (select from messages s where s.account_id = $1 and s.stage = 'sending')
  returning ${claimColumns}`;

/**
 * $1 the message, $2 its account, $3 the status, $4 and $5 the error's code and message, $6 the priorities of which the next
 * message is named, $7 those of which it is claimed, $8 the instance, $9 the epoch
 */
export const finishAndClaim = `with finished as (
    update messages set status = $3, error_code = $4, error_message = $5,
      sent_at = case when $3 = 'sent' then now() else sent_at end,
      failed_at = case when $3 in ('failed', 'expired') then now() else failed_at end
    where id = $1 and status = 'sending' returning id),
  head as (select * from ${laneHead('$2', '$6')} head),
  claimed as (
    update messages m set ${claiming('$8')}
    from head, accounts a
    where m.id = head.id and head.priority = any($7::smallint[]) and ${isWaiting} and ${driven('$2', '$9')}
      and not exists (select from messages s where s.account_id = $2 and s.stage = 'sending' and s.id <> $1)
      -- The finished one first: the index allows one message of an account that is being sent.
      and (select count(*) from finished) >= 0
    returning ${claimColumns})
  select claimed.*, head.id as "headId", head.priority as "headPriority" from head left join claimed on true`;
