import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * The first schema: tenants, the fleet, the ledger of messages, and the log of public events.
 * Events are written by triggers, in the transaction of the change itself, so that no code path can forget one.
 */
export class Initial1795392000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create table workspaces (
        id uuid primary key,
        name text not null,
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now()
      );

      create table api_keys (
        id uuid primary key,
        workspace_id uuid not null references workspaces on delete cascade,
        name text not null,
        role text not null check (role in ('owner', 'sender', 'viewer')),
        prefix text not null,
        key_hash bytea not null unique,
        expires_at timestamptz,
        allowed_ips text[],
        last_used_at timestamptz,
        created_at timestamptz not null default now()
      );
      create index api_keys_workspace on api_keys (workspace_id);

      create table servers (
        id text primary key,
        name text not null,
        max_capacity integer not null,
        is_enabled boolean not null default true,
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now()
      );

      create table instances (
        id text primary key,
        server_id text not null references servers on delete cascade,
        url text not null,
        pid integer,
        version text,
        status text not null check (status in ('starting', 'active', 'draining', 'down')),
        lease_expires_at timestamptz not null,
        max_accounts integer not null,
        memory_bytes bigint not null default 0,
        started_at timestamptz not null default now()
      );

      create table accounts (
        id uuid primary key,
        workspace_id uuid not null references workspaces on delete cascade,
        name text not null,
        environment text not null check (environment in ('live', 'sandbox')),
        phone_number text,
        lid text,
        desired_state text not null default 'disconnected' check (desired_state in ('connected', 'disconnected')),
        status text not null default 'created' check (status in ('created', 'waiting', 'starting', 'qr', 'pairing',
          'syncing', 'ready', 'reconnecting', 'disconnected', 'conflict', 'logged_out', 'failed')),
        status_reason text,
        -- The assignment: who drives the account. The epoch grows at every change of owner.
        instance_id text references instances on delete set null,
        epoch integer not null default 0,
        -- An instance id that the owner of the account asked for.
        pinned_instance_id text,
        link_method text not null default 'qr' check (link_method in ('qr', 'code')),
        link_phone_number text,
        qr text,
        qr_expires_at timestamptz,
        pairing_code text,
        pairing_code_expires_at timestamptz,
        labels text[] not null default '{}',
        pacing jsonb,
        proxy_url text,
        last_connected_at timestamptz,
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now()
      );
      create index accounts_workspace on accounts (workspace_id, id);
      create index accounts_instance on accounts (instance_id) where desired_state = 'connected';
      create index accounts_waiting on accounts (created_at) where status = 'waiting';

      create table messages (
        id uuid primary key,
        -- The order of a lane: two clocks may disagree, one sequence does not.
        seq bigint not null generated always as identity,
        workspace_id uuid not null references workspaces on delete cascade,
        account_id uuid not null references accounts on delete cascade,
        direction text not null check (direction in ('outgoing', 'incoming')),
        -- 3 urgent, 2 high, 1 normal, 0 campaign
        priority smallint not null default 1 check (priority between 0 and 3),
        type text not null,
        chat_id text not null,
        recipient text not null,
        sender text,
        text text,
        media jsonb,
        status text not null check (status in ('scheduled', 'queued', 'sending', 'sent', 'delivered', 'read', 'played',
          'failed', 'unknown', 'cancelled', 'expired', 'received')),
        error_code text,
        error_message text,
        -- What is still to be done. Indexes look at this instead of the status, so that the steps after 'sent' change no
        -- indexed value, and PostgreSQL writes them without touching an index (a heap-only update).
        stage text generated always as (case when status in ('scheduled', 'queued', 'sending') then status end) stored,
        attempts integer not null default 0,
        whatsapp_id text not null,
        campaign_id uuid,
        reply_to text,
        metadata jsonb not null default '{}',
        created_at timestamptz not null default now(),
        scheduled_for timestamptz,
        expires_at timestamptz,
        -- A queued message is not tried before this time; a message being sent may be taken over after it.
        next_attempt_at timestamptz not null default now(),
        claimed_by text,
        sent_at timestamptz,
        delivered_at timestamptz,
        read_at timestamptz,
        failed_at timestamptz
      ) with (fillfactor = 75);
      -- Two sends of one account at once are impossible.
      create unique index messages_sending on messages (account_id) where stage = 'sending';
      -- The head of a lane is the first row of this index.
      create index messages_lane on messages (account_id, priority desc, seq) where stage = 'queued';
      create index messages_scheduled on messages (scheduled_for) where stage = 'scheduled';
      create index messages_expiring on messages (expires_at) where expires_at is not null and stage in ('scheduled', 'queued');
      -- An incoming message is stored once, an ack finds its message.
      create unique index messages_whatsapp_id on messages (account_id, whatsapp_id);
      create index messages_workspace on messages (workspace_id, id desc);
      create index messages_account on messages (account_id, id desc);
      create index messages_recipient on messages (workspace_id, recipient, id desc) where direction = 'outgoing';

      -- What an Idempotency-Key was first used for.
      create table idempotency_keys (
        workspace_id uuid not null references workspaces on delete cascade,
        key text not null,
        request_hash bytea not null,
        message_id uuid not null,
        created_at timestamptz not null default now(),
        primary key (workspace_id, key)
      );
      create index idempotency_keys_age on idempotency_keys (created_at);

      create table events (
        id bigint primary key generated always as identity,
        -- Readers stop at the oldest running transaction, so no event can appear behind their back (see events.service.ts).
        transaction_id xid8 not null default pg_current_xact_id(),
        -- No foreign keys: four checks a message would cost more than the row, and a log outlives what it tells of.
        workspace_id uuid,
        account_id uuid,
        type text not null,
        data jsonb not null,
        created_at timestamptz not null default now()
      );
      create index events_order on events (transaction_id, id);
      create index events_account on events (account_id, id desc) where type like 'account.%';
    `);

    await runner.query(`
      create function iso_time(value timestamptz) returns text language sql immutable strict parallel safe as $$
        select to_char(value at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
      $$;

      create function message_json(m messages) returns jsonb language sql stable parallel safe as $$
        select jsonb_build_object(
          'id', m.id, 'workspaceId', m.workspace_id, 'accountId', m.account_id, 'direction', m.direction,
          'priority', (array['campaign', 'normal', 'high', 'urgent'])[m.priority + 1], 'type', m.type,
          'to', m.recipient, 'from', m.sender, 'text', m.text, 'media', m.media, 'status', m.status,
          'error', case when m.error_code is null then null
                        else jsonb_build_object('code', m.error_code, 'message', m.error_message) end,
          'attempts', m.attempts, 'whatsappId', m.whatsapp_id, 'campaignId', m.campaign_id, 'replyTo', m.reply_to,
          'metadata', m.metadata, 'createdAt', iso_time(m.created_at), 'scheduledFor', iso_time(m.scheduled_for),
          'sentAt', iso_time(m.sent_at), 'deliveredAt', iso_time(m.delivered_at), 'readAt', iso_time(m.read_at),
          'failedAt', iso_time(m.failed_at))
      $$;

      create function publish_message_event() returns trigger language plpgsql as $$
      begin
        insert into events (workspace_id, account_id, type, data)
        values (new.workspace_id, new.account_id, 'message.' || new.status, message_json(new));
        return null;
      end $$;

      -- 'sending' is our own business; a message that is requeued was announced when it was accepted.
      create trigger message_created after insert on messages for each row execute function publish_message_event();
      create trigger message_changed after update of status on messages for each row
        when (old.status is distinct from new.status and new.status not in ('sending', 'queued', 'scheduled'))
        execute function publish_message_event();

      create function publish_account_event() returns trigger language plpgsql as $$
      begin
        if old.status is distinct from new.status or old.status_reason is distinct from new.status_reason then
          insert into events (workspace_id, account_id, type, data) values (new.workspace_id, new.id, 'account.status',
            jsonb_build_object('accountId', new.id, 'status', new.status, 'statusReason', new.status_reason,
              'previousStatus', old.status, 'desiredState', new.desired_state, 'phoneNumber', new.phone_number,
              'instanceId', new.instance_id, 'epoch', new.epoch));
        end if;
        if new.qr is not null and new.qr is distinct from old.qr then
          insert into events (workspace_id, account_id, type, data) values (new.workspace_id, new.id, 'account.qr',
            jsonb_build_object('accountId', new.id, 'qr', new.qr, 'expiresAt', iso_time(new.qr_expires_at)));
        end if;
        if new.pairing_code is not null and new.pairing_code is distinct from old.pairing_code then
          insert into events (workspace_id, account_id, type, data) values (new.workspace_id, new.id,
            'account.pairing_code', jsonb_build_object('accountId', new.id, 'code', new.pairing_code,
              'expiresAt', iso_time(new.pairing_code_expires_at)));
        end if;
        return null;
      end $$;
      create trigger account_changed after update on accounts for each row execute function publish_account_event();

      -- Tells the instance that an account of its own has changed, at commit, so that a QR code appears at once.
      create function notify_instances() returns trigger language plpgsql as $$
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
      create trigger account_assigned after update on accounts for each row execute function notify_instances();
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop table idempotency_keys, events, messages, accounts, instances, servers, api_keys, workspaces cascade;
      drop function publish_message_event, publish_account_event, notify_instances, message_json, iso_time cascade;
    `);
  }
}
