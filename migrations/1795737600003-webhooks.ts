import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Webhooks: the log of events is their outbox. The deliveries of an endpoint are rows, made from the log in its order. A lane
 * (the code says sequence) holds the deliveries of one endpoint for one account, which leave one at a time.
 */
export class Webhooks1795737600003 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create table webhooks (
        id uuid primary key,
        workspace_id uuid not null references workspaces on delete cascade,
        url text not null,
        -- Types, or the beginning of types followed by a *.
        events text[] not null,
        -- Null means every account.
        account_ids uuid[],
        description text,
        -- Encrypted with APP_KEY. The previous secret signs too until it expires.
        secret bytea not null,
        previous_secret bytea,
        previous_secret_expires_at timestamptz,
        is_enabled boolean not null default true,
        -- It gets no event of an earlier transaction.
        active_from xid8 not null default pg_current_xact_id(),
        disabled_reason text check (disabled_reason in ('owner', 'gone', 'failing')),
        disabled_at timestamptz,
        -- Since when every attempt has failed; null when the last attempt succeeded.
        failing_since timestamptz,
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now()
      );
      create index webhooks_workspace on webhooks (workspace_id, id desc);

      create table webhook_deliveries (
        id uuid primary key,
        workspace_id uuid not null references workspaces on delete cascade,
        webhook_id uuid not null references webhooks on delete cascade,
        -- Where the event stands in the log. No foreign key: the log is pruned by its own rule.
        transaction_id xid8 not null,
        event_id bigint not null,
        type text not null,
        account_id uuid,
        -- Events without an account have a lane too.
        lane_id uuid not null generated always as (coalesce(account_id, '00000000-0000-0000-0000-000000000000'::uuid)) stored,
        -- failed: it is tried again; dead: it is not.
        status text not null default 'pending' check (status in ('pending', 'delivered', 'failed', 'dead')),
        attempts integer not null default 0,
        status_code integer,
        duration_ms integer,
        error text,
        response_excerpt text,
        last_attempt_at timestamptz,
        next_attempt_at timestamptz,
        created_at timestamptz not null default now()
      );
      create unique index webhook_deliveries_event on webhook_deliveries (webhook_id, event_id);
      create index webhook_deliveries_webhook on webhook_deliveries (webhook_id, id desc);
      create index webhook_deliveries_dead on webhook_deliveries (webhook_id, id desc) where status = 'dead';
      -- The head of a lane is the first row of this index.
      create index webhook_deliveries_lane on webhook_deliveries (webhook_id, lane_id, transaction_id, event_id)
        where status in ('pending', 'failed');

      create table webhook_lanes (
        webhook_id uuid not null references webhooks on delete cascade,
        lane_id uuid not null,
        workspace_id uuid not null references workspaces on delete cascade,
        -- Grows with every delivery that is added, so that a lane never stops before a delivery that it has not seen.
        version bigint not null default 0,
        -- When its head is to be tried; infinity: it has no head.
        next_attempt_at timestamptz not null default now(),
        -- Who runs it, and until when no other process may.
        claim uuid,
        claimed_until timestamptz,
        delivered bigint not null default 0,
        failed bigint not null default 0,
        primary key (webhook_id, lane_id)
      ) with (fillfactor = 70);
      create index webhook_lanes_due on webhook_lanes (next_attempt_at);
      create index webhook_lanes_claimed on webhook_lanes (webhook_id) where claim is not null;

      -- How far the log has been read; one row.
      create table webhook_cursor (
        is_only boolean primary key default true check (is_only),
        transaction_id xid8 not null,
        event_id bigint not null,
        moved_at timestamptz not null default now()
      );
      insert into webhook_cursor (transaction_id, event_id) values (pg_snapshot_xmin(pg_current_snapshot()), 0);

      -- The log of one workspace, for streams that resume and for replays: those skip by time without a look at the rows.
      create index events_workspace on events (workspace_id, transaction_id, id, created_at);
    `);

    await runner.query(`
      -- The codes by which an account is linked are only for an endpoint that names them in full.
      create function webhook_wants(w webhooks, event_type text, event_account_id uuid) returns boolean
        language sql immutable parallel safe as $$
        select (w.account_ids is null or event_account_id = any(w.account_ids))
          and exists (select from unnest(w.events) pattern where pattern = event_type
            or (right(pattern, 1) = '*' and starts_with(event_type, left(pattern, -1))
              and event_type not in ('account.qr', 'account.pairing_code')))
      $$;

      -- A UUID of version 7, as the programs make them: 48 bits of milliseconds, 12 bits of their fraction, so that ids grow.
      create function webhook_delivery_id() returns uuid language sql volatile parallel safe as $$
        select encode(overlay(uuid_send(gen_random_uuid()) placing substring(int8send(us / 1000) from 3)
          || int2send((28672 + us % 1000 * 4096 / 1000)::smallint) from 1 for 8), 'hex')::uuid
        from (select floor(extract(epoch from clock_timestamp()) * 1000000)::bigint as us) moment
      $$;

      create function publish_webhook_disabled() returns trigger language plpgsql as $$
      begin
        insert into events (workspace_id, type, data) values (new.workspace_id, 'webhook.disabled', jsonb_build_object(
          'webhookId', new.id, 'url', new.url, 'description', new.description, 'reason', new.disabled_reason,
          'failingSince', iso_time(new.failing_since)));
        return null;
      end $$;
      create trigger webhook_disabled after update of is_enabled on webhooks for each row
        when (old.is_enabled and not new.is_enabled and new.disabled_reason <> 'owner')
        execute function publish_webhook_disabled();

      select isolate_workspace('webhooks');
      select isolate_workspace('webhook_deliveries');
      select isolate_workspace('webhook_lanes');
      -- A transaction that adds deliveries locks it, so that the reader of the log comes before or after.
      grant select, update (moved_at) on webhook_cursor to flotilla_tenant;
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop index events_workspace;
      drop table webhook_cursor, webhook_lanes, webhook_deliveries;
      drop function webhook_wants;
      drop table webhooks;
      drop function publish_webhook_disabled, webhook_delivery_id;
    `);
  }
}
