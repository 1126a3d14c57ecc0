import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource, type EntityManager } from 'typeorm';
import { priorities } from '../queues/priorities.js';
import { afterSend, type PacingSettings, type PacingState, typingMsFor } from '../pacing/pacing.js';
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
  /** Null: nobody types it. */
  text: string | null;
}

/** How the message is to be sent. */
export interface PacedSendOptions {
  /** Shows the recipient "typing…" for that long first; on the first attempt only. */
  typingMs?: number;
  /** Asks WhatsApp first whether the number is registered: for somebody who was never written to. */
  checkNumber?: boolean;
}

/** How many messages are marked at once, and how often in one call at the most; the next call goes on. */
const markLimit = 5_000;
const marksAtOnce = 20;

interface Reservable extends PacingRow {
  isCold: boolean;
  isFirst: boolean;
  countedMessageId: string | null;
}

/**
 * What each message of a paced account changes: it is counted, and the times of the next ones are set, before it leaves. A
 * process that dies in between has then sent too little rather than too much.
 */
@Injectable()
export class PacingReservations {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /**
   * Counts a claimed message, and sets from when on the next ones may leave. The same message again, by a further try or
   * another worker, is not counted twice.
   * @returns how to send it; nothing special when its account is not paced any more
   */
  async reserve({ id, accountId, priority, chatId, text }: PacedMessage): Promise<PacedSendOptions> {
    return this.database.transaction(async (manager) => {
      // Its recipient may have written while it waited. The message before the account, as whoever writes an ack locks them.
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
          // It leaves when the typing ends.
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
   * Gives the budget of a message back that never left.
   * @param outcome `not_tried`: WhatsApp heard nothing of it, so that the next one need not wait for it either;
   * `not_sent`: WhatsApp was asked, and asking for many numbers in a row is what pacing is to prevent
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
   * Tells of the messages that waited when pacing was turned on which are cold. Until then they count as neither: they are
   * sent while both kinds are, and counted as what they are. One that is being written to at that moment is passed over.
   */
  async markWaiting(): Promise<void> {
    for (let round = 0; round < marksAtOnce; round += 1) {
      const [, marked] = await this.database.query(
        `with lane as (select account_id, marking_after from account_pacing where marking_after is not null limit 1),
         batch as (select m.id, m.account_id, m.chat_id from messages m
           where m.account_id = (select account_id from lane) and m.id > (select marking_after from lane)
           order by m.id limit ${markLimit} for no key update of m skip locked),
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
