import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * The fleet with the names of the seeds: `backend_servers`, `devices` and related views over the tables of the fleet. A write
 * through these views has the same effect as the API: a new epoch, an entry in the log, and a notification of the instances.
 *
 * No view changes `accounts.held_by`: an instance with an open browser releases the account itself, and only then a new owner
 * starts. The views take the placement lock before they lock a row, as the programs do, so that no deadlock is possible.
 */
export class SeedsViews1795478400001 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      -- PostgreSQL rounds a numeric only; the seeds round a float to two digits.
      create function round(value double precision, digits integer) returns double precision
        language sql immutable strict parallel safe as $$ select pg_catalog.round(value::numeric, digits)::double precision $$;

      create view backend_servers as
      select s.id, s.name as server_name, s.url as server_url, s.type as server_type, s.region, s.max_capacity,
        -- The accounts that it is to drive, connected or not.
        coalesce(reserved.accounts, 0)::integer as current_load,
        s.is_enabled as is_active, s.is_healthy, s.priority, s.weight, s.environment, s.location, s.tags,
        null::text as api_key, s.last_health_check_at as last_health_check, s.health_check_failures,
        s.response_time_ms as response_time, s.metadata, s.allowed_ips, s.created_at, s.updated_at
      from servers s left join (
        select coalesce(i.server_id, a.pinned_server_id) as server_id, count(*) as accounts
        from accounts a left join instances i on i.id = a.instance_id
        where a.desired_state = 'connected' group by 1
      ) reserved on reserved.server_id = s.id;
      alter view backend_servers alter column id set default 'server-' || left(gen_random_uuid()::text, 8);
      alter view backend_servers alter column server_type set default 'vps';
      alter view backend_servers alter column environment set default 'production';
      alter view backend_servers alter column max_capacity set default 50;
      alter view backend_servers alter column priority set default 0;
      alter view backend_servers alter column weight set default 1;
      alter view backend_servers alter column tags set default '{}';
      alter view backend_servers alter column metadata set default '{}';
      alter view backend_servers alter column is_active set default true;
      alter view backend_servers alter column is_healthy set default true;
      alter view backend_servers alter column health_check_failures set default 0;

      create view devices as
      select a.id::text as id, a.workspace_id as user_id, a.workspace_id, a.name as device_name, a.phone_number,
        case when a.status = 'ready' then 'connected'
             when a.status in ('waiting', 'starting', 'qr', 'pairing', 'syncing', 'reconnecting') then 'connecting'
             -- A conflict too: the seeds look for conflicts among what is disconnected.
             else 'disconnected' end as status,
        a.status as account_status, a.status_reason, a.desired_state,
        coalesce(i.server_id, a.pinned_server_id) as assigned_server_id, a.instance_id as assigned_instance_id, a.epoch,
        a.environment, a.labels, a.last_connected_at, a.created_at, a.updated_at
      from accounts a left join instances i on i.id = a.instance_id;

      create view device_connection_logs as
      select l.id, l.account_id::text as device_id, l.workspace_id as user_id, l.workspace_id, i.server_id, l.instance_id,
        l.epoch, l.event_type, l.reason, case when l.event_type = 'error' then l.reason end as error_message, l.details,
        l.created_at
      from connection_logs l left join instances i on i.id = l.instance_id;

      create view server_health_status as
      select s.id, s.server_name, s.server_url, s.environment, s.location, s.region, s.is_active, s.is_healthy,
        s.last_health_check, s.health_check_failures, s.response_time,
        (select count(*)::integer from instances i where i.server_id = s.id and i.status in ('active', 'draining')
          and i.lease_expires_at > now()) as active_instances,
        s.current_load, latest.*
      from backend_servers s left join lateral (
        -- The newest sample of each instance; percentiles cannot be averaged, so the worst one is told.
        select max(at) as stats_at, (array_agg(cpu order by at desc))[1] as cpu,
          (array_agg(memory order by at desc))[1] as memory, sum(connected)::integer as connected,
          sum(messages_per_minute) as messages_per_minute, avg(error_rate) as error_rate,
          avg(average_response_time_ms) as average_response_time, max(p95_response_time_ms) as p95_response_time,
          max(p99_response_time_ms) as p99_response_time, max(uptime_seconds) as uptime
        from (
          select distinct on (instance_id) * from server_stats
          where server_id = s.id and at > now() - interval '5 minutes' order by instance_id, at desc
        ) newest
      ) latest on true;

      create view server_capacity_overview as
      select s.id, s.server_name, s.environment, s.location, s.region, s.is_active, s.is_healthy, s.max_capacity,
        s.current_load, greatest(s.max_capacity - s.current_load, 0) as available_capacity,
        round(s.current_load::double precision / s.max_capacity * 100, 2) as usage_percentage,
        coalesce(live.instances, 0)::integer as active_instances, coalesce(live.places, 0)::integer as instance_capacity
      from backend_servers s left join (
        select server_id, count(*) as instances, sum(max_accounts) as places from instances
        where status = 'active' and not is_draining and lease_expires_at > now() group by server_id
      ) live on live.server_id = s.id;
    `);

    await runner.query(`
      -- Says in words what the constraints of the table below say by their names only.
      create function check_backend_server(given backend_servers) returns void language plpgsql as $$
      begin
        if given.id !~ '^[A-Za-z0-9_.-]{3,128}$' or given.id like '%..%'
            or lower(given.id) in ('null', 'undefined', 'none', 'admin', 'root', 'system') then
          raise exception 'backend_servers.id is "%": a server id has 3 to 128 letters, digits, "_", "." and "-", no ".." and is no reserved word', given.id
            using errcode = 'check_violation', hint = 'It must be the SERVER_ID of that server.';
        elsif given.max_capacity not between 1 and 100000 then
          raise exception 'max_capacity is %: it must be between 1 and 100000', given.max_capacity
            using errcode = 'check_violation', hint = 'To take a server out of service, set is_active = false.';
        elsif given.weight not between 1 and 1000 then
          raise exception 'weight is %: it must be between 1 and 1000', given.weight using errcode = 'check_violation';
        elsif given.server_url !~* '^https?://[^/]' then
          raise exception 'server_url is "%": it must be an http or https URL', given.server_url
            using errcode = 'check_violation';
        elsif given.api_key is not null then
          raise exception 'servers have no api_key of their own'
            using errcode = 'check_violation', hint = 'All share INTERNAL_API_KEY.';
        end if;
      end $$;

      create function insert_backend_server() returns trigger language plpgsql as $$
      begin
        perform check_backend_server(new);
        if exists (select from servers where id = new.id) then
          raise exception 'there is a server "%" already', new.id
            using errcode = 'unique_violation', hint = 'Change it with: UPDATE backend_servers SET … WHERE id = …';
        end if;
        insert into servers (id, name, url, type, region, environment, location, tags, max_capacity, priority, weight,
          is_enabled, is_healthy, last_health_check_at, health_check_failures, response_time_ms, metadata, allowed_ips)
        values (new.id, coalesce(new.server_name, new.id), new.server_url, new.server_type, new.region, new.environment,
          new.location, new.tags, new.max_capacity, new.priority, new.weight, new.is_active, new.is_healthy,
          new.last_health_check, new.health_check_failures, new.response_time, new.metadata, new.allowed_ips);
        select * into new from backend_servers where id = new.id;
        return new;
      end $$;
      create trigger backend_server_inserted instead of insert on backend_servers
        for each row execute function insert_backend_server();

      create function update_backend_server() returns trigger language plpgsql as $$
      begin
        if new.id is distinct from old.id then
          raise exception 'the id of a server cannot be changed: its instances and logs are named after it'
            using hint = 'Start that server with another SERVER_ID; it registers itself.';
        elsif new.current_load is distinct from old.current_load then
          raise exception 'current_load is counted from the accounts, it cannot be set';
        end if;
        perform check_backend_server(new);
        perform pg_advisory_xact_lock(5127730118);
        update servers set name = new.server_name, url = new.server_url, type = new.server_type, region = new.region,
          environment = new.environment, location = new.location, tags = new.tags, max_capacity = new.max_capacity,
          priority = new.priority, weight = new.weight, is_enabled = new.is_active, is_healthy = new.is_healthy,
          last_health_check_at = new.last_health_check, health_check_failures = new.health_check_failures,
          response_time_ms = new.response_time, metadata = new.metadata, allowed_ips = new.allowed_ips, updated_at = now()
        where id = old.id;
        if not found then return null; end if;
        if (old.is_healthy and not new.is_healthy) or (old.is_active and not new.is_active) then
          perform reassign_devices_on_server_failure(old.id);
        end if;
        select * into new from backend_servers where id = old.id;
        return new;
      end $$;
      create trigger backend_server_updated instead of update on backend_servers
        for each row execute function update_backend_server();

      create function delete_backend_server() returns trigger language plpgsql as $$
      declare
        accounts integer;
        lives text;
      begin
        perform pg_advisory_xact_lock(5127730118);
        accounts := (select count(*) from devices where assigned_server_id = old.id);
        lives := (select string_agg(id, ', ') from instances where server_id = old.id and lease_expires_at > now());
        if accounts > 0 then
          raise exception '% devices are assigned to the server "%"', accounts, old.id using errcode = 'restrict_violation',
            hint = 'Assign them elsewhere first: UPDATE devices SET assigned_server_id = … WHERE assigned_server_id = …';
        elsif lives is not null then
          raise exception 'the server "%" runs: %', old.id, lives using errcode = 'restrict_violation',
            hint = 'Stop its instances first.';
        end if;
        delete from servers where id = old.id;
        return old;
      end $$;
      create trigger backend_server_deleted instead of delete on backend_servers
        for each row execute function delete_backend_server();
    `);

    await runner.query(`
      -- The instance that would take one more account of a server: it lives, it and the server have room, the least loaded.
      create function best_instance_of(wanted_server_id text) returns text language sql stable as $$
        select i.id from instances i join backend_servers s on s.id = i.server_id
        cross join lateral (select count(*) as accounts from accounts a
          where a.instance_id = i.id and a.desired_state = 'connected') reserved
        where i.server_id = wanted_server_id and i.status = 'active' and not i.is_draining and i.lease_expires_at > now()
          and reserved.accounts < i.max_accounts and s.current_load < s.max_capacity
        order by reserved.accounts, i.id limit 1
      $$;

      create function update_device() returns trigger language plpgsql as $$
      declare
        writable constant text[] := '{device_name, status, desired_state, assigned_server_id, updated_at}';
        frozen text := (select string_agg(key, ', ') from jsonb_each(to_jsonb(new) - writable)
          where to_jsonb(old) -> key is distinct from value);
        reassigned boolean := new.assigned_server_id is distinct from old.assigned_server_id;
        cleared boolean := reassigned and new.assigned_server_id is null;
        switched boolean := new.desired_state is distinct from old.desired_state or (cleared and new.status = 'disconnected')
          or (new.status is distinct from old.status and 'disconnected' in (old.status, new.status));
        reason_before text := coalesce(current_setting('flotilla.reason', true), '');
        account accounts;
      begin
        if frozen is not null then
          raise exception 'devices.% cannot be written', frozen
            using hint = 'What can be: ' || array_to_string(writable, ', ') || '. The rest is seen, or changed through the API.';
        elsif new.status is distinct from old.status and new.status is distinct from 'connecting'
            and new.status is distinct from 'disconnected' then
          raise exception 'devices.status cannot be set to "%"', new.status
            using hint = 'Set it to ''connecting'' to want a device connected, to ''disconnected'' to want it off. Whether it is connected is seen, not set.';
        elsif reassigned and not cleared and not exists (select from servers where id = new.assigned_server_id) then
          raise exception 'there is no server "%"', new.assigned_server_id using errcode = 'foreign_key_violation',
            hint = 'SELECT id FROM backend_servers lists the servers. A server registers itself when it starts; INSERT INTO backend_servers registers one beforehand.';
        end if;

        if reassigned then perform pg_advisory_xact_lock(5127730118); end if;
        select * into account from accounts where id = old.id::uuid for update;
        if not found then return null; end if;
        if reassigned then
          if (select assigned_server_id from devices where id = old.id) is distinct from old.assigned_server_id then
            -- Somebody was faster: of two that claim an unassigned device one finds no row, as its WHERE says.
            return null;
          end if;
        end if;

        if switched then
          account.desired_state := case
            when new.desired_state is distinct from old.desired_state then new.desired_state
            when new.status = 'disconnected' then 'disconnected' else 'connected' end;
        end if;
        if reassigned then
          account.instance_id := case when not cleared then best_instance_of(new.assigned_server_id) end;
          account.pinned_server_id := case when account.instance_id is null then new.assigned_server_id end;
          account.epoch := account.epoch + 1;
          account.pinned_instance_id := null;
          account.move_to := null;
          account.moving_since := null;
        end if;
        if account.desired_state = 'disconnected' then
          if switched and account.status not in ('created', 'logged_out') then
            account.status := 'disconnected';
            account.status_reason := 'user_initiated';
          end if;
        elsif reassigned or switched then
          account.status := case when account.instance_id is null then 'waiting' else 'starting' end;
          account.status_reason := case
            when account.instance_id is not null then null
            when account.pinned_server_id is null then 'no server is assigned'
            else 'server ' || account.pinned_server_id || ' has no live instance with room' end;
        end if;
        if reassigned and account.linked_at is not null and not cleared
            and not exists (select from session_snapshots where account_id = account.id) then
          raise warning 'there is no snapshot of the session of device %: unless it lies on the disk of server "%", that asks for a QR code',
            account.id, new.assigned_server_id;
        end if;

        perform set_config('flotilla.reason', 'assigned by SQL', true);
        update accounts set name = new.device_name, desired_state = account.desired_state, status = account.status,
          status_reason = account.status_reason, instance_id = account.instance_id,
          pinned_server_id = account.pinned_server_id, pinned_instance_id = account.pinned_instance_id,
          move_to = account.move_to, moving_since = account.moving_since, epoch = account.epoch,
          qr = case when account.status = 'qr' then qr end, qr_expires_at = case when account.status = 'qr' then qr_expires_at end,
          pairing_code = case when account.status = 'pairing' then pairing_code end,
          pairing_code_expires_at = case when account.status = 'pairing' then pairing_code_expires_at end,
          updated_at = now()
        where id = account.id;
        perform set_config('flotilla.reason', reason_before, true);
        select * into new from devices where id = old.id;
        return new;
      end $$;
      create trigger device_updated instead of update on devices for each row execute function update_device();

      create function refuse_device() returns trigger language plpgsql as $$
      begin
        raise exception 'devices are not created or deleted by SQL' using errcode = 'feature_not_supported',
          hint = 'Use POST /api/v1/accounts and DELETE /api/v1/accounts/:id: a deleted device is also unlinked from its phone.';
      end $$;
      create trigger device_refused instead of insert or delete on devices for each row execute function refuse_device();
    `);

    await runner.query(`
      -- Whether the operator's filters (load_balancing.filters) let accounts onto a server.
      create function is_open_to_placement(server backend_servers) returns boolean language sql stable as $$
        select server.is_active and server.is_healthy and server.current_load < server.max_capacity
          and coalesce(server.environment = filters ->> 'environment', filters ->> 'environment' is null)
          and coalesce(server.location = filters ->> 'location', filters ->> 'location' is null)
          and (coalesce(filters -> 'tags', '[]') <@ to_jsonb(server.tags))
          and server.max_capacity - server.current_load >= coalesce((filters ->> 'minCapacity')::integer, 0)
        from load_balancing
      $$;

      -- The server that a new device would be on by the seeds' order; null when all are full or down.
      create function get_best_available_server() returns text language sql stable as $$
        select id from backend_servers s where is_open_to_placement(s)
        order by priority desc, current_load::double precision / max_capacity, response_time nulls last, id limit 1
      $$;

      -- Moves the devices that are to be connected off a failed server (without a name: off all that are unhealthy or
      -- inactive) and returns how many moved. A device whose session lies only on the failed server's disk stays.
      create function reassign_devices_on_server_failure(failed_server_id text default null) returns integer
      language plpgsql as $$
      declare
        reason_before text := coalesce(current_setting('flotilla.reason', true), '');
        stranded uuid[];
        moved integer;
      begin
        if failed_server_id is not null and not exists (select from servers where id = failed_server_id) then
          raise exception 'there is no server "%"', failed_server_id
            using hint = 'SELECT id FROM backend_servers lists the servers.';
        end if;
        perform pg_advisory_xact_lock(5127730118);
        stranded := array(
          select a.id from accounts a left join instances i on i.id = a.instance_id
          join servers s on s.id = coalesce(i.server_id, a.pinned_server_id)
          where a.desired_state = 'connected'
            and case when failed_server_id is null then not (s.is_healthy and s.is_enabled) else s.id = failed_server_id end
            and (a.linked_at is null or exists (select from session_snapshots p where p.account_id = a.id))
          order by a.id for update of a);
        perform set_config('flotilla.reason', 'server failure', true);
        with open as materialized (
          select * from backend_servers s where is_open_to_placement(s) and s.id is distinct from failed_server_id
        ), live as (
          select i.id, i.server_id, i.max_accounts, (select count(*) from accounts a
            where a.instance_id = i.id and a.desired_state = 'connected') as reserved
          from instances i where i.status = 'active' and not i.is_draining and i.lease_expires_at > now()
        ), places as (
          -- Each free place of a server, in the order in which its least loaded instance would be filled.
          select s.*, live.id as instance_id,
            row_number() over (partition by s.id order by live.reserved + place, live.id) as number_on_server
          from open s join live on live.server_id = s.id
          cross join generate_series(1, least(live.max_accounts - live.reserved, cardinality(stranded))) place
        ), queue as (
          -- All of them in the order of get_best_available_server(), as if it were asked again for each device.
          select instance_id, row_number() over (order by priority desc,
            (current_load + number_on_server - 1)::double precision / max_capacity, response_time nulls last, id) as number
          from places where current_load + number_on_server <= max_capacity
        ), moving as (
          -- A device with filters of its own waits for the scheduler, which knows them.
          select id, case when is_plain then row_number() over (partition by is_plain order by id) end as number
          from (select id, coalesce(placement, '{}') = '{}' as is_plain from accounts where id = any(stranded)) a
        ), updated as (
          update accounts a set instance_id = queue.instance_id, pinned_server_id = null, move_to = null,
            moving_since = null, epoch = a.epoch + 1,
            -- What waits for a person's decision goes on waiting for it.
            status = case when a.status in ('conflict', 'failed', 'logged_out') then a.status
              when queue.instance_id is null then 'waiting' else 'starting' end,
            status_reason = case when a.status in ('conflict', 'failed', 'logged_out') then a.status_reason
              when queue.instance_id is null then 'its server failed and no other has room' end,
            qr = null, qr_expires_at = null, pairing_code = null, pairing_code_expires_at = null, updated_at = now()
          from moving left join queue on queue.number = moving.number where a.id = moving.id
          returning a.instance_id
        )
        select count(instance_id) into moved from updated;
        perform set_config('flotilla.reason', reason_before, true);
        return moved;
      end $$;
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop view server_health_status, server_capacity_overview, device_connection_logs;
      drop function reassign_devices_on_server_failure, get_best_available_server;
      drop function is_open_to_placement, check_backend_server;
      drop view devices, backend_servers;
      drop function refuse_device, update_device, delete_backend_server, update_backend_server, insert_backend_server;
      drop function best_instance_of, round(double precision, integer);
    `);
  }
}
