import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import type { PageGroupNotice } from '../whatsapp/page-functions.js';
import { clean, personOf } from '../messages/incoming.js';
import { iso } from './persons.js';

/** WhatsApp's words for what happens to participants, and ours. */
const participantChanges: Record<string, string> = {
  add: 'joined',
  invite: 'joined',
  linked_group_join: 'joined',
  remove: 'removed',
  leave: 'left',
  promote: 'promoted',
  demote: 'demoted',
};

/** What can be changed of a group, as WhatsApp calls it, and as `PATCH …/groups/:groupId` does. */
const groupChanges: Record<string, string> = {
  create: 'created',
  announce: 'announcementsOnly',
  restrict: 'infoAdminsOnly',
  member_add_mode: 'addAdminsOnly',
};

/** Writes what was done to groups into the log of events. */
@Injectable()
export class GroupNotices {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /**
   * `group.participants` and `group.updated`; a notice that is told again changes nothing, as long as the log has its event.
   * One without a time is left out: nobody could say whether it was told.
   */
  async write(accountId: string, notices: PageGroupNotice[]): Promise<void> {
    const dated = notices.filter(({ timestamp }) => Number.isFinite(timestamp));
    if (dated.length === 0) return;
    const events = dated.map((notice) => {
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
       from accounts a, jsonb_to_recordset($2::jsonb) as told (type text, data jsonb)
       where a.id = $1
       on conflict (account_id, (data ->> 'groupId'), (data ->> 'noticeId')) where type like 'group.%' do nothing`,
      [accountId, JSON.stringify(clean(events))],
    );
  }
}
