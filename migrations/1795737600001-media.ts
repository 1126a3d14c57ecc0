import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Files of workspaces, and the bytes behind them, which lie once in the storage however many workspaces have them. */
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
      -- The same file under the same name is the same media: an upload that is repeated makes no second one.
      create unique index media_same on media (workspace_id, sha256, mimetype, coalesce(filename, ''));
      create index media_workspace on media (workspace_id, id desc);
      create index media_blob on media (blob_id);
      create index media_age on media (last_used_at);

      -- Which media messages need that are not sent yet.
      create index messages_waiting_media on messages ((media ->> 'mediaId')) where media is not null and stage is not null;
    `);

    // They run with their owner's rights: a workspace may have no look at what others store.
    await runner.query(`
      create function write_media_blob(blob uuid, content bytea, length bigint) returns void
        language sql security definer set search_path from current as $$
        insert into media_blobs (id, sha256, size) values (blob, content, length)
      $$;

      -- The blob to refer to once 'written' lies in the storage: itself, or one of the same content that was there before.
      -- In the transaction that inserts the media.
      create function keep_media_blob(written uuid) returns uuid
        language plpgsql security definer set search_path from current as $$
      declare
        content bytea;
        kept uuid;
      begin
        select sha256 into content from media_blobs where id = written and state = 'writing' for update;
        if not found then return null; end if;
        -- Two of the same content at once: the second one sees the first.
        perform pg_advisory_xact_lock(hashtextextended('media ' || encode(content, 'hex'), 0));
        select id into kept from media_blobs where sha256 = content and state = 'kept' for update;
        update media_blobs set state = case when kept is null then 'kept' else 'doomed' end where id = written;
        return coalesce(kept, written);
      end $$;

      -- Its bytes are removed at the next opportunity.
      create function give_up_media_blob(written uuid) returns void
        language sql security definer set search_path from current as $$
        update media_blobs set state = 'doomed' where id = written and state = 'writing'
      $$;

      create function count_media() returns trigger
        language plpgsql security definer set search_path from current as $$
      begin
        if tg_op = 'INSERT' then update media_blobs set refs = refs + 1 where id = new.blob_id;
        else update media_blobs set refs = refs - 1 where id = old.blob_id;
        end if;
        return null;
      end $$;
      create trigger media_counted after insert or delete on media for each row execute function count_media();

      -- A message cannot be accepted with a media that is deleted at the same moment.
      create function hold_media() returns trigger language plpgsql as $$
      begin
        perform from media where id = (new.media ->> 'mediaId')::uuid for key share;
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
      drop function hold_media, count_media, keep_media_blob, give_up_media_blob, write_media_blob;
      drop table media_blobs;
    `);
  }
}
