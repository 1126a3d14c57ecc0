import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import type { MediaError, MessageMedia } from './content.dto.js';
import type { Message } from './message.entity.js';

/** A message whose media is to be downloaded. */
export type MessageWithMedia = Pick<
  Message,
  'id' | 'workspaceId' | 'accountId' | 'chatId' | 'whatsappId' | 'direction' | 'sender' | 'content'
> & { media: MessageMedia; attempt: number };

/** How long a claimed download is its instance's alone: longer than one takes. */
const claimSeconds = 180;
/** A message is not kept from its readers longer than this, whether or not its media is there. */
export const longestWaitMs = 15 * 60_000;

/** SQL: the media of message `m` was downloaded, and not deleted since. */
const isThere = `exists (select from media there where there.id = (m.media ->> 'mediaId')::uuid)`;

function columns(media: string): string {
  return `m.id, m.workspace_id as "workspaceId", m.account_id as "accountId", m.chat_id as "chatId",
    m.whatsapp_id as "whatsappId", m.direction, m.sender, m.content, ${media}`;
}

/** Which media of incoming messages is still to be downloaded, and what became of it. To settle a message publishes it. */
@Injectable()
export class IncomingMediaService {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /**
   * Takes some of the downloads that are due: of accounts that an instance drives and that are ready, of each the first.
   * @param busy accounts of which none is taken
   */
  async claim(instanceId: string, limit: number, busy: string[] = []): Promise<MessageWithMedia[]> {
    const [rows] = await this.database.query(
      `with heads as (
         select distinct on (due.account_id) due.id, due.media_due_at from messages due join accounts a on a.id = due.account_id
         where due.media_due_at <= now() and a.instance_id = $1 and a.status = 'ready' and a.id <> all($3::uuid[])
         order by due.account_id, due.media_due_at)
       update messages m set media_attempts = m.media_attempts + 1,
         media_due_at = now() + ${claimSeconds} * interval '1 second'
       from (select id from heads order by media_due_at limit $2) due
       -- Asked again with the row locked: another instance may have been faster.
       where m.id = due.id and m.media_due_at <= now() returning ${columns('m.media')}, m.media_attempts as attempt`,
      [instanceId, limit, busy],
    );
    return rows;
  }

  /** One message, whatever became of its media before; null when there is none. Media that was deleted is not there. */
  async find(accountId: string, id: string): Promise<MessageWithMedia | null> {
    const [row] = await this.database.query(
      `select ${columns(`case when ${isThere} then m.media else m.media || '{"mediaId": null}' end as media`)},
         m.media_attempts as attempt from messages m
       where m.id = $1 and m.account_id = $2 and m.direction = 'incoming' and m.media is not null`,
      [id, accountId],
    );
    return row ?? null;
  }

  /** Whether the media of a message is there. */
  async isThere(id: string): Promise<boolean> {
    const found: unknown[] = await this.database.query(
      `select from messages m where m.id = $1 and ${isThere}`,
      [id],
    );
    return found.length > 0;
  }

  /** It is there, or has failed for good. One that is there already stays. */
  async settle(id: string, media: MessageMedia): Promise<void> {
    await this.database.query(
      `update messages m set media = $2, media_due_at = null where id = $1 and not ${isThere}`,
      [id, media],
    );
  }

  /** It is tried again after a while. */
  async postpone(id: string, ms: number): Promise<void> {
    await this.database.query(
      `update messages set media_due_at = now() + $2 * interval '1 millisecond' where id = $1 and media_due_at is not null`,
      [id, ms],
    );
  }

  /**
   * Publishes the messages whose media did not come in time: their account is not connected, or its instance is gone.
   * @returns how many
   */
  async giveUpLate(): Promise<number> {
    const error: MediaError = {
      code: 'media.not_downloaded',
      message: `It could not be downloaded within ${longestWaitMs / 60_000} minutes. Try again with POST /messages/:id/media.`,
    };
    const [, count] = await this.database.query(
      `with late as (select id from messages where media_due_at is not null
         and created_at < now() - ${longestWaitMs} * interval '1 millisecond' order by created_at limit 1000
         for update skip locked)
       update messages m set media_due_at = null, media = m.media || jsonb_build_object('error', $1::jsonb)
       from late where m.id = late.id`,
      [error],
    );
    return count;
  }
}
