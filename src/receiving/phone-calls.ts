import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource, type EntityManager } from 'typeorm';
import { acceptCallAnswer } from '../messages/call-answer.js';
import { addressOf, personOf } from '../messages/persons.js';
import { storableValue } from '../messages/storable-text.js';
import type { PageCall } from '../whatsapp/in-page/page-calls.js';

/** Longer than any id of WhatsApp, and short enough for an index. */
const maxIdLength = 200;
const maxNameLength = 500;
/** An answer that could not be sent by then makes no sense any more. */
const answerForMs = 3_600_000;

/** What an account does with calls. */
export interface CallSettings {
  rejectCalls: boolean;
  answer: string | null;
}

/** Writes calls into the log of events, and the answers to rejected ones. Each kind of event comes once for a call. */
@Injectable()
export class PhoneCalls {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /** Writes `call.received` and `call.missed`. A call that Flotilla has rejected was not missed. */
  async write(accountId: string, calls: PageCall[]): Promise<void> {
    const events = calls.filter(isWritable).map((call) => ({
      type: call.state === 'missed' ? 'call.missed' : 'call.received',
      data: toEvent(accountId, call),
    }));
    if (events.length === 0) return;
    // What the ringing page has told is the whole of it: a line about a missed call tells less.
    await this.database.query(
      `insert into events (workspace_id, account_id, type, data)
       select a.workspace_id, a.id, told.type, coalesce(
         (select e.data from events e where e.account_id = a.id and e.type like 'call.%' and e.type = 'call.received'
           and e.data ->> 'callId' = told.data ->> 'callId'), told.data)
       from accounts a, rows from (jsonb_to_recordset($2::jsonb) as (type text, data jsonb)) with ordinality
         as told (type, data, place)
       where a.id = $1 and not (told.type = 'call.missed' and exists (select from events e where e.account_id = a.id
         and e.type like 'call.%' and e.type = 'call.rejected' and e.data ->> 'callId' = told.data ->> 'callId'))
       order by told.place
       on conflict (account_id, (data ->> 'callId'), type) where type like 'call.%' do nothing`,
      [accountId, JSON.stringify(storableValue(events))],
    );
  }

  async settingsOf(accountId: string): Promise<CallSettings> {
    const [row] = await this.database.query<CallSettings[]>(
      'select reject_calls as "rejectCalls", call_answer as answer from accounts where id = $1',
      [accountId],
    );
    return row ?? { rejectCalls: false, answer: null };
  }

  /** Writes `call.rejected` and, in the same transaction, accepts the answer. A second time changes nothing. */
  async writeRejected(accountId: string, call: PageCall, answer: string | null): Promise<void> {
    await this.database.transaction(async (manager) => {
      const answerId =
        answer === null || call.isGroupCall ? null : await accept(manager, accountId, call, answer);
      const data = storableValue({ ...toEvent(accountId, call), answerId });
      await manager.query(
        `insert into events (workspace_id, account_id, type, data)
         select a.workspace_id, a.id, 'call.rejected', $2::jsonb from accounts a where a.id = $1
         on conflict (account_id, (data ->> 'callId'), type) where type like 'call.%' do nothing`,
        [accountId, JSON.stringify(data)],
      );
    });
  }
}

async function accept(
  manager: EntityManager,
  accountId: string,
  { callId, from, timestamp }: PageCall,
  text: string,
): Promise<string | null> {
  const began = timestamp === null ? Date.now() : timestamp * 1000;
  return acceptCallAnswer((sql, values) => manager.query(sql, values), {
    accountId,
    callId,
    chatId: from.chatId,
    address: personOf(from).phone ?? addressOf(from.chatId),
    text,
    expiresAt: new Date(began + answerForMs),
  });
}

function toEvent(accountId: string, call: PageCall) {
  const { callId, from, fromName, group, isGroupCall, isVideo, timestamp } = call;
  return {
    accountId,
    callId,
    participant: { ...personOf(from), name: fromName?.slice(0, maxNameLength) ?? null },
    group: group && { id: group.id, subject: group.subject?.slice(0, maxNameLength) ?? null },
    groupCall: isGroupCall,
    video: isVideo,
    at: timestamp === null ? null : new Date(timestamp * 1000).toISOString(),
  };
}

/** Without this check, a call that PostgreSQL refuses would make its whole batch fail. */
function isWritable({ callId, timestamp }: PageCall): boolean {
  const hasTime = timestamp === null || !Number.isNaN(new Date(timestamp * 1000).getTime());
  return hasTime && callId.length > 0 && callId.length <= maxIdLength;
}
