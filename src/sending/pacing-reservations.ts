import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource, type EntityManager } from 'typeorm';
import { priorities } from '../queues/priorities.js';
import {
  afterSend,
  afterSendElsewhere,
  type PacingSettings,
  type PacingState,
  typingMsFor,
} from '../pacing/pacing.js';
import {
  columnsOf,
  isColdSql,
  pacingColumns,
  type PacingRow,
  settingsOf,
  stateColumns,
  stateOf,
} from '../pacing/pacing-rows.js';

/** A message that a paced account is about to send. */
export interface PacedMessage {
  id: string;
  accountId: string;
  /** The number of its priority. */
  priority: number;
  chatId: string;
  /** Null if the message has no text to type. */
  text: string | null;
}

/** How to send the message. */
export interface PacedSendOptions {
  /** First shows the recipient "typing…" for this time. Only on the first attempt. */
  typingMs?: number;
  /** First asks WhatsApp whether the number is registered. For recipients without an earlier message. */
  checkNumber?: boolean;
}

/** How many messages one statement marks, and how many statements one call runs. The next call continues. */
const markBatchSize = 5_000;
const maxMarkBatches = 20;

interface Reservable extends PacingRow {
  isCold: boolean;
  isFirst: boolean;
  countedMessageId: string | null;
}

/**
 * Counts each message of a paced account, and sets the times of the next messages, before the message is sent. If the process
 * dies in between, the account has sent too few messages and not too many.
 */
@Injectable()
export class PacingReservations {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /**
   * Counts a claimed message, and sets the earliest times of the next messages. A later attempt for the same message does not
   * count again.
   * @returns how to send it; without options if its account is no longer paced
   */
  async reserve({ id, accountId, priority, chatId, text }: PacedMessage): Promise<PacedSendOptions> {
    return this.database.transaction(async (manager) => {
      // The recipient may have written while the message waited. This locks the message before the account, in the same order
      // as a write of an ack does.
      await manager.query(
        `update messages m set is_cold = ${isColdSql('m.account_id', 'm.chat_id')}
         where m.id = $1 and m.is_cold is distinct from ${isColdSql('m.account_id', 'm.chat_id')}`,
        [id],
      );
      const [row]: Reservable[] = await manager.query(
        `select ${pacingColumns}, m.is_cold as "isCold", p.counted_message_id as "countedMessageId",
           not exists (select from messages o where o.workspace_id = m.workspace_id and o.recipient = m.recipient
             and o.direction = 'outgoing' and o.account_id = m.account_id and o.sent_at is not null) as "isFirst"
         from account_pacing p join accounts a on a.id = p.account_id join workspaces w on w.id = a.workspace_id
         join messages m on m.account_id = a.id and m.id = $2
         where p.account_id = $1 for update of p`,
        [accountId, id],
      );
      if (!row) return {};
      const settings = settingsOf(row);
      const typingMs = settings.typing ? typingMsFor(text ?? '', Math.random()) : 0;
      if (row.countedMessageId !== id) {
        const before = stateOf(row);
        const now = row.now.getTime();
        const after = afterSend(before, settings, {
          priority: priorities[priority]!,
          isCold: row.isCold,
          // The message leaves when the typing ends.
          now: now + typingMs,
          random: Math.random(),
        });
        await write(manager, accountId, after, settings, now, { messageId: id, before });
      }
      return {
        ...(typingMs > 0 ? { typingMs } : {}),
        ...(settings.checkNumbers && row.isCold && row.isFirst && chatId.endsWith('@c.us')
          ? { checkNumber: true }
          : {}),
      };
    });
  }

  /**
   * Returns the budget of a message that never left.
   * @param outcome `not_tried`: WhatsApp heard nothing of the message, so the next message need not wait either. `not_sent`:
   * WhatsApp was asked, so the gap stays, because pacing must prevent many number checks in a row
   */
  async release(
    { id, accountId }: Pick<PacedMessage, 'id' | 'accountId'>,
    outcome: 'not_tried' | 'not_sent',
  ): Promise<void> {
    await this.database.transaction(async (manager) => {
      const [row]: (PacingRow & { before: PacingState })[] = await manager.query(
        `select ${pacingColumns}, p.before_message as before
         from account_pacing p join accounts a on a.id = p.account_id join workspaces w on w.id = a.workspace_id
         where p.account_id = $1 and p.counted_message_id = $2 for update of p`,
        [accountId, id],
      );
      if (!row) return;
      const { before } = row;
      const { day, sent, warmUpFrom } = before;
      const state = outcome === 'not_tried' ? before : { ...stateOf(row), day, sent, warmUpFrom };
      await write(manager, accountId, state, settingsOf(row), row.now.getTime(), null);
    });
  }

  /**
   * Counts messages that the account's owner wrote on the phone: WhatsApp counts all messages of a number. They use up the budgets of the
   * day, and the next message of Flotilla keeps its distance from them. Messages of an earlier day change nothing.
   */
  async countElsewhere(manager: EntityManager, accountId: string, messageIds: string[]): Promise<void> {
    const [row]: (PacingRow & { countedMessageId: string | null; before: PacingState | null })[] =
      await manager.query(
        `select ${pacingColumns}, p.counted_message_id as "countedMessageId", p.before_message as before
         from account_pacing p join accounts a on a.id = p.account_id join workspaces w on w.id = a.workspace_id
         where p.account_id = $1 for update of p`,
        [accountId],
      );
    if (!row) return;
    const written: { isCold: boolean; sentAt: Date }[] = await manager.query(
      `select ${isColdSql('m.account_id', 'm.chat_id')} as "isCold", m.sent_at as "sentAt" from messages m
       where m.id = any($1) order by m.sent_at`,
      [messageIds],
    );
    const settings = settingsOf(row);
    const now = row.now.getTime();
    const count = (before: PacingState) =>
      written.reduce((state, { isCold, sentAt }) => {
        const sent = { isCold, at: Math.min(sentAt.getTime(), now), now, random: Math.random() };
        return afterSendElsewhere(state, settings, sent);
      }, before);
    // A message that is being sent may give its budget back: then these messages still count.
    const { countedMessageId, before } = row;
    const counted =
      countedMessageId && before ? { messageId: countedMessageId, before: count(before) } : null;
    await write(manager, accountId, count(stateOf(row)), settings, now, counted);
  }

  /**
   * Marks which of the messages that waited when pacing was turned on go to cold contacts. Until it is marked, a message is
   * sent only while both cold messages and replies are allowed, and it is counted as its real kind. A message whose row is
   * locked is left out.
   */
  async markWaiting(): Promise<void> {
    for (let round = 0; round < maxMarkBatches; round += 1) {
      const [, marked] = await this.database.query<[unknown[], number]>(
        `with lane as (select account_id, marking_after from account_pacing where marking_after is not null limit 1),
         batch as (select m.id, m.account_id, m.chat_id from messages m
           where m.account_id = (select account_id from lane) and m.id > (select marking_after from lane)
           order by m.id limit ${markBatchSize} for no key update of m skip locked),
         marked as (update messages m set is_cold = ${isColdSql('batch.account_id', 'batch.chat_id')}
           from batch where m.id = batch.id and m.stage is not null and m.is_cold is null)
         update account_pacing p set marking_after = (select id from batch order by id desc limit 1)
         from lane where p.account_id = lane.account_id`,
      );
      if (marked === 0) return;
    }
  }
}

async function write(
  manager: EntityManager,
  accountId: string,
  state: PacingState,
  settings: PacingSettings,
  now: number,
  counted: { messageId: string; before: PacingState } | null,
): Promise<void> {
  await manager.query(
    `update account_pacing p set ${stateColumns.from('given')}, counted_message_id = $3, before_message = $4,
       refusals = case when p.day = given.day then p.refusals else 0 end
     from jsonb_to_record($2::jsonb) as given (${stateColumns.types}) where p.account_id = $1`,
    [
      accountId,
      JSON.stringify(columnsOf(state, settings, now)),
      counted?.messageId ?? null,
      counted ? JSON.stringify(counted.before) : null,
    ],
  );
}
