import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import type { PageGroupNotice } from '../whatsapp/in-page/page-functions.js';
import { personOf } from '../messages/persons.js';
import { storableValue } from '../messages/storable-text.js';
import { iso } from './chat-persons.js';

/** Maps WhatsApp's words for changes of participants to ours. */
const participantChanges: Record<string, string> = {
  add: 'joined',
  invite: 'joined',
  linked_group_join: 'joined',
  remove: 'removed',
  leave: 'left',
  promote: 'promoted',
  demote: 'demoted',
};

/** Maps WhatsApp's words for changes of a group to the fields of `PATCH …/groups/:groupId`. */
const groupChanges: Record<string, string> = {
  create: 'created',
  announce: 'announcementsOnly',
  restrict: 'infoAdminsOnly',
  member_add_mode: 'addAdminsOnly',
};

/** Longer than any id of WhatsApp, and short enough for an index. */
const maxIdLength = 200;

/** Writes the changes of groups into the log of events. */
@Injectable()
export class GroupNotices {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /**
   * Writes the events `group.participants` and `group.updated`. A repeated notice changes nothing while the log has its event.
   * A notice without a time or a usable id is left out, because a repetition of it could not be recognised.
   */
  async write(accountId: string, notices: PageGroupNotice[]): Promise<void> {
    const writable = notices.filter(isWritable);
    if (writable.length === 0) return;
    const events = writable.map((notice) => {
      const participants = participantChanges[notice.change];
      const data = {
        accountId,
        noticeId: notice.noticeId,
        groupId: notice.chatId,
        change: participants ?? groupChanges[notice.change] ?? notice.change,
        by: notice.by && personOf(notice.by),
        participants: notice.whom.map(personOf),
        value: participants ? null : notice.text,
        at: iso(notice.timestamp),
      };
      return { type: participants ? 'group.participants' : 'group.updated', data };
    });
    await this.database.query(
      `insert into events (workspace_id, account_id, type, data)
       select a.workspace_id, a.id, told.type, told.data
       from accounts a, rows from (jsonb_to_recordset($2::jsonb) as (type text, data jsonb)) with ordinality
         as told (type, data, place)
       where a.id = $1 order by told.place
       on conflict (account_id, (data ->> 'groupId'), (data ->> 'noticeId')) where type like 'group.%' do nothing`,
      [accountId, JSON.stringify(storableValue(events))],
    );
  }
}

/** Without this check, a notice that PostgreSQL refuses would make its whole batch fail. */
function isWritable(notice: PageGroupNotice): notice is PageGroupNotice & { timestamp: number } {
  const { noticeId, chatId, timestamp } = notice;
  const hasTime = timestamp !== null && !Number.isNaN(new Date(timestamp * 1000).getTime());
  return hasTime && [noticeId, chatId].every((id) => id.length > 0 && id.length <= maxIdLength);
}
