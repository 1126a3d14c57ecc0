import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The default country of a workspace, and the ids that WhatsApp has for numbers that it writes in another form. */
export class Numbers1796256000003 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table workspaces add column default_country text check (default_country ~ '^[A-Z]{2}$');
      -- The owners of a workspace may change this setting, and no limit.
      grant update (default_country, updated_at) on workspaces to flotilla_tenant;
      -- The API keeps the setting together with each key.
      create function notify_keys_of_workspace() returns trigger language plpgsql as $$
      begin
        perform pg_notify('flotilla_keys', id::text) from api_keys where workspace_id = new.id;
        return null;
      end $$;
      create trigger default_country_changed after update of default_country on workspaces
        for each row when (old.default_country is distinct from new.default_country)
        execute function notify_keys_of_workspace();

      -- Only numbers for which WhatsApp has another id, such as a Brazilian number with its ninth digit. The answer belongs to an
      -- account, because each account asks for itself.
      create table recipient_ids (
        account_id uuid not null references accounts on delete cascade,
        workspace_id uuid not null references workspaces on delete cascade,
        -- The chat id of the number that a request named.
        number text not null,
        -- The chat id that WhatsApp has for that person.
        chat_id text not null,
        checked_at timestamptz not null default now(),
        primary key (account_id, number)
      );
      create index recipient_ids_number on recipient_ids (workspace_id, number);
      create index recipient_ids_chat on recipient_ids (workspace_id, chat_id);
      create index recipient_ids_checked on recipient_ids (checked_at);
      select isolate_workspace('recipient_ids', 'select');
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop table recipient_ids;
      drop trigger default_country_changed on workspaces;
      drop function notify_keys_of_workspace;
      alter table workspaces drop column default_country;
      revoke update on workspaces from flotilla_tenant;
    `);
  }
}
