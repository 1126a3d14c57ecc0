import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { personOf } from '../messages/persons.js';
import type { PagePresence } from '../whatsapp/in-page/page-presence.js';
import { chatPersonOf, iso } from './chat-persons.js';
import type { ChatPresence } from './chats.dto.js';

/** Writes the presence of watched chats into the log of events. */
@Injectable()
export class PresenceLog {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  async write(accountId: string, presence: PagePresence): Promise<void> {
    const data = { accountId, ...toPresence(presence) };
    await this.database.query(
      `insert into events (workspace_id, account_id, type, data)
       select workspace_id, id, 'account.presence', $2::jsonb from accounts where id = $1`,
      [accountId, JSON.stringify(data)],
    );
  }
}

/** The presence as the API shows it. */
export function toPresence({ chatId, alias, state, who, lastSeen }: PagePresence): ChatPresence {
  return {
    chatId,
    ...chatPersonOf({ chatId, alias }),
    state,
    participant: who && personOf(who),
    lastSeenAt: lastSeen === null ? null : iso(lastSeen),
  };
}
