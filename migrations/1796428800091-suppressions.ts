import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The counts of a campaign, as 1796428800081 has them, and the number of those who answered. */
const campaignJson = (replied: string) => `
  create or replace function campaign_json(c campaigns) returns jsonb language sql stable parallel safe as $$
    select jsonb_build_object('id', c.id, 'workspaceId', c.workspace_id, 'name', c.name, 'status', c.status,
      'pauseReason', c.pause_reason, 'counts', (
        select jsonb_build_object('total', sum(number), 'queued', sum(number) filter (where name in ('queued', 'scheduled')
            or name = 'waiting' and c.status <> 'cancelled'),
          'sending', sum(number) filter (where name = 'sending'), 'sent', sum(number) filter (where name = 'sent'),
          'delivered', sum(number) filter (where name = 'delivered'), 'read', sum(number) filter (where name in ('read', 'played')),
          'failed', sum(number) filter (where name in ('failed', 'expired')), 'unknown', sum(number) filter (where name = 'unknown'),
          'cancelled', sum(number) filter (where name = 'cancelled' or name = 'waiting' and c.status = 'cancelled')${replied})
        from (values ('waiting'), ('queued'), ('scheduled'), ('sending'), ('sent'), ('delivered'), ('read'), ('played'), ('failed'),
            ('expired'), ('unknown'), ('cancelled')) names (name)
          cross join lateral (select coalesce((counted.counts ->> name)::bigint, 0) as number from (select campaign_counts(c) as counts) counted) found), 'startAt', iso_time(c.start_at),
      'createdAt', iso_time(c.created_at), 'startedAt', iso_time(c.started_at), 'finishedAt', iso_time(c.finished_at))
  $$;`;

/**
 * Who gets nothing from campaigns, and who has answered one. Triggers keep the promise, so that every way into a lane is covered: the
 * deal, a later attempt, a resume, a resend.
 */
export class Suppressions1796428800091 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      -- Words that count as an opt-out beside the built-in ones.
      alter table workspaces add column opt_out_words text[];
      grant update (opt_out_words) on workspaces to flotilla_tenant;

      create table suppressions (
        id uuid primary key,
        workspace_id uuid not null references workspaces (id) on delete cascade,
        -- One key for all forms of a number, as in campaign_recipients.
        person text not null,
        -- The hidden number of the person, if it is known beside the phone number.
        lid text,
        -- The address as it was given.
        address text not null,
        source text not null check (source in ('manual', 'import', 'reply')),
        -- For an answer: its text.
        reason text,
        -- The message that asked for it. It may be deleted later.
        message_id uuid,
        account_id uuid references accounts (id) on delete set null,
        created_at timestamptz not null default now()
      );
      create unique index suppressions_person on suppressions (workspace_id, person);
      create index suppressions_lid on suppressions (workspace_id, lid) where lid is not null;
      create index suppressions_newest on suppressions (workspace_id, id desc);
      create index suppressions_account on suppressions (account_id) where account_id is not null;
      select isolate_workspace('suppressions');

      -- Whoever suppresses holds this lock, and whoever queues a message of a campaign shares it. So one of the two sees what the other
      -- has written.
      create function suppressions_lock(workspace uuid) returns bigint language sql stable parallel safe as $$
        select hashtextextended('suppressions of ' || workspace, 0)
      $$;

      create function is_suppressed(workspace uuid, persons text[]) returns boolean language sql stable parallel safe as $$
        select exists (select from suppressions where workspace_id = workspace and person = any(persons))
          or exists (select from suppressions where workspace_id = workspace and lid = any(persons))
      $$;

      create function lock_suppressions() returns trigger language plpgsql as $$
      begin
        perform pg_advisory_xact_lock(suppressions_lock(new.workspace_id));
        return new;
      end $$;
      create trigger suppression_locks before insert or update on suppressions for each row execute function lock_suppressions();

      -- Cancels what waits for the persons. A message that may have left already is only looked for: its time is over. A message that
      -- waits for a later attempt is checked when it is queued again.
      create function cancel_suppressed_messages() returns trigger language plpgsql as $$
      begin
        update messages m set
          status = case when m.attempts = 0 then 'cancelled' else m.status end,
          error_code = case when m.attempts = 0 then 'campaign.suppressed' else m.error_code end,
          error_message = case when m.attempts = 0 then suppressed_sentence() else m.error_message end,
          expires_at = case when m.attempts = 0 then m.expires_at else least(m.expires_at, now()) end
        from (select w.id from added s
            join campaigns c on c.workspace_id = s.workspace_id
            join campaign_recipients r on r.campaign_id = c.id and r.person = any(array[s.person, s.lid]) and r.is_dealt
            join messages w on w.id = r.id
          where w.stage = 'queued' order by w.id for update of w) waiting
        where m.id = waiting.id and m.stage = 'queued';
        return null;
      end $$;
      create trigger suppression_added after insert on suppressions referencing new table as added
        for each statement execute function cancel_suppressed_messages();
      create trigger suppression_changed after update on suppressions referencing new table as added
        for each statement execute function cancel_suppressed_messages();

      create function suppressed_sentence() returns text language sql immutable parallel safe as $$
        select 'The person gets no campaigns: GET /suppressions tells since when, and why.'
      $$;

      -- Its name comes before message_ended, which must see the status that this gives.
      create function cancel_if_suppressed() returns trigger language plpgsql as $$
      begin
        perform pg_advisory_xact_lock_shared(suppressions_lock(new.workspace_id));
        if is_suppressed(new.workspace_id, array[new.recipient, regexp_replace(new.chat_id, '@c[.]us$', ''),
            (select person from campaign_recipients where campaign_id = new.campaign_id and id = new.id)]) then
          if new.attempts = 0 then
            new.status := 'cancelled';
            new.error_code := 'campaign.suppressed';
            new.error_message := suppressed_sentence();
          else
            new.expires_at := least(new.expires_at, now());
          end if;
        end if;
        return new;
      end $$;
      create trigger message_checked before insert on messages for each row
        when (new.campaign_id is not null and new.status = 'queued') execute function cancel_if_suppressed();
      create trigger message_checked_again before update of status on messages for each row
        when (new.campaign_id is not null and new.status = 'queued' and old.status <> 'queued') execute function cancel_if_suppressed();

      create function suppression_json(s suppressions) returns jsonb language sql stable parallel safe as $$
        select jsonb_build_object('id', s.id, 'workspaceId', s.workspace_id, 'to', s.address, 'source', s.source, 'reason', s.reason,
          'messageId', s.message_id, 'accountId', s.account_id, 'createdAt', iso_time(s.created_at))
      $$;

      create function publish_suppression() returns trigger language plpgsql as $$
      begin
        if tg_op = 'INSERT' then
          insert into events (workspace_id, type, data) values (new.workspace_id, 'suppression.added', suppression_json(new));
        else
          insert into events (workspace_id, type, data) values (old.workspace_id, 'suppression.removed', suppression_json(old));
        end if;
        return null;
      end $$;
      -- Who imports a list knows it already.
      create trigger suppression_published after insert on suppressions for each row
        when (new.source <> 'import') execute function publish_suppression();
      -- Not when the workspace is deleted.
      create trigger suppression_removed after delete on suppressions for each row
        when (pg_trigger_depth() = 0) execute function publish_suppression();

      alter table campaign_recipients add column replied_at timestamptz;
      create index messages_campaign_chat on messages (account_id, chat_id) where campaign_id is not null;

      -- The first message of a person within seven days after a message of a campaign answers it. The person may answer before the send
      -- is written down, and the clock of the phone may differ by a minute.
      create function attribute_reply() returns trigger language plpgsql as $$
      declare
        answered record;
      begin
        select m.campaign_id, m.id into answered from messages m
        where m.account_id = new.account_id and m.campaign_id is not null
          and m.chat_id = any(array[new.chat_id, new.content -> 'participant' ->> 'lid', new.content -> 'participant' ->> 'phone' || '@c.us'])
          and (m.stage = 'sending' or m.sent_at between new.sent_at - interval '7 days' and new.sent_at + interval '1 minute')
        order by m.sent_at desc nulls first limit 1;
        if found then
          with first_answer as (
            update campaign_recipients set replied_at = new.sent_at
            where campaign_id = answered.campaign_id and id = answered.id and replied_at is null returning workspace_id)
          insert into campaign_changes (campaign_id, workspace_id, new_status)
          select answered.campaign_id, workspace_id, 'replied' from first_answer;
        end if;
        return null;
      end $$;
      create trigger message_answers after insert on messages for each row
        when (new.direction = 'incoming' and (new.chat_id like '%@c.us' or new.chat_id like '%@lid')) execute function attribute_reply();
      ${campaignJson(`, 'replied', coalesce((campaign_counts(c) ->> 'replied')::bigint, 0)`)}
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop trigger message_answers on messages;
      drop trigger message_checked on messages;
      drop trigger message_checked_again on messages;
      drop function attribute_reply(), cancel_if_suppressed();
      ${campaignJson('')}
      delete from campaign_changes where new_status = 'replied';
      update campaigns set counts = counts - 'replied';
      drop index messages_campaign_chat;
      alter table campaign_recipients drop column replied_at;
      drop function suppression_json(suppressions);
      drop table suppressions;
      drop function publish_suppression(), cancel_suppressed_messages(), lock_suppressions(), suppressed_sentence(), is_suppressed(uuid, text[]),
        suppressions_lock(uuid);
      alter table workspaces drop column opt_out_words;
    `);
  }
}
