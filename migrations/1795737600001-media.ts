import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Files of workspaces, and their bytes. The storage holds the same bytes once, for any number of workspaces. */
export class Media1795737600001 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      -- What lies in the storage, under a key that is never used again: removing one cannot hit another of the same content.
      create table media_blobs (
        id uuid primary key,
        sha256 bytea not null check (length(sha256) = 32),
        size bigint not null check (size > 0),
        -- 'writing' until a media refers to it; 'doomed' is to be removed from the storage, and nothing may refer to it any more.
        state text not null default 'writing' check (state in ('writing', 'kept', 'doomed')),
        -- How many media refer to it.
        refs integer not null default 0 check (refs >= 0),
        created_at timestamptz not null default now()
      );
      create unique index media_blobs_content on media_blobs (sha256) where state = 'kept';
      create index media_blobs_removable on media_blobs (state, created_at) where state <> 'kept' or refs = 0;

      create table media (
        id uuid primary key,
        workspace_id uuid not null references workspaces on delete cascade,
        blob_id uuid not null references media_blobs,
        sha256 bytea not null,
        size bigint not null,
        mimetype text not null,
        filename text,
        source text not null check (source in ('upload', 'url', 'data', 'incoming')),
        created_at timestamptz not null default now(),
        -- When it was last taken for a message; it is kept for a time after that.
        last_used_at timestamptz not null default now()
      );
      -- The same file under the same name is the same media: a repeated upload makes no second media.
      create unique index media_same on media (workspace_id, sha256, mimetype, coalesce(filename, ''));
      create index media_workspace on media (workspace_id, id desc);
      create index media_blob on media (blob_id);
      create index media_age on media (last_used_at);

      -- The media of messages that are not sent yet.
      create index messages_waiting_media on messages ((media ->> 'mediaId')) where media is not null and stage is not null;
    `);

    // The functions run with the rights of their owner, because a workspace must not see the files of others.
    await runner.query(`
      create function write_media_blob(blob uuid, content bytea, length bigint) returns void
        language sql security definer set search_path from current as $$
        insert into media_blobs (id, sha256, size) values (blob, content, length)
      $$;

      -- The blob of a content that media refer to; null without such a blob.
      create function kept_media_blob(content bytea) returns uuid
        language sql stable security definer set search_path from current as $$
        select id from media_blobs where sha256 = content and state = 'kept'
      $$;

      -- One at a time for each content, until the transaction ends: first of all locks, before media and blobs.
      create function lock_media_content(content bytea) returns void language sql as $$
        select pg_advisory_xact_lock(hashtextextended('media ' || encode(content, 'hex'), 0))
      $$;

      -- The blob to refer to once 'written' lies in the storage: itself, or one of the same content that was there before.
      -- 'lost' is that one when the storage does not have it (whole) any more: what refers to it gets the new one. In the
      -- transaction that inserts the media, after lock_media_content.
      create function keep_media_blob(written uuid, lost uuid) returns uuid
        language plpgsql security definer set search_path from current as $$
      declare
        content bytea;
        kept uuid;
        moved integer;
      begin
        select sha256 into content from media_blobs where id = written and state = 'writing' for update;
        if not found then return null; end if;
        if lost is not null and lost = kept_media_blob(content) then
          -- Media before blobs, as everybody who deletes media.
          update media set blob_id = written where blob_id = lost;
          get diagnostics moved = row_count;
          update media_blobs set state = 'doomed', refs = refs - moved where id = lost;
          update media_blobs set state = 'kept', refs = refs + moved where id = written;
          return written;
        end if;
        select id into kept from media_blobs where sha256 = content and state = 'kept' for update;
        update media_blobs set state = case when kept is null then 'kept' else 'doomed' end where id = written;
        return coalesce(kept, written);
      end $$;

      -- Its bytes are removed at the next opportunity.
      create function give_up_media_blob(written uuid) returns void
        language sql security definer set search_path from current as $$
        update media_blobs set state = 'doomed' where id = written and state = 'writing'
      $$;

      -- In the order of blobs: two who delete many wait for each other, but not in a circle.
      create function count_media() returns trigger
        language plpgsql security definer set search_path from current as $$
      declare
        step integer := case tg_op when 'INSERT' then 1 else -1 end;
      begin
        perform from media_blobs where id in (select blob_id from changed) order by id for update;
        update media_blobs b set refs = refs + step * counted.media
        from (select blob_id, count(*)::integer as media from changed group by 1) counted where b.id = counted.blob_id;
        return null;
      end $$;
      create trigger media_counted after insert on media referencing new table as changed
        for each statement execute function count_media();
      create trigger media_uncounted after delete on media referencing old table as changed
        for each statement execute function count_media();

      -- A message cannot be accepted with a media that is deleted at the same moment.
      create function hold_media() returns trigger language plpgsql as $$
      begin
        perform from media where id = (new.media ->> 'mediaId')::uuid and workspace_id = new.workspace_id for key share;
        if not found then
          raise exception 'The media of this message was deleted.' using errcode = 'foreign_key_violation';
        end if;
        return new;
      end $$;
      create trigger message_holds_media before insert on messages for each row
        when (new.direction = 'outgoing' and new.media ->> 'mediaId' is not null) execute function hold_media();

      select isolate_workspace('media');
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop trigger message_holds_media on messages;
      drop index messages_waiting_media;
      drop table media;
      drop function hold_media, count_media, keep_media_blob, give_up_media_blob, write_media_blob, kept_media_blob,
        lock_media_content;
      drop table media_blobs;
    `);
  }
}
