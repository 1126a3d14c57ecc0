import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * The fleet: servers, the instances that hold accounts, and the logs of both. Triggers write the logs, in the transaction of the
 * change itself, so that a change by SQL is logged like a change by the API.
 */
export class Fleet1795478400000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      update servers set max_capacity = 1 where max_capacity < 1;
      alter table servers
        add column url text,
        add column type text not null default 'vps',
        add column region text,
        add column environment text not null default 'production',
        add column location text,
        add column tags text[] not null default '{}',
        add column priority integer not null default 0,
        add column weight integer not null default 1 check (weight between 1 and 1000),
        -- False when no instance of it lives, when a health check failed, or when an operator said so.
        add column is_healthy boolean not null default true,
        add column health_check_failures integer not null default 0,
        add column response_time_ms integer,
        add column last_health_check_at timestamptz,
        add column metadata jsonb not null default '{}',
        add column allowed_ips text[],
        add constraint servers_max_capacity check (max_capacity between 1 and 100000),
        add constraint servers_id check (id ~ '^[A-Za-z0-9_.-]{3,128}$' and id not like '%..%') not valid;

      alter table instances
        -- One life of the process: a second process under the same id has another one, and may not renew the lease.
        add column incarnation uuid,
        -- The process and its machine: only on that machine can another process see whether it still lives.
        add column process text,
        -- An operator wants its accounts elsewhere; outlives restarts.
        add column is_draining boolean not null default false,
        add column stopped_at timestamptz,
        add column cpu double precision not null default 0,
        -- When its next turn is, for the round-robin strategies: grows by 1/weight at every assignment.
        add column turn double precision not null default 0;

      alter table accounts
        -- Who may have a browser open for the account. It outlives the assignment until that browser is certainly gone:
        -- a new owner starts only when nobody else holds the account, or the holder's lease is over.
        add column held_by text references instances on delete set null,
        -- A server that the account is to be on although no instance lives there yet.
        add column pinned_server_id text references servers on delete set null,
        -- The instance that a rebalancing chose, until the move begins.
        add column move_to text references instances on delete set null,
        add column moving_since timestamptz,
        -- Which servers the account may be placed on: environment, location, tags, minimum capacity.
        add column placement jsonb,
        -- Since when there is a session: where it lies is where the account can be driven without a QR code.
        add column linked_at timestamptz;
      update accounts set linked_at = last_connected_at where status <> 'logged_out';
      create index accounts_held on accounts (held_by) where held_by is not null;
      create index accounts_moving on accounts (moving_since) where moving_since is not null or move_to is not null;

      -- One row: how accounts are placed.
      create table load_balancing (
        only_row boolean primary key default true check (only_row),
        strategy text not null default 'least_sessions' check (strategy in ('least_sessions', 'round_robin',
          'weighted_round_robin', 'least_connections', 'priority_first')),
        -- How many instances a workspace may use; null: what ROUTER_SHARD_SIZE says.
        shard_size integer check (shard_size between 1 and 1000),
        filters jsonb not null default '{}',
        updated_at timestamptz not null default now()
      );
      insert into load_balancing default values;

      -- What happened to servers, instances and assignments. No foreign keys: a log outlives what it tells of.
      create table server_logs (
        id bigint primary key generated always as identity,
        server_id text,
        instance_id text,
        workspace_id uuid,
        account_id uuid,
        log_type text not null check (log_type in ('debug', 'info', 'warning', 'error', 'critical')),
        message text not null,
        details jsonb not null default '{}',
        created_at timestamptz not null default now()
      );
      create index server_logs_server on server_logs (server_id, id desc);
      create index server_logs_instance on server_logs (instance_id, id desc);
      create index server_logs_account on server_logs (account_id, id desc) where account_id is not null;

      -- What happened to an account's connection, and why.
      create table connection_logs (
        id bigint primary key generated always as identity,
        workspace_id uuid not null,
        account_id uuid not null,
        instance_id text,
        epoch integer not null,
        event_type text not null,
        reason text,
        details jsonb not null default '{}',
        created_at timestamptz not null default now()
      );
      create index connection_logs_account on connection_logs (account_id, id desc);
      create index connection_logs_age on connection_logs (created_at);

      -- How an instance and its machine did, once a minute.
      create table server_stats (
        id bigint primary key generated always as identity,
        server_id text not null,
        instance_id text not null,
        at timestamptz not null default now(),
        -- Percent of the machine, bytes of the machine, bytes of the instance with its browsers.
        cpu double precision not null,
        memory double precision not null,
        memory_bytes bigint not null,
        accounts integer not null,
        connected integer not null,
        messages_per_minute double precision not null,
        -- Sends that failed, of all that ended, from 0 to 1.
        error_rate double precision not null,
        average_response_time_ms double precision,
        p95_response_time_ms double precision,
        p99_response_time_ms double precision,
        uptime_seconds double precision not null
      );
      create index server_stats_at on server_stats (at);
      create index server_stats_server on server_stats (server_id, id desc);

      -- The latest copy of an account's browser profile, encrypted with APP_KEY.
      create table session_snapshots (
        account_id uuid primary key references accounts on delete cascade,
        workspace_id uuid not null,
        -- The assignment under which it was taken: a local profile of an older one is out of date.
        epoch integer not null,
        -- The digest of the content, to see whether it has changed.
        digest text not null,
        size_bytes bigint not null,
        data bytea not null,
        taken_at timestamptz not null default now()
      );
      -- It is compressed and encrypted already.
      alter table session_snapshots alter column data set storage external;
    `);

    await runner.query(`
      create function log_assignment() returns trigger language plpgsql as $$
      declare
        reason text := nullif(current_setting('flotilla.reason', true), '');
        old_server text := coalesce((select server_id from instances where id = old.instance_id), old.pinned_server_id);
        new_server text := coalesce((select server_id from instances where id = new.instance_id), new.pinned_server_id);
      begin
        insert into server_logs (server_id, instance_id, workspace_id, account_id, log_type, message, details)
        values (coalesce(new_server, old_server), new.instance_id, new.workspace_id, new.id, 'info', 'Device assignment changed',
          jsonb_build_object('device_id', new.id, 'old_server', old_server, 'new_server', new_server,
            'old_instance', old.instance_id, 'new_instance', new.instance_id,
            'old_epoch', old.epoch, 'epoch', new.epoch, 'reason', reason));
        return null;
      end $$;
      create trigger account_assignment_logged after update of instance_id, pinned_server_id on accounts for each row
        when (old.instance_id is distinct from new.instance_id or old.pinned_server_id is distinct from new.pinned_server_id)
        execute function log_assignment();

      -- No owner changes without a new epoch, whoever writes.
      create function grow_epoch() returns trigger language plpgsql as $$
      begin
        if new.epoch = old.epoch then new.epoch := old.epoch + 1; end if;
        return new;
      end $$;
      create trigger account_epoch before update of instance_id on accounts for each row
        when (old.instance_id is distinct from new.instance_id) execute function grow_epoch();

      create function log_connection() returns trigger language plpgsql as $$
      declare
        event_type text := case
          when new.qr is distinct from old.qr and new.qr is not null then 'qr_generated'
          when new.pairing_code is distinct from old.pairing_code and new.pairing_code is not null then 'pairing_code_generated'
          when new.status = 'ready' then 'connected'
          when new.status = 'logged_out' then 'logout'
          when new.status = 'failed' then 'error'
          when new.status = 'reconnecting' and new.status_reason like '%timeout%' then 'connection_timeout'
          when new.status in ('starting', 'reconnecting') then 'reconnect_attempt'
          else new.status
        end;
      begin
        insert into connection_logs (workspace_id, account_id, instance_id, epoch, event_type, reason, details)
        values (new.workspace_id, new.id, new.instance_id, new.epoch, event_type, new.status_reason,
          jsonb_build_object('status', new.status, 'previousStatus', old.status, 'statusReason', new.status_reason,
            'desiredState', new.desired_state));
        return null;
      end $$;
      create trigger account_connection_logged after update on accounts for each row
        when (old.status is distinct from new.status or old.status_reason is distinct from new.status_reason
          or (new.qr is not null and new.qr is distinct from old.qr)
          or (new.pairing_code is not null and new.pairing_code is distinct from old.pairing_code))
        execute function log_connection();

      -- From 'claimed' to 'released' one instance may have a browser open for the account, and no other.
      create function log_holder() returns trigger language plpgsql as $$
      begin
        insert into connection_logs (workspace_id, account_id, instance_id, epoch, event_type, details)
        values (new.workspace_id, new.id, coalesce(new.held_by, old.held_by), new.epoch,
          case when new.held_by is null then 'released' else 'claimed' end,
          jsonb_build_object('previousHolder', old.held_by, 'assignedTo', new.instance_id));
        return null;
      end $$;
      create trigger account_holder_logged after update of held_by on accounts for each row
        when (old.held_by is distinct from new.held_by) execute function log_holder();

      create function log_instance() returns trigger language plpgsql as $$
      declare
        new_status text := case when new.is_draining and new.status = 'active' then 'draining' else new.status end;
        old_status text := case when tg_op = 'INSERT' then null
          when old.is_draining and old.status = 'active' then 'draining' else old.status end;
      begin
        if tg_op = 'UPDATE' and new_status is not distinct from old_status
            and new.incarnation is not distinct from old.incarnation then return null; end if;
        insert into server_logs (server_id, instance_id, log_type, message, details)
        values (new.server_id, new.id, case when new_status = 'down' and new.stopped_at is null then 'error' else 'info' end,
          'Instance state changed', jsonb_build_object('instance_id', new.id, 'old_state', old_status,
            'new_state', new_status, 'pid', new.pid, 'reason', nullif(current_setting('flotilla.reason', true), '')));
        insert into events (type, data) values ('instance.status', jsonb_build_object('instanceId', new.id,
          'serverId', new.server_id, 'status', new_status, 'previousStatus', old_status));
        return null;
      end $$;
      create trigger instance_logged after insert or update of status, is_draining, incarnation on instances
        for each row execute function log_instance();

      create function log_server() returns trigger language plpgsql as $$
      declare
        before jsonb := case when tg_op = 'INSERT' then '{}'::jsonb else to_jsonb(old) end;
        changed jsonb;
      begin
        select coalesce(jsonb_object_agg(key, jsonb_build_object('old', before -> key, 'new', value)), '{}') into changed
        from jsonb_each(to_jsonb(new)) where before -> key is distinct from value
          and key not in ('updated_at', 'created_at', 'last_health_check_at', 'response_time_ms', 'health_check_failures');
        if changed = '{}'::jsonb then return null; end if;
        insert into server_logs (server_id, log_type, message, details)
        values (new.id, case when changed -> 'is_healthy' ->> 'new' = 'false' then 'warning' else 'info' end,
          case when tg_op = 'INSERT' then 'Server registered'
               when changed ? 'is_healthy' then 'Server health changed' else 'Server settings changed' end,
          jsonb_build_object('changed', changed, 'reason', nullif(current_setting('flotilla.reason', true), '')));
        return null;
      end $$;
      create trigger server_logged after insert or update on servers for each row execute function log_server();

      -- A channel for each, so that a change wakes nobody else; its name may have 63 characters, an id more.
      create function notify_instance(id text) returns void language sql as $$
        select pg_notify('instance_' || md5(id), '')
      $$;

      -- Tells an instance that an account which it owns, or owned, has changed, at commit: a QR code appears at once, and
      -- a new owner starts as soon as the old one has let go.
      create or replace function notify_instances() returns trigger language plpgsql as $$
      begin
        if new.instance_id is not null and (old.instance_id is distinct from new.instance_id
            or old.desired_state <> new.desired_state or old.epoch <> new.epoch
            or (old.held_by is distinct from new.held_by and new.held_by is null)
            or old.proxy_url is distinct from new.proxy_url
            or old.link_method <> new.link_method or old.link_phone_number is distinct from new.link_phone_number
            or (old.status <> new.status and new.status = 'starting' and new.held_by is null)) then
          perform notify_instance(new.instance_id);
        end if;
        if old.instance_id is not null and old.instance_id is distinct from new.instance_id then
          perform notify_instance(old.instance_id);
        end if;
        return null;
      end $$;
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop table session_snapshots, server_stats, connection_logs, server_logs, load_balancing;
      drop trigger account_assignment_logged on accounts;
      drop trigger account_epoch on accounts;
      drop trigger account_connection_logged on accounts;
      drop trigger account_holder_logged on accounts;
      drop trigger instance_logged on instances;
      drop trigger server_logged on servers;
      drop function log_assignment, grow_epoch, log_connection, log_holder, log_instance, log_server;
      drop function notify_instance;
      alter table accounts drop column held_by, drop column pinned_server_id, drop column move_to,
        drop column moving_since, drop column placement, drop column linked_at;
      alter table instances drop column incarnation, drop column process, drop column is_draining, drop column stopped_at,
        drop column cpu, drop column turn;
      alter table servers drop constraint servers_max_capacity, drop constraint servers_id, drop column url,
        drop column type, drop column region, drop column environment, drop column location, drop column tags,
        drop column priority, drop column weight, drop column is_healthy, drop column health_check_failures,
        drop column response_time_ms, drop column last_health_check_at, drop column metadata, drop column allowed_ips;
      create or replace function notify_instances() returns trigger language plpgsql as $$
      begin
        if new.instance_id is not null and (old.instance_id is distinct from new.instance_id
            or old.desired_state <> new.desired_state or old.epoch <> new.epoch) then
          perform pg_notify('flotilla_accounts', new.instance_id);
        end if;
        if old.instance_id is not null and old.instance_id is distinct from new.instance_id then
          perform pg_notify('flotilla_accounts', old.instance_id);
        end if;
        return null;
      end $$;
    `);
  }
}
