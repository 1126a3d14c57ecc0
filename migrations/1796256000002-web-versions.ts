import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * The versions of WhatsApp Web that accounts have loaded, with their pages, and the operator's policy: which page an account gets.
 * The live and the simulated WhatsApp have pages of their own.
 */
export class WebVersions1796256000002 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create table web_versions (
        environment text not null check (environment in ('live', 'sandbox')),
        version text not null,
        -- new: nobody has decided. good: it passed its trial, or the operator chose it. refused: it failed its trial.
        status text not null default 'new' check (status in ('new', 'good', 'refused')),
        reason text,
        -- The HTML of the index. It names the scripts of this version.
        page text,
        contract text check (contract in ('ok', 'broken')),
        sends bigint not null default 0,
        failures bigint not null default 0,
        -- Acknowledged sends since the last failure.
        sends_in_a_row integer not null default 0,
        -- When a message that a canary sent to itself was acknowledged.
        self_sent_at timestamptz,
        -- The newest of these is the page of all accounts while the policy is canary.
        promoted_at timestamptz,
        first_seen_at timestamptz not null default now(),
        last_seen_at timestamptz not null default now(),
        primary key (environment, version)
      );

      create table web_version_policy (
        only_row boolean primary key default true check (only_row),
        mode text not null default 'latest' check (mode in ('latest', 'pinned', 'canary')),
        -- Only for pinned.
        version text,
        -- The accounts that get a new version first. Without one of an environment: its oldest linked account.
        canary_ids uuid[] not null default '{}',
        -- How many sends in a row a new version needs.
        sends integer not null default 20 check (sends between 0 and 100000),
        updated_at timestamptz not null default now(),
        check ((mode = 'pinned') = (version is not null))
      );
      insert into web_version_policy default values;

      -- Every version that an account has loaded, and what the last check of an account found.
      create function record_web_version() returns trigger language plpgsql as $$
      begin
        insert into web_versions (environment, version, contract)
        values (new.environment, new.web_version, new.web_contract)
        on conflict (environment, version) do update set contract = excluded.contract, last_seen_at = now();
        return null;
      end $$;
      create trigger account_web_version after update of web_checked_at on accounts for each row
        when (new.web_version is not null) execute function record_web_version();

      create function publish_web_version() returns trigger language plpgsql as $$
      begin
        insert into events (type, data) values ('web_version.status', jsonb_build_object('environment', new.environment,
          'version', new.version, 'status', new.status, 'reason', new.reason,
          'previousStatus', case when tg_op = 'UPDATE' then old.status end));
        return null;
      end $$;
      create trigger web_version_found after insert on web_versions for each row execute function publish_web_version();
      create trigger web_version_decided after update of status on web_versions for each row
        when (old.status <> new.status) execute function publish_web_version();
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop trigger account_web_version on accounts;
      drop table web_versions, web_version_policy;
      drop function record_web_version, publish_web_version;
    `);
  }
}
