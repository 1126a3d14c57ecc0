import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { firstIdAt } from '../platform/database/ids.js';
import { prepared } from '../platform/database/prepared.js';
import type { PageChange } from '../whatsapp/in-page/page-functions.js';
import { personOf } from '../messages/persons.js';
import { storable } from '../messages/storable-text.js';
import type { Message } from '../messages/message.entity.js';
import { timeOf } from './foreign-time.js';

/** WhatsApp's ack of a message that an account sent: −1 error, 1 server, 2 device, 3 read, 4 played. */
export interface Ack {
  accountId: string;
  whatsappId: string;
  ack: number;
}

/**
 * Moves messages forward by their acks. Each message takes its highest ack, and the database trigger writes the events of the
 * steps between. A message that waits for another attempt after an unknown outcome may get an ack at any time. An ack removes
 * the error of the message.
 */
const moveForward = `update messages m set
    status = (array['sent', 'delivered', 'read', 'played'])[acked.ack], error_code = null, error_message = null,
    failed_at = null, sent_at = coalesce(m.sent_at, now()),
    delivered_at = case when acked.ack >= 2 then coalesce(m.delivered_at, now()) else m.delivered_at end,
    in_question_since = case when acked.ack >= 2 then null else m.in_question_since end,
    read_at = case when acked.ack >= 3 then coalesce(m.read_at, now()) else m.read_at end
  from (select account_id, whatsapp_id, max(ack) as ack from unnest($1::uuid[], $2::text[], $3::int[])
    as told (account_id, whatsapp_id, ack) group by 1, 2) acked
  where m.account_id = acked.account_id and m.whatsapp_id = acked.whatsapp_id and m.direction = 'outgoing'
    and (m.status = any((array['scheduled', 'queued', 'sending', 'unknown', 'sent', 'delivered', 'read'])[:acked.ack + 3])
      -- A message that failed after an uncertain attempt may arrive. So may a refused message: if the browser dies before it
      -- has stored the refusal, the page keeps the message as pending and sends it.
      or m.status in ('failed', 'expired') and (m.attempts > 1 or m.error_code = 'whatsapp.refused'))`;

/**
 * $1 the account. A session that was restored from a snapshot does not know the messages that were sent after the snapshot was
 * taken: if a recipient cannot decrypt such a message, nobody answers the request to send it again.
 */
const question = `update messages m set in_question_since = s.restored_at
  from session_snapshots s
  where s.account_id = $1 and m.account_id = $1 and m.stage is null and m.status = 'sent' and m.direction = 'outgoing'
    and not m.is_from_device
    and m.sent_at > s.taken_at and m.sent_at <= s.restored_at and m.in_question_since is null`;

const refuse = `update messages m set status = 'failed', failed_at = now(), sent_at = null, error_code = 'whatsapp.refused',
    error_message = 'WhatsApp refused the message (ack -1).'
  from unnest($1::uuid[], $2::text[]) as refused (account_id, whatsapp_id)
  where m.account_id = refused.account_id and m.whatsapp_id = refused.whatsapp_id and m.direction = 'outgoing'
    and not m.is_from_device and m.status in ('scheduled', 'queued', 'sending', 'unknown', 'sent')`;

/** A missing ack is looked up for this time after the message was sent, or its outcome became unknown. */
const ackLookupMs = 2 * 24 * 3_600_000;
/** For older messages, Flotilla does not check whether a reaction still stands. */
const reactionLookupMs = 7 * 24 * 3_600_000;

/** Longer than any emoji of WhatsApp's programs. */
const maxEmojiLength = 40;
/** More than any poll of WhatsApp has. */
const maxOptions = 100;

/** $1 the account, $2 the WhatsApp id, $3 when, $4 the text. An edit that is older than the last one came late: it is ignored. */
const edited = `update messages set text = $4, edited_at = $3
  where account_id = $1 and whatsapp_id = $2 and revoked_at is null and text is distinct from $4
    and (edited_at is null or edited_at < $3)`;

/** $1 the account, $2 the WhatsApp id, $3 when */
const revoked = `update messages set revoked_at = $3
  where account_id = $1 and whatsapp_id = $2 and revoked_at is null`;

/** SQL: the item `r` is of the same person `who`. Any common address is enough, because more addresses may be known now. */
const isSamePerson = `(r ->> 'from' in (who.address, who.phone, who.lid) or r ->> 'phone' = who.phone or r ->> 'lid' = who.lid)`;

/**
 * $1 the account, $2 the WhatsApp id, $3 when, $4 the person (null: the account itself) with $5 the phone number and $6 the
 * LID, $7 the emoji. The last reaction of each person counts.
 */
const reacted = setForPerson('reactions', `'emoji', $7::text`, `r ->> 'emoji' = $7`, `$7 <> ''`);

/** The same for a vote: $7 the options. */
const voted = setForPerson(
  'votes',
  `'options', $7::jsonb`,
  `r -> 'options' = $7::jsonb`,
  `$7::jsonb <> '[]'`,
);

/**
 * SQL that replaces a person's item in a column.
 * @param value the key and the value of the new item
 * @param isSame SQL: the new item equals the item `r`
 * @param isSet SQL: the new item sets a value; otherwise it removes the old item
 */
function setForPerson(column: 'reactions' | 'votes', value: string, isSame: string, isSet: string): string {
  return `update messages m
    set ${column} = (select coalesce(jsonb_agg(r order by place), '[]') from jsonb_array_elements(m.${column})
        with ordinality as others (r, place) where ${isSamePerson} is not true)
      || jsonb_build_array(jsonb_build_object('from', who.address, 'phone', who.phone, 'lid', who.lid, ${value},
        'at', iso_time($3)))
    from accounts a cross join lateral (select coalesce($4, a.phone_number, a.lid, '') as address,
      case when $4::text is null then a.phone_number else $5 end as phone,
      case when $4::text is null then a.lid else $6 end as lid) who
    where a.id = $1 and m.account_id = a.id and m.whatsapp_id = $2
      and not exists (select from jsonb_array_elements(m.${column}) r where ${isSamePerson}
        and (${isSame} or (r ->> 'at')::timestamptz >= $3))
      -- To remove a missing item changes nothing.
      and (${isSet} or exists (select from jsonb_array_elements(m.${column}) r where ${isSamePerson}))`;
}

/** Writes what WhatsApp reported to an instance. Every write may be repeated: the second time changes nothing. */
@Injectable()
export class UpdatesService {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /**
   * Writes the acks and the refusals of messages. If a message has both, the last counts: a page may send a message later that
   * was refused before.
   * @param acks in the order of arrival
   */
  async writeAcks(acks: Ack[]): Promise<void> {
    const known = acks.filter(({ ack }) => ack !== 0 && ack <= 4);
    const passed = known.filter(({ ack }) => ack > 0);
    const lasts = new Map(known.map((ack) => [`${ack.accountId}/${ack.whatsappId}`, ack]));
    const refused = [...lasts.values()].filter(({ ack }) => ack < 0);
    const ids = (some: Ack[]) => [
      some.map(({ accountId }) => accountId),
      some.map(({ whatsappId }) => whatsappId),
    ];
    if (passed.length > 0)
      await prepared(this.database, moveForward, [...ids(passed), passed.map(({ ack }) => ack)]);
    if (refused.length > 0) await this.database.query(refuse, ids(refused));
  }

  /** Marks the messages that a restored session does not know, and that are not delivered. */
  async questionSent(accountId: string): Promise<void> {
    await this.database.query(question, [accountId]);
  }

  /** Writes changes of messages. Each change makes one event, however often it comes. */
  async writeChanges(accountId: string, changes: PageChange[]): Promise<void> {
    for (const change of changes) {
      const message = [accountId, change.whatsappId, timeOf(change.at)];
      if (change.kind === 'edited') await this.database.query(edited, [...message, storable(change.text)]);
      else if (change.kind === 'revoked') await this.database.query(revoked, message);
      else {
        const { phone = null, lid = null } = change.from === null ? {} : personOf(change.from);
        const who = [phone ?? lid ?? change.from?.chatId ?? null, phone, lid];
        if (change.kind === 'vote') {
          const options = change.options.slice(0, maxOptions).map(storable);
          await this.database.query(voted, [...message, ...who, JSON.stringify(options)]);
        } else {
          await this.database.query(reacted, [
            ...message,
            ...who,
            storable(change.emoji.slice(0, maxEmojiLength)),
          ]);
        }
      }
    }
  }

  /** Writes that incoming messages were marked as read. */
  async markRead(accountId: string, whatsappIds: string[]): Promise<void> {
    await this.database.query(
      `update messages set read_at = now()
       where account_id = $1 and whatsapp_id = any($2) and direction = 'incoming' and read_at is null`,
      [accountId, whatsappIds],
    );
  }

  /** The latest messages of an account with known reactions. */
  async reactedTo(
    accountId: string,
    limit: number,
  ): Promise<Pick<Message, 'chatId' | 'whatsappId' | 'direction' | 'sender' | 'content' | 'reactions'>[]> {
    return this.database.query(
      `select chat_id as "chatId", whatsapp_id as "whatsappId", direction, sender, content, reactions from messages
       where account_id = $1 and reactions <> '[]' and revoked_at is null and id > $3 order by id desc limit $2`,
      [accountId, limit, firstIdAt(Date.now() - reactionLookupMs)],
    );
  }

  /**
   * The messages of an account that may have got another ack while no session listened: first messages with an unknown outcome,
   * also if they wait for another attempt, then at most a fifth of `limit` refused messages, then the latest sent messages. The
   * cost does not depend on how many messages wait.
   */
  async awaitingAcks(accountId: string, limit: number): Promise<{ chatId: string; whatsappId: string }[]> {
    return this.database.query(
      `(select m.chat_id as "chatId", m.whatsapp_id as "whatsappId"
        from uncertain_messages u join messages m on m.id = u.message_id
        where u.account_id = $1 and u.since > $3 and m.status <> 'failed' order by u.since desc limit $2)
       union all
       (select chat_id, whatsapp_id from messages where account_id = $1 and stage = 'sending')
       union all
       (select m.chat_id, m.whatsapp_id from uncertain_messages u join messages m on m.id = u.message_id
        where u.account_id = $1 and u.since > $3 and m.status = 'failed' order by u.since desc limit ceil($2::int / 5.0))
       union all
       (select chat_id, whatsapp_id from messages
        where account_id = $1 and direction = 'outgoing' and stage is null and sent_at > $3 and status in ('sent', 'delivered')
        order by sent_at desc limit $2)
       limit $2`,
      [accountId, limit, new Date(Date.now() - ackLookupMs)],
    );
  }
}
