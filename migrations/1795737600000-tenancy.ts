import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Tenancy: limits of workspaces, rotation of keys, the audit log, and the second layer of isolation. The API serves a workspace
 * with the role `flotilla_tenant`. PostgreSQL shows that role only the rows of the workspace, even if a query has no filter.
 */
export class Tenancy1795737600000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(makeTenantRole);

    await runner.query(`
      alter table workspaces
        -- Null: no limit.
        add column max_accounts integer check (max_accounts >= 0),
        add column messages_per_minute integer check (messages_per_minute >= 0),
        add column max_storage_bytes bigint check (max_storage_bytes >= 0);

      -- How many messages a workspace that has a limit was allowed in the present minute.
      create table message_rates (
        workspace_id uuid primary key references workspaces on delete cascade,
        minute timestamptz not null,
        accepted integer not null,
        -- How many of the last request were granted.
        granted integer not null
      ) with (fillfactor = 50);

      -- The key that took over when this one was rotated.
      alter table api_keys add column replaced_by uuid references api_keys on delete set null;

      -- Who changed what, and who was refused. No foreign keys: a log outlives what it tells of.
      create table audit_log (
        id bigint primary key generated always as identity,
        created_at timestamptz not null default now(),
        actor text not null check (actor in ('admin', 'key', 'unknown')),
        key_id uuid,
        key_prefix text,
        workspace_id uuid,
        ip text not null,
        method text not null,
        -- The pattern of the route, not the path: that may hold anything.
        route text not null,
        target_id text,
        status integer not null,
        request_id text not null
      );
      create index audit_log_workspace on audit_log (workspace_id, id desc) where workspace_id is not null;
    `);

    // The API caches keys and limits for a moment. A notification at commit tells it that they have changed.
    await runner.query(`
      create function notify_key() returns trigger language plpgsql as $$
      begin
        perform pg_notify('flotilla_keys', old.id::text);
        return null;
      end $$;
      create trigger key_changed after update of role, expires_at, allowed_ips on api_keys for each row
        execute function notify_key();
      create trigger key_deleted after delete on api_keys for each row execute function notify_key();

      create function notify_limits() returns trigger language plpgsql as $$
      begin
        perform pg_notify('flotilla_limits', new.id::text);
        return null;
      end $$;
      create trigger limits_changed after update of max_accounts, messages_per_minute, max_storage_bytes on workspaces
        for each row execute function notify_limits();
    `);

    // Placement needs the load of the fleet, but not the accounts of other workspaces: these views count with the rights of their owner.
    await runner.query(`
      create view instance_loads as
      select instance_id, count(*)::int as reserved, (count(*) filter (where status = 'ready'))::int as connected
      from accounts where desired_state = 'connected' and instance_id is not null group by instance_id;

      create view pinned_loads as
      select pinned_server_id as server_id, count(*)::int as reserved
      from accounts where desired_state = 'connected' and instance_id is null and pinned_server_id is not null
      group by pinned_server_id;
    `);

    await runner.query(`
      create function current_workspace() returns uuid language sql stable parallel safe as $$
        select nullif(current_setting('flotilla.workspace', true), '')::uuid
      $$;

      -- For every table with a column workspace_id, in the migration that creates it: requests of a workspace see and write
      -- its rows only. What they may do with them at all is said by 'privileges'; an empty one is nothing.
      create function isolate_workspace(target regclass, privileges text default 'select, insert, update, delete')
        returns void language plpgsql as $$
      begin
        execute format('alter table %s enable row level security', target);
        execute format('create policy workspace on %s to flotilla_tenant using (workspace_id = current_workspace())
          with check (workspace_id = current_workspace())', target);
        if privileges <> '' then execute format('grant %s on %s to flotilla_tenant', privileges, target); end if;
      end $$;

      -- For a table whose rows belong to an account and name no workspace.
      create function isolate_account(target regclass, privileges text default 'select, insert, update, delete')
        returns void language plpgsql as $$
      begin
        execute format('alter table %s enable row level security', target);
        execute format('create policy workspace on %1$s to flotilla_tenant
          using (exists (select from accounts a where a.id = %1$s.account_id and a.workspace_id = current_workspace()))',
          target);
        if privileges <> '' then execute format('grant %s on %s to flotilla_tenant', privileges, target); end if;
      end $$;

      do $$ begin execute format('grant usage on schema %I to flotilla_tenant', current_schema()); end $$;

      alter table workspaces enable row level security;
      create policy workspace on workspaces to flotilla_tenant using (id = current_workspace());
      grant select on workspaces to flotilla_tenant;

      select isolate_workspace('api_keys');
      select isolate_workspace('accounts');
      select isolate_workspace('messages');
      select isolate_workspace('message_rates');
      select isolate_workspace('account_pacing');
      select isolate_workspace('failed_jobs');
      select isolate_workspace('idempotency_keys', 'select, insert');
      select isolate_workspace('events', 'select, insert');
      select isolate_workspace('connection_logs', 'select, insert');
      select isolate_workspace('server_logs', 'insert');
      select isolate_workspace('audit_log', '');
      -- Whether there is a copy of a session decides where its account may go. No tenant may read the copy itself.
      select isolate_workspace('session_snapshots', 'select (account_id, workspace_id)');
      select isolate_account('contacts', 'select, insert, delete');

      -- The fleet, as far as placing an account needs it.
      grant select on servers, instances, load_balancing, instance_loads, pinned_loads to flotilla_tenant;
      grant update (turn) on instances to flotilla_tenant;
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    // The role stays: other databases of this server may use it.
    await runner.query(`
      do $$
      declare
        isolated regclass;
      begin
        for isolated in select polrelid::regclass from pg_policy where polname = 'workspace' loop
          execute format('drop policy workspace on %s', isolated);
          execute format('alter table %s disable row level security', isolated);
        end loop;
        execute format('revoke all on all tables in schema %I from flotilla_tenant', current_schema());
        execute format('revoke usage on schema %I from flotilla_tenant', current_schema());
      end $$;
      drop function isolate_workspace, isolate_account, current_workspace;
      drop view instance_loads, pinned_loads;
      drop trigger limits_changed on workspaces;
      drop trigger key_changed on api_keys;
      drop trigger key_deleted on api_keys;
      drop function notify_key, notify_limits;
      drop table audit_log, message_rates;
      alter table api_keys drop column replaced_by;
      alter table workspaces drop column max_accounts, drop column messages_per_minute, drop column max_storage_bytes;
    `);
  }
}

/**
 * Roles belong to the whole PostgreSQL server, so a migration of another database may create this role at the same moment. No
 * lock reaches across databases, but the name is unique: the second creation fails.
 */
const makeTenantRole = `
  do $$
  begin
    begin
      if not exists (select from pg_roles where rolname = 'flotilla_tenant') then
        create role flotilla_tenant nologin;
      end if;
    exception
      when duplicate_object or unique_violation then null;
    end;
    begin
      execute 'set local role flotilla_tenant';
    exception
      when insufficient_privilege then
        begin
          execute format('grant flotilla_tenant to %I', current_user);
        exception
          when unique_violation then null;
        end;
        execute 'set local role flotilla_tenant';
    end;
    execute 'set local role none';
  exception
    when insufficient_privilege then
      raise exception using errcode = 'insufficient_privilege', message = format(
        'The database user %1$I may not create the role flotilla_tenant, by which PostgreSQL keeps workspaces apart. Have a superuser run these two statements, and migrate again: create role flotilla_tenant nologin; grant flotilla_tenant to %1$I;',
        current_user);
  end $$`;
