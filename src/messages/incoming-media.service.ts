import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import type { MediaError, MessageMedia } from './content.dto.js';
import type { Message } from './message.entity.js';

/** A message with media to download. */
export type MessageWithMedia = Pick<
  Message,
  'id' | 'workspaceId' | 'accountId' | 'chatId' | 'whatsappId' | 'direction' | 'sender' | 'content'
> & { media: MessageMedia; attempt: number };

/** How long a claimed download belongs to its instance. It is longer than a download takes. */
const claimSeconds = 180;
/** A message is published after this time even without its media. */
const maxWaitMs = 15 * 60_000;

/** SQL: the media of message `m` was downloaded, and was not deleted since. */
const isStored = `exists (select from media there where there.id = (m.media ->> 'mediaId')::uuid)`;

function columns(media: string): string {
  return `m.id, m.workspace_id as "workspaceId", m.account_id as "accountId", m.chat_id as "chatId",
    m.whatsapp_id as "whatsappId", m.direction, m.sender, m.content, ${media}`;
}

/** The downloads of incoming media: which are due, and their results. A message is published when its download is settled. */
@Injectable()
export class IncomingMediaService {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /**
   * Claims due downloads of an instance's ready accounts: for each account the one that is due first.
   * @param busy accounts to leave out
   */
  async claim(instanceId: string, limit: number, busy: string[] = []): Promise<MessageWithMedia[]> {
    const [rows] = await this.database.query<[MessageWithMedia[], number]>(
      `with heads as (
         select distinct on (due.account_id) due.id, due.media_due_at from messages due join accounts a on a.id = due.account_id
         where due.media_due_at <= now() and a.instance_id = $1 and a.status = 'ready' and a.id <> all($3::uuid[])
         order by due.account_id, due.media_due_at)
       update messages m set media_attempts = m.media_attempts + 1,
         media_due_at = now() + ${claimSeconds} * interval '1 second'
       from (select id from heads order by media_due_at limit $2) due
       -- Checked again when the row is locked: another instance may have claimed it first.
       where m.id = due.id and m.media_due_at <= now() returning ${columns('m.media')}, m.media_attempts as attempt`,
      [instanceId, limit, busy],
    );
    return rows;
  }

  /**
   * An incoming message with media, or one from the phone, whatever happened to its media before. The `mediaId` of deleted media is null.
   * @returns null if there is no such message
   */
  async find(accountId: string, id: string): Promise<MessageWithMedia | null> {
    const [row] = await this.database.query<MessageWithMedia[]>(
      `select ${columns(`case when ${isStored} then m.media else m.media || '{"mediaId": null}' end as media`)},
         m.media_attempts as attempt from messages m
       where m.id = $1 and m.account_id = $2 and (m.direction = 'incoming' or m.is_from_device) and m.media is not null`,
      [id, accountId],
    );
    return row ?? null;
  }

  /** Whether the media of a message is stored. */
  async isStored(id: string): Promise<boolean> {
    const found: unknown[] = await this.database.query(
      `select from messages m where m.id = $1 and ${isStored}`,
      [id],
    );
    return found.length > 0;
  }

  /** Ends a download: the media is stored, or the download has failed for good. Media that is already stored stays. */
  async settle(id: string, media: MessageMedia): Promise<void> {
    await this.database.query(
      `update messages m set media = $2, media_due_at = null where id = $1 and not ${isStored}`,
      [id, media],
    );
  }

  /** Retries a download after `ms`. */
  async postpone(id: string, ms: number): Promise<void> {
    await this.database.query(
      `update messages set media_due_at = now() + $2 * interval '1 millisecond' where id = $1 and media_due_at is not null`,
      [id, ms],
    );
  }

  /**
   * Publishes the messages whose media was not downloaded in time: their account is not connected, or its instance is gone.
   * @returns the number of messages
   */
  async giveUpLate(): Promise<number> {
    const error: MediaError = {
      code: 'media.not_downloaded',
      message: `The media was not downloaded within ${maxWaitMs / 60_000} minutes. Try again with POST /messages/:id/media.`,
    };
    const [, count] = await this.database.query<[unknown[], number]>(
      `with late as (select id from messages where media_due_at is not null
         and created_at < now() - ${maxWaitMs} * interval '1 millisecond' order by created_at limit 1000
         for update skip locked)
       update messages m set media_due_at = null, media = m.media || jsonb_build_object('error', $1::jsonb)
       from late where m.id = late.id`,
      [error],
    );
    return count;
  }
}
