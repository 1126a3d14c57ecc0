import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Campaigns. A recipient waits in a table of its own, so that a million of them are in nobody's way: the ledger, its lists and its
 * lanes have only the messages that were dealt to an account. A dealt recipient is the message with the same id.
 */
export class Campaigns1796428800081 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create table campaigns (
        id uuid primary key,
        workspace_id uuid not null references workspaces (id) on delete cascade,
        name text not null,
        status text not null default 'draft'
          check (status in ('draft', 'scheduled', 'running', 'paused', 'completed', 'cancelled')),
        pause_reason text,
        message jsonb not null,
        country text,
        start_at timestamptz,
        -- How many recipients have each state. Changes that are not yet added are rows of campaign_changes.
        counts jsonb not null default '{}',
        invalid_count bigint not null default 0,
        duplicate_count bigint not null default 0,
        -- The names of the columns of the list, for the CSV of invalid lines.
        columns jsonb not null default '[]',
        created_at timestamptz not null default now(),
        started_at timestamptz,
        finished_at timestamptz
      );
      create index campaigns_workspace on campaigns (workspace_id, id desc);
      create index campaigns_due on campaigns (start_at) where status = 'scheduled';
      create index campaigns_running on campaigns (id) where status = 'running';
      select isolate_workspace('campaigns');

      create table campaign_accounts (
        campaign_id uuid not null references campaigns (id) on delete cascade,
        account_id uuid not null references accounts (id) on delete cascade,
        workspace_id uuid not null references workspaces (id) on delete cascade,
        primary key (campaign_id, account_id)
      );
      create index campaign_accounts_account on campaign_accounts (account_id);
      create index campaign_accounts_workspace on campaign_accounts (workspace_id);
      select isolate_workspace('campaign_accounts');

      create table campaign_recipients (
        campaign_id uuid not null references campaigns (id) on delete cascade,
        id uuid not null,
        workspace_id uuid not null,
        -- One key for all forms of a number.
        person text not null,
        recipient text not null,
        variables jsonb not null default '{}',
        -- The account that has written to the person before.
        account_id uuid,
        is_dealt boolean not null default false,
        primary key (campaign_id, id)
      );
      create unique index campaign_recipients_person on campaign_recipients (campaign_id, person);
      create index campaign_recipients_waiting on campaign_recipients (campaign_id, account_id, id) where not is_dealt;
      select isolate_workspace('campaign_recipients');

      create table campaign_invalid_lines (
        campaign_id uuid not null references campaigns (id) on delete cascade,
        workspace_id uuid not null,
        line bigint not null,
        -- Of the line, so that the same list again adds nothing.
        fingerprint text not null,
        "column" text not null,
        reason text not null,
        value text not null,
        fields jsonb not null,
        primary key (campaign_id, line, fingerprint)
      );
      select isolate_workspace('campaign_invalid_lines');

      create table campaign_changes (
        -- No foreign key: each of its checks would lock the row of the campaign.
        campaign_id uuid not null,
        workspace_id uuid not null references workspaces (id) on delete cascade,
        old_status text,
        new_status text,
        recipients bigint not null default 1
      );
      create index campaign_changes_campaign on campaign_changes (campaign_id);
      select isolate_workspace('campaign_changes');

      create index messages_campaign on messages (campaign_id, id) where campaign_id is not null;
      create index messages_campaign_waiting on messages (campaign_id, account_id) where campaign_id is not null and stage is not null;

      -- Each change of a message of a campaign is a row of its own, so that the messages of a campaign do not wait for each other.
      create function note_campaign_change() returns trigger language plpgsql as $$
      begin
        insert into campaign_changes (campaign_id, workspace_id, old_status, new_status)
        values (new.campaign_id, new.workspace_id, case when tg_op = 'UPDATE' then old.status else 'waiting' end, new.status);
        return null;
      end $$;
      create trigger message_of_campaign_created after insert on messages for each row
        when (new.campaign_id is not null) execute function note_campaign_change();
      create trigger message_of_campaign_changed after update of status on messages for each row
        when (new.campaign_id is not null and old.status is distinct from new.status) execute function note_campaign_change();

      -- The claim of a message reads the state of its campaign.
      create function campaign_runs(campaign uuid) returns boolean language sql stable parallel safe as $$
        select exists (select from campaigns where id = campaign and status = 'running')
      $$;

      create function campaign_counts(campaign campaigns) returns jsonb language sql stable parallel safe as $$
        select campaign.counts || coalesce((
          select jsonb_object_agg(status, coalesce((campaign.counts ->> status)::bigint, 0) + change)
          from (
            select status, sum(change) as change from (
              select new_status as status, recipients as change from campaign_changes where campaign_id = campaign.id
              union all
              select old_status, - recipients from campaign_changes where campaign_id = campaign.id
            ) changes where status is not null group by status
          ) changed), '{}')
      $$;

      -- As the API shows the counts: in a cancelled campaign, who waited is cancelled.
      create function campaign_json(c campaigns) returns jsonb language sql stable parallel safe as $$
        select jsonb_build_object('id', c.id, 'workspaceId', c.workspace_id, 'name', c.name, 'status', c.status,
          'pauseReason', c.pause_reason, 'counts', (
            select jsonb_build_object('total', sum(number), 'queued', sum(number) filter (where name in ('queued', 'scheduled')
                or name = 'waiting' and c.status <> 'cancelled'),
              'sending', sum(number) filter (where name = 'sending'), 'sent', sum(number) filter (where name = 'sent'),
              'delivered', sum(number) filter (where name = 'delivered'), 'read', sum(number) filter (where name in ('read', 'played')),
              'failed', sum(number) filter (where name in ('failed', 'expired')), 'unknown', sum(number) filter (where name = 'unknown'),
              'cancelled', sum(number) filter (where name = 'cancelled' or name = 'waiting' and c.status = 'cancelled'))
            from (values ('waiting'), ('queued'), ('scheduled'), ('sending'), ('sent'), ('delivered'), ('read'), ('played'), ('failed'),
                ('expired'), ('unknown'), ('cancelled')) names (name)
              cross join lateral (select coalesce((counted.counts ->> name)::bigint, 0) as number from (select campaign_counts(c) as counts) counted) found), 'startAt', iso_time(c.start_at),
          'createdAt', iso_time(c.created_at), 'startedAt', iso_time(c.started_at), 'finishedAt', iso_time(c.finished_at))
      $$;

      create function publish_campaign_status() returns trigger language plpgsql as $$
      begin
        insert into events (workspace_id, type, data) values (new.workspace_id, 'campaign.status', campaign_json(new));
        return null;
      end $$;
      create trigger campaign_status_changed after update of status on campaigns for each row
        when (old.status is distinct from new.status) execute function publish_campaign_status();

      -- The acceptance of a recipient is no event: campaign.progress tells how far a campaign is.
      drop trigger message_created on messages;
      create trigger message_created after insert on messages for each row
        when (new.media_due_at is null and new.campaign_id is null) execute function publish_message_event();
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop trigger message_created on messages;
      create trigger message_created after insert on messages for each row
        when (new.media_due_at is null) execute function publish_message_event();
      drop trigger message_of_campaign_changed on messages;
      drop trigger message_of_campaign_created on messages;
      drop trigger campaign_status_changed on campaigns;
      drop function publish_campaign_status(), campaign_json(campaigns), campaign_counts(campaigns), campaign_runs(uuid), note_campaign_change();
      drop index messages_campaign_waiting, messages_campaign;
      drop table campaign_changes, campaign_invalid_lines, campaign_recipients, campaign_accounts, campaigns;
    `);
  }
}
