import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The pace, the sending times and the limits of campaigns. All of it are times in rows: nothing sleeps. */
export class CampaignRules1796428800092 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table campaigns
        -- As the caller gave them. Null: none.
        add column pacing jsonb,
        add column times jsonb,
        add column safety jsonb,
        add column not_within_days integer,
        -- Messages by share. Null: all recipients get the message.
        add column variants jsonb,
        -- Where the message comes from. No foreign key: the template may be deleted.
        add column template_id uuid,
        add column template_version integer,
        -- The gaps of an account are those of the campaign: it has one recipient at a time.
        add column is_paced boolean not null default false,
        -- Failures and refusals from before do not pause the campaign again.
        add column watched_from timestamptz;

      -- What an account has sent of the campaign, and when it may send again.
      alter table campaign_accounts
        add column day date,
        add column sent_today integer not null default 0,
        add column batch_sent integer not null default 0,
        add column last_sent_at timestamptz,
        add column next_at timestamptz,
        -- It may leave later than it was dealt: then the next one leaves later too.
        add column last_message_id uuid;

      -- Recipients with the same clock. Its windows are found out again when the present one closes.
      create table campaign_zones (
        campaign_id uuid not null references campaigns (id) on delete cascade,
        workspace_id uuid not null,
        zone text not null,
        opens_at timestamptz not null default 'infinity',
        closes_at timestamptz not null default '-infinity',
        primary key (campaign_id, zone)
      );
      select isolate_workspace('campaign_zones');

      alter table campaign_recipients add column zone text not null default 'ZZ', add column variant text;
      insert into campaign_zones (campaign_id, workspace_id, zone)
        select distinct campaign_id, workspace_id, zone from campaign_recipients;
      drop index campaign_recipients_waiting;
      create index campaign_recipients_waiting on campaign_recipients (campaign_id, zone, account_id, id) where not is_dealt;

      create table message_templates (
        id uuid primary key,
        workspace_id uuid not null references workspaces (id) on delete cascade,
        name text not null,
        version integer not null default 1,
        created_at timestamptz not null default now()
      );
      create index message_templates_workspace on message_templates (workspace_id, id desc);
      select isolate_workspace('message_templates');

      create table message_template_versions (
        template_id uuid not null references message_templates (id) on delete cascade,
        workspace_id uuid not null,
        version integer not null,
        message jsonb not null,
        created_at timestamptz not null default now(),
        primary key (template_id, version)
      );
      select isolate_workspace('message_template_versions');
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop table message_template_versions, message_templates;
      drop index campaign_recipients_waiting;
      alter table campaign_recipients drop column variant, drop column zone;
      create index campaign_recipients_waiting on campaign_recipients (campaign_id, account_id, id) where not is_dealt;
      drop table campaign_zones;
      alter table campaign_accounts drop column last_message_id, drop column next_at, drop column last_sent_at, drop column batch_sent,
        drop column sent_today, drop column day;
      alter table campaigns drop column watched_from, drop column is_paced, drop column template_version, drop column template_id, drop column variants, drop column not_within_days, drop column safety, drop column times, drop column pacing;
    `);
  }
}
