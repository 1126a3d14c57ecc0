import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { firstIdAt } from '../platform/database/ids.js';
import { prepared } from '../platform/database/prepared.js';
import type { PageChange } from '../whatsapp/in-page/page-functions.js';
import { personOf } from '../messages/persons.js';
import { storable } from '../messages/storable-text.js';
import type { Message } from '../messages/message.entity.js';

/** WhatsApp's ack of a message that an account sent: −1 error, 1 server, 2 device, 3 read, 4 played. */
export interface Ack {
  accountId: string;
  whatsappId: string;
  ack: number;
}

/**
 * Moves messages forward by their acks; each takes the highest of its own, and the trigger tells the steps between. One that is
 * tried again because its outcome is unknown may be acknowledged at any moment, and one that has arrived has no error.
 */
const moveForward = `update messages m set
    status = (array['sent', 'delivered', 'read', 'played'])[acked.ack], error_code = null, error_message = null,
    failed_at = null, sent_at = coalesce(m.sent_at, now()),
    delivered_at = case when acked.ack >= 2 then coalesce(m.delivered_at, now()) else m.delivered_at end,
    read_at = case when acked.ack >= 3 then coalesce(m.read_at, now()) else m.read_at end
  from (select account_id, whatsapp_id, max(ack) as ack from unnest($1::uuid[], $2::text[], $3::int[])
    as told (account_id, whatsapp_id, ack) group by 1, 2) acked
  where m.account_id = acked.account_id and m.whatsapp_id = acked.whatsapp_id and m.direction = 'outgoing'
    and (m.status = any((array['scheduled', 'queued', 'sending', 'unknown', 'sent', 'delivered', 'read'])[:acked.ack + 3])
      -- What was given up after an uncertain try did arrive. A page whose browser died before it had stored a refusal keeps
      -- the message as pending, and sends it.
      or m.status in ('failed', 'expired') and (m.attempts > 1 or m.error_code = 'whatsapp.refused'))`;

const refuse = `update messages m set status = 'failed', failed_at = now(), sent_at = null, error_code = 'whatsapp.refused',
    error_message = 'WhatsApp refused the message (ack -1).'
  from unnest($1::uuid[], $2::text[]) as refused (account_id, whatsapp_id)
  where m.account_id = refused.account_id and m.whatsapp_id = refused.whatsapp_id and m.direction = 'outgoing'
    and m.status in ('scheduled', 'queued', 'sending', 'unknown', 'sent')`;

/** An ack that has not come two days after the message was sent, or given up, is looked up no more. */
const awaitedForMs = 2 * 24 * 3_600_000;
/** Of messages that are older nobody asks whether a reaction still stands. */
const reactedForMs = 7 * 24 * 3_600_000;

/** Longer than any emoji that WhatsApp's programs make. */
const emojiLength = 40;
/** More than any poll of WhatsApp's has. */
const mostOptions = 100;

/** $1 the account, $2 the WhatsApp id, $3 when, $4 the text. What is older than the last edit came late. */
const edited = `update messages set text = $4, edited_at = $3
  where account_id = $1 and whatsapp_id = $2 and revoked_at is null and text is distinct from $4
    and (edited_at is null or edited_at < $3)`;

/** $1 the account, $2 the WhatsApp id, $3 when */
const revoked = `update messages set revoked_at = $3
  where account_id = $1 and whatsapp_id = $2 and revoked_at is null`;

/** Of `r`, what somebody did before, whether it was the same person: what is known of them may have become more since. */
const isTheirs = `(r ->> 'from' in (who.address, who.phone, who.lid) or r ->> 'phone' = who.phone or r ->> 'lid' = who.lid)`;

/**
 * $1 the account, $2 the WhatsApp id, $3 when, $4 who (null: the account itself) with $5 the phone number and $6 the hidden
 * one, $7 the emoji. The last one of each counts.
 */
const reacted = ofPerson('reactions', `'emoji', $7::text`, `r ->> 'emoji' = $7`, `$7 <> ''`);

/** The same of a vote: $7 the options. */
const voted = ofPerson('votes', `'options', $7::jsonb`, `r -> 'options' = $7::jsonb`, `$7::jsonb <> '[]'`);

/** @param same whether it says again what stands; @param isMore whether it is more than taking back what was there */
function ofPerson(column: 'reactions' | 'votes', value: string, same: string, isMore: string): string {
  return `update messages m
    set ${column} = (select coalesce(jsonb_agg(r order by place), '[]') from jsonb_array_elements(m.${column})
        with ordinality as others (r, place) where ${isTheirs} is not true)
      || jsonb_build_array(jsonb_build_object('from', who.address, 'phone', who.phone, 'lid', who.lid, ${value},
        'at', iso_time($3)))
    from accounts a cross join lateral (select coalesce($4, a.phone_number, a.lid, '') as address,
      case when $4::text is null then a.phone_number else $5 end as phone,
      case when $4::text is null then a.lid else $6 end as lid) who
    where a.id = $1 and m.account_id = a.id and m.whatsapp_id = $2
      and not exists (select from jsonb_array_elements(m.${column}) r where ${isTheirs}
        and (${same} or (r ->> 'at')::timestamptz >= $3))
      -- Taking back what is not there changes nothing.
      and (${isMore} or exists (select from jsonb_array_elements(m.${column}) r where ${isTheirs}))`;
}

/** Writes what WhatsApp told an instance. Everything here may be written twice: the second time changes nothing. */
@Injectable()
export class UpdatesService {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /**
   * Writes how far messages got, and which WhatsApp refused. Where both were told of one message the last counts: a page may
   * send after all what was refused.
   * @param acks in the order in which they were told
   */
  async writeAcks(acks: Ack[]): Promise<void> {
    const telling = acks.filter(({ ack }) => ack !== 0 && ack <= 4);
    const passed = telling.filter(({ ack }) => ack > 0);
    const lasts = new Map(telling.map((ack) => [`${ack.accountId}/${ack.whatsappId}`, ack]));
    const refused = [...lasts.values()].filter(({ ack }) => ack < 0);
    const ids = (some: Ack[]) => [
      some.map(({ accountId }) => accountId),
      some.map(({ whatsappId }) => whatsappId),
    ];
    if (passed.length > 0)
      await prepared(this.database, moveForward, [...ids(passed), passed.map(({ ack }) => ack)]);
    if (refused.length > 0) await this.database.query(refuse, ids(refused));
  }

  /** Writes what became of messages after they were sent: each change is told once, however often it comes. */
  async writeChanges(accountId: string, changes: PageChange[]): Promise<void> {
    for (const change of changes) {
      const message = [accountId, change.whatsappId, timeOf(change.at)];
      if (change.kind === 'edited') await this.database.query(edited, [...message, storable(change.text)]);
      else if (change.kind === 'revoked') await this.database.query(revoked, message);
      else {
        const { phone = null, lid = null } = change.from === null ? {} : personOf(change.from);
        const who = [phone ?? lid ?? change.from?.chatId ?? null, phone, lid];
        if (change.kind === 'vote') {
          const options = change.options.slice(0, mostOptions).map(storable);
          await this.database.query(voted, [...message, ...who, JSON.stringify(options)]);
        } else {
          await this.database.query(reacted, [
            ...message,
            ...who,
            storable(change.emoji.slice(0, emojiLength)),
          ]);
        }
      }
    }
  }

  /** The latest messages of an account to which somebody reacts, as far as that is known. */
  async reactedTo(
    accountId: string,
    limit: number,
  ): Promise<Pick<Message, 'chatId' | 'whatsappId' | 'direction' | 'sender' | 'content' | 'reactions'>[]> {
    return this.database.query(
      `select chat_id as "chatId", whatsapp_id as "whatsappId", direction, sender, content, reactions from messages
       where account_id = $1 and reactions <> '[]' and revoked_at is null and id > $3 order by id desc limit $2`,
      [accountId, limit, firstIdAt(Date.now() - reactedForMs)],
    );
  }

  /**
   * The messages of an account of which a further ack may have come while nobody listened: first those of unknown outcome,
   * also those that wait to be sent again, and a fifth at the most of those that were refused, then the latest. What it costs
   * does not depend on how many wait.
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
        where account_id = $1 and stage is null and sent_at > $3 and status in ('sent', 'delivered')
        order by sent_at desc limit $2)
       limit $2`,
      [accountId, limit, new Date(Date.now() - awaitedForMs)],
    );
  }
}

/** A time that a stranger's device gave: it may be nonsense, but is never later than now. */
function timeOf(ms: number): Date {
  return new Date(ms > 0 ? Math.min(ms, Date.now()) : Date.now());
}
