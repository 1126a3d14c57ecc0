-- The schema that the migrations make. Written by "npm run schema"; a test compares it with a migrated database.

create table account_pacing (
  account_id uuid not null,
  workspace_id uuid not null,
  next_send_at timestamp with time zone[] not null default array_fill('1970-01-01 00:00:00+00'::timestamp with time zone, ARRAY[4]),
  burst_sent integer not null default 0,
  last_sent_at timestamp with time zone,
  day date,
  cold_sent integer not null default 0,
  replies_sent integer not null default 0,
  warm_up_from date,
  cold_closed_until timestamp with time zone,
  replies_closed_until timestamp with time zone,
  counted_message_id uuid,
  before_message jsonb,
  refusals integer not null default 0,
  pause_after integer not null,
  cool_down interval not null,
  cold_paused_until timestamp with time zone,
  cold_pause_reason text,
  marking_after uuid,
  constraint account_pacing_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id) ON DELETE CASCADE,
  constraint account_pacing_next_send_at_check CHECK ((cardinality(next_send_at) = 4)),
  constraint account_pacing_pkey PRIMARY KEY (account_id)
);
alter table account_pacing set (fillfactor=50);
CREATE INDEX account_pacing_marking ON public.account_pacing USING btree (account_id) WHERE (marking_after IS NOT NULL);
CREATE INDEX account_pacing_paused ON public.account_pacing USING btree (cold_paused_until) WHERE (cold_paused_until IS NOT NULL);
CREATE TRIGGER account_cold_lane AFTER UPDATE OF cold_paused_until ON public.account_pacing FOR EACH ROW WHEN ((old.cold_paused_until IS DISTINCT FROM new.cold_paused_until)) EXECUTE FUNCTION publish_pacing_event();
alter table account_pacing enable row level security;
create policy workspace on account_pacing for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on account_pacing to flotilla_tenant;

create table accounts (
  id uuid not null,
  workspace_id uuid not null,
  name text not null,
  environment text not null,
  phone_number text,
  lid text,
  desired_state text not null default 'disconnected'::text,
  status text not null default 'created'::text,
  status_reason text,
  instance_id text,
  epoch integer not null default 0,
  pinned_instance_id text,
  link_method text not null default 'qr'::text,
  link_phone_number text,
  qr text,
  qr_expires_at timestamp with time zone,
  pairing_code text,
  pairing_code_expires_at timestamp with time zone,
  labels text[] not null default '{}'::text[],
  pacing jsonb,
  proxy_url text,
  last_connected_at timestamp with time zone,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  held_by text,
  pinned_server_id text,
  move_to text,
  moving_since timestamp with time zone,
  placement jsonb,
  linked_at timestamp with time zone,
  web_version text,
  web_contract text,
  web_missing jsonb,
  web_checked_at timestamp with time zone,
  receive jsonb not null default '{"stories": false, "channels": false}'::jsonb,
  proxy_credentials bytea,
  auto_read boolean not null default false,
  reject_calls boolean not null default false,
  call_answer text,
  allow_number_change boolean not null default false,
  refused_number text,
  constraint accounts_desired_state_check CHECK ((desired_state = ANY (ARRAY['connected'::text, 'disconnected'::text]))),
  constraint accounts_environment_check CHECK ((environment = ANY (ARRAY['live'::text, 'sandbox'::text]))),
  constraint accounts_held_by_fkey FOREIGN KEY (held_by) REFERENCES instances(id) ON DELETE SET NULL,
  constraint accounts_instance_id_fkey FOREIGN KEY (instance_id) REFERENCES instances(id) ON DELETE SET NULL,
  constraint accounts_link_method_check CHECK ((link_method = ANY (ARRAY['qr'::text, 'code'::text]))),
  constraint accounts_move_to_fkey FOREIGN KEY (move_to) REFERENCES instances(id) ON DELETE SET NULL,
  constraint accounts_pinned_server_id_fkey FOREIGN KEY (pinned_server_id) REFERENCES servers(id) ON DELETE SET NULL,
  constraint accounts_pkey PRIMARY KEY (id),
  constraint accounts_status_check CHECK ((status = ANY (ARRAY['created'::text, 'waiting'::text, 'starting'::text, 'qr'::text, 'pairing'::text, 'syncing'::text, 'ready'::text, 'reconnecting'::text, 'disconnected'::text, 'conflict'::text, 'logged_out'::text, 'failed'::text]))),
  constraint accounts_web_contract_check CHECK ((web_contract = ANY (ARRAY['ok'::text, 'broken'::text]))),
  constraint accounts_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
);
CREATE INDEX accounts_held ON public.accounts USING btree (held_by) WHERE (held_by IS NOT NULL);
CREATE INDEX accounts_instance ON public.accounts USING btree (instance_id) WHERE (desired_state = 'connected'::text);
CREATE INDEX accounts_moving ON public.accounts USING btree (moving_since) WHERE ((moving_since IS NOT NULL) OR (move_to IS NOT NULL));
CREATE INDEX accounts_waiting ON public.accounts USING btree (created_at) WHERE (status = 'waiting'::text);
CREATE INDEX accounts_workspace ON public.accounts USING btree (workspace_id, id);
CREATE TRIGGER account_assigned AFTER UPDATE ON public.accounts FOR EACH ROW EXECUTE FUNCTION notify_instances();
CREATE TRIGGER account_assignment_logged AFTER UPDATE OF instance_id, pinned_server_id ON public.accounts FOR EACH ROW WHEN (((old.instance_id IS DISTINCT FROM new.instance_id) OR (old.pinned_server_id IS DISTINCT FROM new.pinned_server_id))) EXECUTE FUNCTION log_assignment();
CREATE TRIGGER account_changed AFTER UPDATE ON public.accounts FOR EACH ROW EXECUTE FUNCTION publish_account_event();
CREATE TRIGGER account_connection_logged AFTER UPDATE ON public.accounts FOR EACH ROW WHEN (((old.status IS DISTINCT FROM new.status) OR (old.status_reason IS DISTINCT FROM new.status_reason) OR ((new.qr IS NOT NULL) AND (new.qr IS DISTINCT FROM old.qr)) OR ((new.pairing_code IS NOT NULL) AND (new.pairing_code IS DISTINCT FROM old.pairing_code)))) EXECUTE FUNCTION log_connection();
CREATE TRIGGER account_epoch BEFORE UPDATE OF instance_id ON public.accounts FOR EACH ROW WHEN ((old.instance_id IS DISTINCT FROM new.instance_id)) EXECUTE FUNCTION grow_epoch();
CREATE TRIGGER account_holder_logged AFTER UPDATE OF held_by ON public.accounts FOR EACH ROW WHEN ((old.held_by IS DISTINCT FROM new.held_by)) EXECUTE FUNCTION log_holder();
CREATE TRIGGER account_other_number AFTER UPDATE OF phone_number ON public.accounts FOR EACH ROW WHEN ((old.phone_number <> new.phone_number)) EXECUTE FUNCTION begin_pacing_anew();
CREATE TRIGGER account_web_incompatible AFTER UPDATE OF web_contract, web_missing ON public.accounts FOR EACH ROW WHEN (((new.web_contract = 'broken'::text) AND ((old.web_contract IS DISTINCT FROM 'broken'::text) OR (old.web_missing IS DISTINCT FROM new.web_missing)))) EXECUTE FUNCTION publish_web_incompatible();
CREATE TRIGGER account_web_version AFTER UPDATE OF web_checked_at ON public.accounts FOR EACH ROW WHEN ((new.web_version IS NOT NULL)) EXECUTE FUNCTION record_web_version();
alter table accounts enable row level security;
create policy workspace on accounts for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on accounts to flotilla_tenant;

create table api_keys (
  id uuid not null,
  workspace_id uuid not null,
  name text not null,
  role text not null,
  prefix text not null,
  key_hash bytea not null,
  expires_at timestamp with time zone,
  allowed_ips text[],
  last_used_at timestamp with time zone,
  created_at timestamp with time zone not null default now(),
  replaced_by uuid,
  constraint api_keys_key_hash_key UNIQUE (key_hash),
  constraint api_keys_pkey PRIMARY KEY (id),
  constraint api_keys_replaced_by_fkey FOREIGN KEY (replaced_by) REFERENCES api_keys(id) ON DELETE SET NULL,
  constraint api_keys_role_check CHECK ((role = ANY (ARRAY['owner'::text, 'sender'::text, 'viewer'::text]))),
  constraint api_keys_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
);
CREATE INDEX api_keys_workspace ON public.api_keys USING btree (workspace_id);
CREATE TRIGGER key_changed AFTER UPDATE OF role, expires_at, allowed_ips ON public.api_keys FOR EACH ROW EXECUTE FUNCTION notify_key();
CREATE TRIGGER key_created AFTER INSERT ON public.api_keys FOR EACH ROW EXECUTE FUNCTION notify_new_key();
CREATE TRIGGER key_deleted AFTER DELETE ON public.api_keys FOR EACH ROW EXECUTE FUNCTION notify_key();
alter table api_keys enable row level security;
create policy workspace on api_keys for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on api_keys to flotilla_tenant;

create table audit_log (
  id bigint not null generated always as identity,
  created_at timestamp with time zone not null default now(),
  actor text not null,
  key_id uuid,
  key_prefix text,
  workspace_id uuid,
  ip text not null,
  method text not null,
  route text not null,
  target_id text,
  status integer not null,
  request_id text not null,
  constraint audit_log_actor_check CHECK ((actor = ANY (ARRAY['admin'::text, 'key'::text, 'unknown'::text]))),
  constraint audit_log_pkey PRIMARY KEY (id)
);
CREATE INDEX audit_log_workspace ON public.audit_log USING btree (workspace_id, id DESC) WHERE (workspace_id IS NOT NULL);
alter table audit_log enable row level security;
create policy workspace on audit_log for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));

create table campaign_accounts (
  campaign_id uuid not null,
  account_id uuid not null,
  workspace_id uuid not null,
  day date,
  sent_today integer not null default 0,
  batch_sent integer not null default 0,
  last_sent_at timestamp with time zone,
  next_at timestamp with time zone,
  last_message_id uuid,
  constraint campaign_accounts_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id) ON DELETE CASCADE,
  constraint campaign_accounts_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES campaigns(id) ON DELETE CASCADE,
  constraint campaign_accounts_pkey PRIMARY KEY (campaign_id, account_id),
  constraint campaign_accounts_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
);
CREATE INDEX campaign_accounts_account ON public.campaign_accounts USING btree (account_id);
CREATE INDEX campaign_accounts_workspace ON public.campaign_accounts USING btree (workspace_id);
alter table campaign_accounts enable row level security;
create policy workspace on campaign_accounts for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on campaign_accounts to flotilla_tenant;

create table campaign_changes (
  campaign_id uuid not null,
  workspace_id uuid not null,
  old_status text,
  new_status text,
  recipients bigint not null default 1,
  constraint campaign_changes_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
);
CREATE INDEX campaign_changes_campaign ON public.campaign_changes USING btree (campaign_id);
alter table campaign_changes enable row level security;
create policy workspace on campaign_changes for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on campaign_changes to flotilla_tenant;

create table campaign_invalid_lines (
  campaign_id uuid not null,
  workspace_id uuid not null,
  line bigint not null,
  fingerprint text not null,
  column text not null,
  reason text not null,
  value text not null,
  fields jsonb not null,
  constraint campaign_invalid_lines_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES campaigns(id) ON DELETE CASCADE,
  constraint campaign_invalid_lines_pkey PRIMARY KEY (campaign_id, line, fingerprint)
);
alter table campaign_invalid_lines enable row level security;
create policy workspace on campaign_invalid_lines for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on campaign_invalid_lines to flotilla_tenant;

create table campaign_recipients (
  campaign_id uuid not null,
  id uuid not null,
  workspace_id uuid not null,
  person text not null,
  recipient text not null,
  variables jsonb not null default '{}'::jsonb,
  account_id uuid,
  is_dealt boolean not null default false,
  replied_at timestamp with time zone,
  zone text not null default 'ZZ'::text,
  variant text,
  constraint campaign_recipients_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES campaigns(id) ON DELETE CASCADE,
  constraint campaign_recipients_pkey PRIMARY KEY (campaign_id, id)
);
CREATE INDEX campaign_recipients_waiting ON public.campaign_recipients USING btree (campaign_id, zone, account_id, id) WHERE (NOT is_dealt);
CREATE UNIQUE INDEX campaign_recipients_person ON public.campaign_recipients USING btree (campaign_id, person);
alter table campaign_recipients enable row level security;
create policy workspace on campaign_recipients for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on campaign_recipients to flotilla_tenant;

create table campaign_zones (
  campaign_id uuid not null,
  workspace_id uuid not null,
  zone text not null,
  opens_at timestamp with time zone not null default 'infinity'::timestamp with time zone,
  closes_at timestamp with time zone not null default '-infinity'::timestamp with time zone,
  constraint campaign_zones_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES campaigns(id) ON DELETE CASCADE,
  constraint campaign_zones_pkey PRIMARY KEY (campaign_id, zone)
);
alter table campaign_zones enable row level security;
create policy workspace on campaign_zones for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on campaign_zones to flotilla_tenant;

create table campaigns (
  id uuid not null,
  workspace_id uuid not null,
  name text not null,
  status text not null default 'draft'::text,
  pause_reason text,
  message jsonb not null,
  country text,
  start_at timestamp with time zone,
  counts jsonb not null default '{}'::jsonb,
  invalid_count bigint not null default 0,
  duplicate_count bigint not null default 0,
  columns jsonb not null default '[]'::jsonb,
  created_at timestamp with time zone not null default now(),
  started_at timestamp with time zone,
  finished_at timestamp with time zone,
  pacing jsonb,
  times jsonb,
  safety jsonb,
  not_within_days integer,
  variants jsonb,
  template_id uuid,
  template_version integer,
  is_paced boolean not null default false,
  watched_from timestamp with time zone,
  constraint campaigns_pkey PRIMARY KEY (id),
  constraint campaigns_status_check CHECK ((status = ANY (ARRAY['draft'::text, 'scheduled'::text, 'running'::text, 'paused'::text, 'completed'::text, 'cancelled'::text]))),
  constraint campaigns_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
);
CREATE INDEX campaigns_due ON public.campaigns USING btree (start_at) WHERE (status = 'scheduled'::text);
CREATE INDEX campaigns_running ON public.campaigns USING btree (id) WHERE (status = 'running'::text);
CREATE INDEX campaigns_workspace ON public.campaigns USING btree (workspace_id, id DESC);
CREATE TRIGGER campaign_status_changed AFTER UPDATE OF status ON public.campaigns FOR EACH ROW WHEN ((old.status IS DISTINCT FROM new.status)) EXECUTE FUNCTION publish_campaign_status();
alter table campaigns enable row level security;
create policy workspace on campaigns for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on campaigns to flotilla_tenant;

create table connection_logs (
  id bigint not null generated always as identity,
  workspace_id uuid not null,
  account_id uuid not null,
  instance_id text,
  epoch integer not null,
  event_type text not null,
  reason text,
  details jsonb not null default '{}'::jsonb,
  created_at timestamp with time zone not null default now(),
  constraint connection_logs_pkey PRIMARY KEY (id)
);
CREATE INDEX connection_logs_account ON public.connection_logs USING btree (account_id, id DESC);
CREATE INDEX connection_logs_age ON public.connection_logs USING btree (created_at);
alter table connection_logs enable row level security;
create policy workspace on connection_logs for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant insert, select on connection_logs to flotilla_tenant;

create table contacts (
  account_id uuid not null,
  chat_id text not null,
  constraint contacts_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id) ON DELETE CASCADE,
  constraint contacts_pkey PRIMARY KEY (account_id, chat_id)
);
alter table contacts enable row level security;
create policy workspace on contacts for all to flotilla_tenant using ((EXISTS ( SELECT
   FROM accounts a
  WHERE ((a.id = contacts.account_id) AND (a.workspace_id = current_workspace())))));
grant delete, insert, select on contacts to flotilla_tenant;

create table events (
  id bigint not null generated always as identity,
  transaction_id xid8 not null default pg_current_xact_id(),
  workspace_id uuid,
  account_id uuid,
  type text not null,
  data jsonb not null,
  created_at timestamp with time zone not null default now(),
  constraint events_pkey PRIMARY KEY (id)
);
CREATE INDEX events_account ON public.events USING btree (account_id, id DESC) WHERE (type ~~ 'account.%'::text);
CREATE INDEX events_order ON public.events USING btree (transaction_id, id);
CREATE INDEX events_workspace ON public.events USING btree (workspace_id, transaction_id, id, created_at);
CREATE UNIQUE INDEX events_call ON public.events USING btree (account_id, ((data ->> 'callId'::text)), type) WHERE (type ~~ 'call.%'::text);
CREATE UNIQUE INDEX events_group_notice ON public.events USING btree (account_id, ((data ->> 'groupId'::text)), ((data ->> 'noticeId'::text))) WHERE (type ~~ 'group.%'::text);
alter table events enable row level security;
create policy workspace on events for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant insert, select on events to flotilla_tenant;

create table failed_jobs (
  id uuid not null,
  queue text not null,
  job_id text not null,
  name text not null,
  data jsonb not null,
  exception text not null,
  attempts integer not null,
  failed_at timestamp(3) with time zone not null default now(),
  message_id uuid,
  workspace_id uuid,
  constraint failed_jobs_message_id_fkey FOREIGN KEY (message_id) REFERENCES messages(id) ON DELETE CASCADE,
  constraint failed_jobs_pkey PRIMARY KEY (id),
  constraint failed_jobs_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
);
CREATE INDEX failed_jobs_age ON public.failed_jobs USING btree (failed_at DESC, id DESC);
CREATE INDEX failed_jobs_message ON public.failed_jobs USING btree (message_id) WHERE (message_id IS NOT NULL);
CREATE INDEX failed_jobs_timed_out ON public.failed_jobs USING btree (message_id) WHERE ((message_id IS NOT NULL) AND (exception ~~ 'job.timed_out:%'::text));
CREATE INDEX failed_jobs_workspace ON public.failed_jobs USING btree (workspace_id) WHERE (workspace_id IS NOT NULL);
CREATE UNIQUE INDEX failed_jobs_job ON public.failed_jobs USING btree (queue, job_id);
alter table failed_jobs enable row level security;
create policy workspace on failed_jobs for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on failed_jobs to flotilla_tenant;

create table idempotency_keys (
  workspace_id uuid not null,
  key text not null,
  request_hash bytea not null,
  message_id uuid not null,
  created_at timestamp with time zone not null default now(),
  constraint idempotency_keys_pkey PRIMARY KEY (workspace_id, key),
  constraint idempotency_keys_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
);
CREATE INDEX idempotency_keys_age ON public.idempotency_keys USING btree (created_at);
alter table idempotency_keys enable row level security;
create policy workspace on idempotency_keys for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant insert, select on idempotency_keys to flotilla_tenant;

create table instances (
  id text not null,
  server_id text not null,
  url text not null,
  pid integer,
  version text,
  status text not null,
  lease_expires_at timestamp with time zone not null,
  max_accounts integer not null,
  memory_bytes bigint not null default 0,
  started_at timestamp with time zone not null default now(),
  incarnation uuid,
  process text,
  is_draining boolean not null default false,
  stopped_at timestamp with time zone,
  cpu double precision not null default 0,
  turn double precision not null default 0,
  constraint instances_pkey PRIMARY KEY (id),
  constraint instances_server_id_fkey FOREIGN KEY (server_id) REFERENCES servers(id) ON DELETE CASCADE,
  constraint instances_status_check CHECK ((status = ANY (ARRAY['starting'::text, 'active'::text, 'draining'::text, 'down'::text])))
);
CREATE TRIGGER instance_logged AFTER INSERT OR UPDATE OF status, is_draining, incarnation ON public.instances FOR EACH ROW EXECUTE FUNCTION log_instance();
grant select on instances to flotilla_tenant;
grant update (turn) on instances to flotilla_tenant;

create table load_balancing (
  only_row boolean not null default true,
  strategy text not null default 'least_sessions'::text,
  shard_size integer,
  filters jsonb not null default '{}'::jsonb,
  updated_at timestamp with time zone not null default now(),
  constraint load_balancing_only_row_check CHECK (only_row),
  constraint load_balancing_pkey PRIMARY KEY (only_row),
  constraint load_balancing_shard_size_check CHECK (((shard_size >= 1) AND (shard_size <= 1000))),
  constraint load_balancing_strategy_check CHECK ((strategy = ANY (ARRAY['least_sessions'::text, 'round_robin'::text, 'weighted_round_robin'::text, 'least_connections'::text, 'priority_first'::text])))
);
grant select on load_balancing to flotilla_tenant;

create table media (
  id uuid not null,
  workspace_id uuid not null,
  blob_id uuid not null,
  sha256 bytea not null,
  size bigint not null,
  mimetype text not null,
  filename text,
  source text not null,
  created_at timestamp with time zone not null default now(),
  last_used_at timestamp with time zone not null default now(),
  constraint media_blob_id_fkey FOREIGN KEY (blob_id) REFERENCES media_blobs(id),
  constraint media_pkey PRIMARY KEY (id),
  constraint media_source_check CHECK ((source = ANY (ARRAY['upload'::text, 'url'::text, 'data'::text, 'incoming'::text]))),
  constraint media_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
);
CREATE INDEX media_age ON public.media USING btree (last_used_at);
CREATE INDEX media_blob ON public.media USING btree (blob_id);
CREATE INDEX media_workspace ON public.media USING btree (workspace_id, id DESC);
CREATE UNIQUE INDEX media_same ON public.media USING btree (workspace_id, sha256, mimetype, COALESCE(filename, ''::text));
CREATE TRIGGER media_counted AFTER INSERT ON public.media REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_media();
CREATE TRIGGER media_uncounted AFTER DELETE ON public.media REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_media();
alter table media enable row level security;
create policy workspace on media for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on media to flotilla_tenant;

create table media_blobs (
  id uuid not null,
  sha256 bytea not null,
  size bigint not null,
  state text not null default 'writing'::text,
  refs integer not null default 0,
  created_at timestamp with time zone not null default now(),
  constraint media_blobs_pkey PRIMARY KEY (id),
  constraint media_blobs_refs_check CHECK ((refs >= 0)),
  constraint media_blobs_sha256_check CHECK ((length(sha256) = 32)),
  constraint media_blobs_size_check CHECK ((size > 0)),
  constraint media_blobs_state_check CHECK ((state = ANY (ARRAY['writing'::text, 'kept'::text, 'doomed'::text])))
);
CREATE INDEX media_blobs_removable ON public.media_blobs USING btree (state, created_at) WHERE ((state <> 'kept'::text) OR (refs = 0));
CREATE UNIQUE INDEX media_blobs_content ON public.media_blobs USING btree (sha256) WHERE (state = 'kept'::text);

create table message_rates (
  workspace_id uuid not null,
  minute timestamp with time zone not null,
  accepted integer not null,
  granted integer not null,
  constraint message_rates_pkey PRIMARY KEY (workspace_id),
  constraint message_rates_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
);
alter table message_rates set (fillfactor=50);
alter table message_rates enable row level security;
create policy workspace on message_rates for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on message_rates to flotilla_tenant;

create table message_template_versions (
  template_id uuid not null,
  workspace_id uuid not null,
  version integer not null,
  message jsonb not null,
  created_at timestamp with time zone not null default now(),
  constraint message_template_versions_pkey PRIMARY KEY (template_id, version),
  constraint message_template_versions_template_id_fkey FOREIGN KEY (template_id) REFERENCES message_templates(id) ON DELETE CASCADE
);
alter table message_template_versions enable row level security;
create policy workspace on message_template_versions for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on message_template_versions to flotilla_tenant;

create table message_templates (
  id uuid not null,
  workspace_id uuid not null,
  name text not null,
  version integer not null default 1,
  created_at timestamp with time zone not null default now(),
  constraint message_templates_pkey PRIMARY KEY (id),
  constraint message_templates_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
);
CREATE INDEX message_templates_workspace ON public.message_templates USING btree (workspace_id, id DESC);
alter table message_templates enable row level security;
create policy workspace on message_templates for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on message_templates to flotilla_tenant;

create table messages (
  id uuid not null,
  seq bigint not null generated always as identity,
  workspace_id uuid not null,
  account_id uuid not null,
  direction text not null,
  priority smallint not null default 1,
  type text not null,
  chat_id text not null,
  recipient text not null,
  sender text,
  text text,
  media jsonb,
  status text not null,
  error_code text,
  error_message text,
  stage text generated always as (
CASE
    WHEN (status = ANY (ARRAY['scheduled'::text, 'queued'::text, 'sending'::text])) THEN status
    ELSE NULL::text
END) stored,
  attempts integer not null default 0,
  whatsapp_id text not null,
  campaign_id uuid,
  reply_to text,
  metadata jsonb not null default '{}'::jsonb,
  created_at timestamp with time zone not null default now(),
  scheduled_for timestamp with time zone,
  expires_at timestamp with time zone,
  next_attempt_at timestamp with time zone not null default now(),
  claimed_by text,
  sent_at timestamp with time zone,
  delivered_at timestamp with time zone,
  read_at timestamp with time zone,
  failed_at timestamp with time zone,
  resends integer not null default 0,
  edited_at timestamp with time zone,
  revoked_at timestamp with time zone,
  reactions jsonb not null default '[]'::jsonb,
  is_cold boolean,
  content jsonb,
  votes jsonb not null default '[]'::jsonb,
  media_due_at timestamp with time zone,
  media_attempts smallint not null default 0,
  in_question_since timestamp with time zone,
  awaited_status text,
  ended text,
  is_from_device boolean not null default false,
  constraint messages_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id) ON DELETE CASCADE,
  constraint messages_direction_check CHECK ((direction = ANY (ARRAY['outgoing'::text, 'incoming'::text]))),
  constraint messages_pkey PRIMARY KEY (id),
  constraint messages_priority_check CHECK (((priority >= 0) AND (priority <= 3))),
  constraint messages_status_check CHECK ((status = ANY (ARRAY['scheduled'::text, 'queued'::text, 'sending'::text, 'sent'::text, 'delivered'::text, 'read'::text, 'played'::text, 'failed'::text, 'unknown'::text, 'cancelled'::text, 'expired'::text, 'received'::text]))),
  constraint messages_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
);
alter table messages set (fillfactor=75);
CREATE INDEX messages_account ON public.messages USING btree (account_id, id DESC);
CREATE INDEX messages_campaign ON public.messages USING btree (campaign_id, id) WHERE (campaign_id IS NOT NULL);
CREATE INDEX messages_campaign_chat ON public.messages USING btree (account_id, chat_id) WHERE (campaign_id IS NOT NULL);
CREATE INDEX messages_campaign_waiting ON public.messages USING btree (campaign_id, account_id) WHERE ((campaign_id IS NOT NULL) AND (stage IS NOT NULL));
CREATE INDEX messages_cold ON public.messages USING btree (account_id, chat_id) WHERE (is_cold AND (stage IS NOT NULL));
CREATE INDEX messages_ended ON public.messages USING btree (workspace_id, ended, id DESC) WHERE (ended IS NOT NULL);
CREATE INDEX messages_expiring ON public.messages USING btree (expires_at) WHERE ((expires_at IS NOT NULL) AND (stage = ANY (ARRAY['scheduled'::text, 'queued'::text])));
CREATE INDEX messages_incoming ON public.messages USING btree (workspace_id, id DESC) WHERE (direction = 'incoming'::text);
CREATE INDEX messages_lane ON public.messages USING btree (account_id, priority DESC, seq) WHERE (stage = 'queued'::text);
CREATE INDEX messages_lane_kind ON public.messages USING btree (account_id, is_cold, priority DESC, seq) WHERE ((stage = 'queued'::text) AND (is_cold IS NOT NULL));
CREATE INDEX messages_later ON public.messages USING btree (workspace_id, id DESC) WHERE (stage = 'scheduled'::text);
CREATE INDEX messages_media_due ON public.messages USING btree (media_due_at) WHERE (media_due_at IS NOT NULL);
CREATE INDEX messages_reacted ON public.messages USING btree (account_id, id DESC) WHERE (reactions <> '[]'::jsonb);
CREATE INDEX messages_recipient ON public.messages USING btree (workspace_id, recipient, id DESC) WHERE (direction = 'outgoing'::text);
CREATE INDEX messages_scheduled ON public.messages USING btree (scheduled_for) INCLUDE (priority) WHERE (stage = 'scheduled'::text);
CREATE INDEX messages_sent ON public.messages USING btree (account_id, sent_at DESC) WHERE ((direction = 'outgoing'::text) AND (stage IS NULL) AND (sent_at IS NOT NULL));
CREATE INDEX messages_waiting_media ON public.messages USING btree (((media ->> 'mediaId'::text))) WHERE ((media IS NOT NULL) AND (stage IS NOT NULL));
CREATE INDEX messages_workspace ON public.messages USING btree (workspace_id, id DESC);
CREATE UNIQUE INDEX messages_sending ON public.messages USING btree (account_id) WHERE (stage = 'sending'::text);
CREATE UNIQUE INDEX messages_whatsapp_id ON public.messages USING btree (account_id, whatsapp_id);
CREATE TRIGGER message_acted_on AFTER UPDATE OF edited_at, revoked_at, reactions, votes ON public.messages FOR EACH ROW EXECUTE FUNCTION publish_message_action();
CREATE TRIGGER message_answers AFTER INSERT ON public.messages FOR EACH ROW WHEN (((new.direction = 'incoming'::text) AND ((new.chat_id ~~ '%@c.us'::text) OR (new.chat_id ~~ '%@lid'::text)))) EXECUTE FUNCTION attribute_reply();
CREATE TRIGGER message_awaited AFTER UPDATE OF status ON public.messages FOR EACH ROW WHEN (((new.awaited_status IS NOT NULL) AND (old.status <> new.status) AND (new.status <> ALL (ARRAY['scheduled'::text, 'queued'::text, 'sending'::text])) AND ((new.awaited_status = 'delivered'::text) OR (old.status = ANY (ARRAY['scheduled'::text, 'queued'::text, 'sending'::text]))))) EXECUTE FUNCTION notify_message_wait();
CREATE TRIGGER message_changed AFTER UPDATE OF status ON public.messages FOR EACH ROW WHEN (((old.status IS DISTINCT FROM new.status) AND (new.status <> ALL (ARRAY['sending'::text, 'queued'::text, 'scheduled'::text])) AND (new.media_due_at IS NULL))) EXECUTE FUNCTION publish_message_event();
CREATE TRIGGER message_checked BEFORE INSERT ON public.messages FOR EACH ROW WHEN (((new.campaign_id IS NOT NULL) AND (new.status = 'queued'::text))) EXECUTE FUNCTION cancel_if_suppressed();
CREATE TRIGGER message_checked_again BEFORE UPDATE OF status ON public.messages FOR EACH ROW WHEN (((new.campaign_id IS NOT NULL) AND (new.status = 'queued'::text) AND (old.status <> 'queued'::text))) EXECUTE FUNCTION cancel_if_suppressed();
CREATE TRIGGER message_created AFTER INSERT ON public.messages FOR EACH ROW WHEN (((new.media_due_at IS NULL) AND (new.campaign_id IS NULL))) EXECUTE FUNCTION publish_message_event();
CREATE TRIGGER message_ended BEFORE INSERT OR UPDATE OF status ON public.messages FOR EACH ROW WHEN (((new.status = ANY (ARRAY['failed'::text, 'unknown'::text, 'cancelled'::text, 'expired'::text])) OR (new.ended IS NOT NULL))) EXECUTE FUNCTION note_message_end();
CREATE TRIGGER message_failed AFTER UPDATE OF status ON public.messages FOR EACH ROW WHEN (((old.status IS DISTINCT FROM new.status) AND (new.direction = 'outgoing'::text) AND (new.status = ANY (ARRAY['failed'::text, 'unknown'::text])))) EXECUTE FUNCTION record_failed_message();
CREATE TRIGGER message_got_other_id AFTER UPDATE OF whatsapp_id ON public.messages FOR EACH ROW WHEN ((old.whatsapp_id <> new.whatsapp_id)) EXECUTE FUNCTION keep_used_whatsapp_id();
CREATE TRIGGER message_holds_media BEFORE INSERT ON public.messages FOR EACH ROW WHEN (((new.direction = 'outgoing'::text) AND ((new.media ->> 'mediaId'::text) IS NOT NULL))) EXECUTE FUNCTION hold_media();
CREATE TRIGGER message_media_settled AFTER UPDATE OF media_due_at ON public.messages FOR EACH ROW WHEN (((old.media_due_at IS NOT NULL) AND (new.media_due_at IS NULL))) EXECUTE FUNCTION publish_message_event();
CREATE TRIGGER message_moved_on AFTER UPDATE OF status ON public.messages FOR EACH ROW WHEN (((old.status = ANY (ARRAY['failed'::text, 'unknown'::text])) AND (new.status <> ALL (ARRAY['failed'::text, 'unknown'::text])))) EXECUTE FUNCTION forget_failed_message();
CREATE TRIGGER message_of_campaign_changed AFTER UPDATE OF status ON public.messages FOR EACH ROW WHEN (((new.campaign_id IS NOT NULL) AND (old.status IS DISTINCT FROM new.status))) EXECUTE FUNCTION note_campaign_change();
CREATE TRIGGER message_of_campaign_created AFTER INSERT ON public.messages FOR EACH ROW WHEN ((new.campaign_id IS NOT NULL)) EXECUTE FUNCTION note_campaign_change();
CREATE TRIGGER message_refused AFTER UPDATE OF status ON public.messages FOR EACH ROW WHEN (((new.status = 'failed'::text) AND (old.status <> 'failed'::text) AND (new.error_code = 'whatsapp.refused'::text) AND new.is_cold)) EXECUTE FUNCTION pause_cold_after_refusal();
CREATE TRIGGER message_uncertain AFTER UPDATE OF status ON public.messages FOR EACH ROW WHEN (((old.status IS DISTINCT FROM new.status) AND ((old.status = 'unknown'::text) OR ((old.status = 'failed'::text) AND (old.error_code = 'whatsapp.refused'::text)) OR ((old.status = ANY (ARRAY['queued'::text, 'scheduled'::text])) AND (old.attempts > 0)) OR ((new.status = 'unknown'::text) OR ((new.status = 'failed'::text) AND (new.error_code = 'whatsapp.refused'::text)) OR ((new.status = ANY (ARRAY['queued'::text, 'scheduled'::text])) AND (new.attempts > 0)))))) EXECUTE FUNCTION note_uncertain_message();
alter table messages enable row level security;
create policy workspace on messages for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on messages to flotilla_tenant;

create table migrations (
  id integer not null default nextval('migrations_id_seq'::regclass),
  timestamp bigint not null,
  name character varying not null,
  constraint PK_8c82d7f526340ab734260ea46be PRIMARY KEY (id)
);

create table queues (
  name text not null,
  paused_at timestamp with time zone,
  constraint queues_pkey PRIMARY KEY (name)
);

create table recipient_ids (
  account_id uuid not null,
  workspace_id uuid not null,
  number text not null,
  chat_id text not null,
  checked_at timestamp with time zone not null default now(),
  constraint recipient_ids_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id) ON DELETE CASCADE,
  constraint recipient_ids_pkey PRIMARY KEY (account_id, number),
  constraint recipient_ids_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
);
CREATE INDEX recipient_ids_chat ON public.recipient_ids USING btree (workspace_id, chat_id);
CREATE INDEX recipient_ids_checked ON public.recipient_ids USING btree (checked_at);
CREATE INDEX recipient_ids_number ON public.recipient_ids USING btree (workspace_id, number);
alter table recipient_ids enable row level security;
create policy workspace on recipient_ids for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant select on recipient_ids to flotilla_tenant;

create table server_logs (
  id bigint not null generated always as identity,
  server_id text,
  instance_id text,
  workspace_id uuid,
  account_id uuid,
  log_type text not null,
  message text not null,
  details jsonb not null default '{}'::jsonb,
  created_at timestamp with time zone not null default now(),
  constraint server_logs_log_type_check CHECK ((log_type = ANY (ARRAY['debug'::text, 'info'::text, 'warning'::text, 'error'::text, 'critical'::text]))),
  constraint server_logs_pkey PRIMARY KEY (id)
);
CREATE INDEX server_logs_account ON public.server_logs USING btree (account_id, id DESC) WHERE (account_id IS NOT NULL);
CREATE INDEX server_logs_instance ON public.server_logs USING btree (instance_id, id DESC);
CREATE INDEX server_logs_server ON public.server_logs USING btree (server_id, id DESC);
alter table server_logs enable row level security;
create policy workspace on server_logs for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant insert on server_logs to flotilla_tenant;

create table server_stats (
  id bigint not null generated always as identity,
  server_id text not null,
  instance_id text not null,
  at timestamp with time zone not null default now(),
  cpu double precision not null,
  memory double precision not null,
  memory_bytes bigint not null,
  accounts integer not null,
  connected integer not null,
  messages_per_minute double precision not null,
  error_rate double precision not null,
  average_response_time_ms double precision,
  p95_response_time_ms double precision,
  p99_response_time_ms double precision,
  uptime_seconds double precision not null,
  constraint server_stats_pkey PRIMARY KEY (id)
);
CREATE INDEX server_stats_at ON public.server_stats USING btree (at);
CREATE INDEX server_stats_server ON public.server_stats USING btree (server_id, id DESC);

create table servers (
  id text not null,
  name text not null,
  max_capacity integer not null,
  is_enabled boolean not null default true,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  url text,
  type text not null default 'vps'::text,
  region text,
  environment text not null default 'production'::text,
  location text,
  tags text[] not null default '{}'::text[],
  priority integer not null default 0,
  weight integer not null default 1,
  is_healthy boolean not null default true,
  health_check_failures integer not null default 0,
  response_time_ms integer,
  last_health_check_at timestamp with time zone,
  metadata jsonb not null default '{}'::jsonb,
  allowed_ips text[],
  constraint servers_id CHECK (((id ~ '^[A-Za-z0-9_.-]{3,128}$'::text) AND (id !~~ '%..%'::text))) NOT VALID,
  constraint servers_max_capacity CHECK (((max_capacity >= 1) AND (max_capacity <= 100000))),
  constraint servers_pkey PRIMARY KEY (id),
  constraint servers_weight_check CHECK (((weight >= 1) AND (weight <= 1000)))
);
CREATE TRIGGER server_logged AFTER INSERT OR UPDATE ON public.servers FOR EACH ROW EXECUTE FUNCTION log_server();
grant select on servers to flotilla_tenant;

create table session_snapshots (
  account_id uuid not null,
  workspace_id uuid not null,
  epoch integer not null,
  digest text not null,
  size_bytes bigint not null,
  data bytea not null storage external,
  taken_at timestamp with time zone not null default now(),
  restored_at timestamp with time zone,
  constraint session_snapshots_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id) ON DELETE CASCADE,
  constraint session_snapshots_pkey PRIMARY KEY (account_id)
);
alter table session_snapshots enable row level security;
create policy workspace on session_snapshots for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant select (account_id, workspace_id) on session_snapshots to flotilla_tenant;

create table suppressions (
  id uuid not null,
  workspace_id uuid not null,
  person text not null,
  lid text,
  address text not null,
  source text not null,
  reason text,
  message_id uuid,
  account_id uuid,
  created_at timestamp with time zone not null default now(),
  constraint suppressions_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id) ON DELETE SET NULL,
  constraint suppressions_pkey PRIMARY KEY (id),
  constraint suppressions_source_check CHECK ((source = ANY (ARRAY['manual'::text, 'import'::text, 'reply'::text]))),
  constraint suppressions_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
);
CREATE INDEX suppressions_account ON public.suppressions USING btree (account_id) WHERE (account_id IS NOT NULL);
CREATE INDEX suppressions_lid ON public.suppressions USING btree (workspace_id, lid) WHERE (lid IS NOT NULL);
CREATE INDEX suppressions_newest ON public.suppressions USING btree (workspace_id, id DESC);
CREATE UNIQUE INDEX suppressions_person ON public.suppressions USING btree (workspace_id, person);
CREATE TRIGGER suppression_added AFTER INSERT ON public.suppressions REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION cancel_suppressed_messages();
CREATE TRIGGER suppression_changed AFTER UPDATE ON public.suppressions REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION cancel_suppressed_messages();
CREATE TRIGGER suppression_locks BEFORE INSERT OR UPDATE ON public.suppressions FOR EACH ROW EXECUTE FUNCTION lock_suppressions();
CREATE TRIGGER suppression_published AFTER INSERT ON public.suppressions FOR EACH ROW WHEN ((new.source <> 'import'::text)) EXECUTE FUNCTION publish_suppression();
CREATE TRIGGER suppression_removed AFTER DELETE ON public.suppressions FOR EACH ROW WHEN ((pg_trigger_depth() = 0)) EXECUTE FUNCTION publish_suppression();
alter table suppressions enable row level security;
create policy workspace on suppressions for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on suppressions to flotilla_tenant;

create table uncertain_messages (
  message_id uuid not null,
  account_id uuid not null,
  since timestamp with time zone not null default now(),
  constraint uncertain_messages_message_id_fkey FOREIGN KEY (message_id) REFERENCES messages(id) ON DELETE CASCADE,
  constraint uncertain_messages_pkey PRIMARY KEY (message_id)
);
CREATE INDEX uncertain_messages_account ON public.uncertain_messages USING btree (account_id, since DESC);
alter table uncertain_messages enable row level security;
create policy workspace on uncertain_messages for all to flotilla_tenant using ((EXISTS ( SELECT
   FROM accounts a
  WHERE ((a.id = uncertain_messages.account_id) AND (a.workspace_id = current_workspace())))));
grant delete, insert, select, update on uncertain_messages to flotilla_tenant;

create table used_whatsapp_ids (
  account_id uuid not null,
  whatsapp_id text not null,
  constraint used_whatsapp_ids_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id) ON DELETE CASCADE,
  constraint used_whatsapp_ids_pkey PRIMARY KEY (account_id, whatsapp_id)
);
alter table used_whatsapp_ids enable row level security;
create policy workspace on used_whatsapp_ids for all to flotilla_tenant using ((EXISTS ( SELECT
   FROM accounts a
  WHERE ((a.id = used_whatsapp_ids.account_id) AND (a.workspace_id = current_workspace())))));
grant insert, select on used_whatsapp_ids to flotilla_tenant;

create table web_version_policy (
  only_row boolean not null default true,
  mode text not null default 'latest'::text,
  version text,
  canary_ids uuid[] not null default '{}'::uuid[],
  sends integer not null default 20,
  updated_at timestamp with time zone not null default now(),
  constraint web_version_policy_check CHECK (((mode = 'pinned'::text) = (version IS NOT NULL))),
  constraint web_version_policy_mode_check CHECK ((mode = ANY (ARRAY['latest'::text, 'pinned'::text, 'canary'::text]))),
  constraint web_version_policy_only_row_check CHECK (only_row),
  constraint web_version_policy_pkey PRIMARY KEY (only_row),
  constraint web_version_policy_sends_check CHECK (((sends >= 0) AND (sends <= 100000)))
);

create table web_versions (
  environment text not null,
  version text not null,
  status text not null default 'new'::text,
  reason text,
  page text,
  contract text,
  sends bigint not null default 0,
  failures bigint not null default 0,
  sends_in_a_row integer not null default 0,
  self_sent_at timestamp with time zone,
  promoted_at timestamp with time zone,
  first_seen_at timestamp with time zone not null default now(),
  last_seen_at timestamp with time zone not null default now(),
  constraint web_versions_contract_check CHECK ((contract = ANY (ARRAY['ok'::text, 'broken'::text]))),
  constraint web_versions_environment_check CHECK ((environment = ANY (ARRAY['live'::text, 'sandbox'::text]))),
  constraint web_versions_pkey PRIMARY KEY (environment, version),
  constraint web_versions_status_check CHECK ((status = ANY (ARRAY['new'::text, 'good'::text, 'refused'::text])))
);
CREATE TRIGGER web_version_decided AFTER UPDATE OF status ON public.web_versions FOR EACH ROW WHEN ((old.status <> new.status)) EXECUTE FUNCTION publish_web_version();
CREATE TRIGGER web_version_found AFTER INSERT ON public.web_versions FOR EACH ROW EXECUTE FUNCTION publish_web_version();

create table webhook_cursor (
  is_only boolean not null default true,
  transaction_id xid8 not null,
  event_id bigint not null,
  moved_at timestamp with time zone not null default now(),
  constraint webhook_cursor_is_only_check CHECK (is_only),
  constraint webhook_cursor_pkey PRIMARY KEY (is_only)
);
grant select on webhook_cursor to flotilla_tenant;
grant update (moved_at) on webhook_cursor to flotilla_tenant;

create table webhook_deliveries (
  id uuid not null,
  workspace_id uuid not null,
  webhook_id uuid not null,
  transaction_id xid8 not null,
  event_id bigint not null,
  type text not null,
  account_id uuid,
  lane_id uuid not null generated always as (COALESCE(account_id, '00000000-0000-0000-0000-000000000000'::uuid)) stored,
  status text not null default 'pending'::text,
  attempts integer not null default 0,
  status_code integer,
  duration_ms integer,
  error text,
  response_excerpt text,
  last_attempt_at timestamp with time zone,
  next_attempt_at timestamp with time zone,
  created_at timestamp with time zone not null default now(),
  constraint webhook_deliveries_pkey PRIMARY KEY (id),
  constraint webhook_deliveries_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'delivered'::text, 'failed'::text, 'dead'::text]))),
  constraint webhook_deliveries_webhook_id_fkey FOREIGN KEY (webhook_id) REFERENCES webhooks(id) ON DELETE CASCADE,
  constraint webhook_deliveries_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
);
CREATE INDEX webhook_deliveries_dead ON public.webhook_deliveries USING btree (webhook_id, id DESC) WHERE (status = 'dead'::text);
CREATE INDEX webhook_deliveries_lane ON public.webhook_deliveries USING btree (webhook_id, lane_id, transaction_id, event_id) WHERE (status = ANY (ARRAY['pending'::text, 'failed'::text]));
CREATE INDEX webhook_deliveries_webhook ON public.webhook_deliveries USING btree (webhook_id, id DESC);
CREATE UNIQUE INDEX webhook_deliveries_event ON public.webhook_deliveries USING btree (webhook_id, event_id);
alter table webhook_deliveries enable row level security;
create policy workspace on webhook_deliveries for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on webhook_deliveries to flotilla_tenant;

create table webhook_lanes (
  webhook_id uuid not null,
  lane_id uuid not null,
  workspace_id uuid not null,
  version bigint not null default 0,
  next_attempt_at timestamp with time zone not null default now(),
  claim uuid,
  claimed_until timestamp with time zone,
  delivered bigint not null default 0,
  failed bigint not null default 0,
  constraint webhook_lanes_pkey PRIMARY KEY (webhook_id, lane_id),
  constraint webhook_lanes_webhook_id_fkey FOREIGN KEY (webhook_id) REFERENCES webhooks(id) ON DELETE CASCADE,
  constraint webhook_lanes_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
);
alter table webhook_lanes set (fillfactor=70);
CREATE INDEX webhook_lanes_claimed ON public.webhook_lanes USING btree (webhook_id) WHERE (claim IS NOT NULL);
CREATE INDEX webhook_lanes_due ON public.webhook_lanes USING btree (next_attempt_at);
alter table webhook_lanes enable row level security;
create policy workspace on webhook_lanes for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on webhook_lanes to flotilla_tenant;

create table webhooks (
  id uuid not null,
  workspace_id uuid not null,
  url text not null,
  events text[] not null,
  account_ids uuid[],
  description text,
  secret bytea not null,
  previous_secret bytea,
  previous_secret_expires_at timestamp with time zone,
  is_enabled boolean not null default true,
  active_from xid8 not null default pg_current_xact_id(),
  disabled_reason text,
  disabled_at timestamp with time zone,
  failing_since timestamp with time zone,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  headers bytea,
  header_names text[] not null default '{}'::text[],
  login bytea,
  ca_certificate text,
  labels text[],
  constraint webhooks_disabled_reason_check CHECK ((disabled_reason = ANY (ARRAY['owner'::text, 'gone'::text, 'failing'::text]))),
  constraint webhooks_pkey PRIMARY KEY (id),
  constraint webhooks_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
);
CREATE INDEX webhooks_workspace ON public.webhooks USING btree (workspace_id, id DESC);
CREATE TRIGGER webhook_disabled AFTER UPDATE OF is_enabled ON public.webhooks FOR EACH ROW WHEN ((old.is_enabled AND (NOT new.is_enabled) AND (new.disabled_reason <> 'owner'::text))) EXECUTE FUNCTION publish_webhook_disabled();
alter table webhooks enable row level security;
create policy workspace on webhooks for all to flotilla_tenant using ((workspace_id = ( SELECT current_workspace() AS current_workspace))) with check ((workspace_id = current_workspace()));
grant delete, insert, select, update on webhooks to flotilla_tenant;

create table worker_restarts (
  is_only boolean not null default true,
  requested_at timestamp with time zone not null,
  constraint worker_restarts_is_only_check CHECK (is_only),
  constraint worker_restarts_pkey PRIMARY KEY (is_only)
);

create table workers (
  name text not null,
  server_id text not null,
  pid integer not null,
  queues text[] not null,
  status text not null,
  running integer not null,
  concurrency integer not null,
  processed bigint not null,
  failed bigint not null,
  memory_bytes bigint not null,
  started_at timestamp with time zone not null,
  seen_at timestamp with time zone not null,
  constraint workers_pkey PRIMARY KEY (name),
  constraint workers_status_check CHECK ((status = ANY (ARRAY['running'::text, 'paused'::text, 'stopping'::text])))
);

create table workspaces (
  id uuid not null,
  name text not null,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  unknown_policy text not null default 'hold'::text,
  pacing jsonb,
  max_accounts integer,
  messages_per_minute integer,
  max_storage_bytes bigint,
  default_country text,
  opt_out_words text[],
  constraint workspaces_default_country_check CHECK ((default_country ~ '^[A-Z]{2}$'::text)),
  constraint workspaces_max_accounts_check CHECK ((max_accounts >= 0)),
  constraint workspaces_max_storage_bytes_check CHECK ((max_storage_bytes >= 0)),
  constraint workspaces_messages_per_minute_check CHECK ((messages_per_minute >= 0)),
  constraint workspaces_pkey PRIMARY KEY (id),
  constraint workspaces_unknown_policy_check CHECK ((unknown_policy = ANY (ARRAY['hold'::text, 'resend'::text])))
);
CREATE TRIGGER default_country_changed AFTER UPDATE OF default_country ON public.workspaces FOR EACH ROW WHEN ((old.default_country IS DISTINCT FROM new.default_country)) EXECUTE FUNCTION notify_keys_of_workspace();
CREATE TRIGGER limits_changed AFTER UPDATE OF max_accounts, messages_per_minute, max_storage_bytes ON public.workspaces FOR EACH ROW EXECUTE FUNCTION notify_limits();
alter table workspaces enable row level security;
create policy workspace on workspaces for all to flotilla_tenant using ((id = ( SELECT current_workspace() AS current_workspace)));
grant select on workspaces to flotilla_tenant;
grant update (default_country, opt_out_words, updated_at) on workspaces to flotilla_tenant;

create view backend_servers as
 SELECT s.id,
    s.name AS server_name,
    s.url AS server_url,
    s.type AS server_type,
    s.region,
    s.max_capacity,
    (COALESCE(reserved.accounts, (0)::bigint))::integer AS current_load,
    s.is_enabled AS is_active,
    s.is_healthy,
    s.priority,
    s.weight,
    s.environment,
    s.location,
    s.tags,
    NULL::text AS api_key,
    s.last_health_check_at AS last_health_check,
    s.health_check_failures,
    s.response_time_ms AS response_time,
    s.metadata,
    s.allowed_ips,
    s.created_at,
    s.updated_at
   FROM (servers s
     LEFT JOIN ( SELECT COALESCE(i.server_id, a.pinned_server_id) AS server_id,
            count(*) AS accounts
           FROM (accounts a
             LEFT JOIN instances i ON ((i.id = a.instance_id)))
          WHERE (a.desired_state = 'connected'::text)
          GROUP BY COALESCE(i.server_id, a.pinned_server_id)) reserved ON ((reserved.server_id = s.id)));
CREATE TRIGGER backend_server_deleted INSTEAD OF DELETE ON public.backend_servers FOR EACH ROW EXECUTE FUNCTION delete_backend_server();
CREATE TRIGGER backend_server_inserted INSTEAD OF INSERT ON public.backend_servers FOR EACH ROW EXECUTE FUNCTION insert_backend_server();
CREATE TRIGGER backend_server_updated INSTEAD OF UPDATE ON public.backend_servers FOR EACH ROW EXECUTE FUNCTION update_backend_server();

create view device_connection_logs as
 SELECT l.id,
    (l.account_id)::text AS device_id,
    l.workspace_id AS user_id,
    l.workspace_id,
    i.server_id,
    l.instance_id,
    l.epoch,
    l.event_type,
    l.reason,
        CASE
            WHEN (l.event_type = 'error'::text) THEN l.reason
            ELSE NULL::text
        END AS error_message,
    l.details,
    l.created_at
   FROM (connection_logs l
     LEFT JOIN instances i ON ((i.id = l.instance_id)));

create view devices as
 SELECT (a.id)::text AS id,
    a.workspace_id AS user_id,
    a.workspace_id,
    a.name AS device_name,
    a.phone_number,
        CASE
            WHEN (a.status = 'ready'::text) THEN 'connected'::text
            WHEN (a.status = ANY (ARRAY['waiting'::text, 'starting'::text, 'qr'::text, 'pairing'::text, 'syncing'::text, 'reconnecting'::text])) THEN 'connecting'::text
            ELSE 'disconnected'::text
        END AS status,
    a.status AS account_status,
    a.status_reason,
    a.desired_state,
    COALESCE(i.server_id, a.pinned_server_id) AS assigned_server_id,
    a.instance_id AS assigned_instance_id,
    a.epoch,
    a.environment,
    a.labels,
    a.last_connected_at,
    a.created_at,
    a.updated_at
   FROM (accounts a
     LEFT JOIN instances i ON ((i.id = a.instance_id)));
CREATE TRIGGER device_refused INSTEAD OF INSERT OR DELETE ON public.devices FOR EACH ROW EXECUTE FUNCTION refuse_device();
CREATE TRIGGER device_updated INSTEAD OF UPDATE ON public.devices FOR EACH ROW EXECUTE FUNCTION update_device();

create view instance_loads as
 SELECT instance_id,
    (count(*))::integer AS reserved,
    (count(*) FILTER (WHERE (status = 'ready'::text)))::integer AS connected
   FROM accounts
  WHERE ((desired_state = 'connected'::text) AND (instance_id IS NOT NULL))
  GROUP BY instance_id;
grant select on instance_loads to flotilla_tenant;

create view pinned_loads as
 SELECT pinned_server_id AS server_id,
    (count(*))::integer AS reserved
   FROM accounts
  WHERE ((desired_state = 'connected'::text) AND (instance_id IS NULL) AND (pinned_server_id IS NOT NULL))
  GROUP BY pinned_server_id;
grant select on pinned_loads to flotilla_tenant;

create view server_capacity_overview as
 SELECT s.id,
    s.server_name,
    s.environment,
    s.location,
    s.region,
    s.is_active,
    s.is_healthy,
    s.max_capacity,
    s.current_load,
    GREATEST((s.max_capacity - s.current_load), 0) AS available_capacity,
    round((((s.current_load)::double precision / (s.max_capacity)::double precision) * (100)::double precision), 2) AS usage_percentage,
    (COALESCE(live.instances, (0)::bigint))::integer AS active_instances,
    (COALESCE(live.places, (0)::bigint))::integer AS instance_capacity
   FROM (backend_servers s
     LEFT JOIN ( SELECT instances.server_id,
            count(*) AS instances,
            sum(instances.max_accounts) AS places
           FROM instances
          WHERE ((instances.status = 'active'::text) AND (NOT instances.is_draining) AND (instances.lease_expires_at > now()))
          GROUP BY instances.server_id) live ON ((live.server_id = s.id)));

create view server_health_status as
 SELECT s.id,
    s.server_name,
    s.server_url,
    s.environment,
    s.location,
    s.region,
    s.is_active,
    s.is_healthy,
    s.last_health_check,
    s.health_check_failures,
    s.response_time,
    ( SELECT (count(*))::integer AS count
           FROM instances i
          WHERE ((i.server_id = s.id) AND (i.status = ANY (ARRAY['active'::text, 'draining'::text])) AND (i.lease_expires_at > now()))) AS active_instances,
    s.current_load,
    latest.stats_at,
    latest.cpu,
    latest.memory,
    latest.connected,
    latest.messages_per_minute,
    latest.error_rate,
    latest.average_response_time,
    latest.p95_response_time,
    latest.p99_response_time,
    latest.uptime
   FROM (backend_servers s
     LEFT JOIN LATERAL ( SELECT max(newest.at) AS stats_at,
            (array_agg(newest.cpu ORDER BY newest.at DESC))[1] AS cpu,
            (array_agg(newest.memory ORDER BY newest.at DESC))[1] AS memory,
            (sum(newest.connected))::integer AS connected,
            sum(newest.messages_per_minute) AS messages_per_minute,
            avg(newest.error_rate) AS error_rate,
            avg(newest.average_response_time_ms) AS average_response_time,
            max(newest.p95_response_time_ms) AS p95_response_time,
            max(newest.p99_response_time_ms) AS p99_response_time,
            max(newest.uptime_seconds) AS uptime
           FROM ( SELECT DISTINCT ON (server_stats.instance_id) server_stats.id,
                    server_stats.server_id,
                    server_stats.instance_id,
                    server_stats.at,
                    server_stats.cpu,
                    server_stats.memory,
                    server_stats.memory_bytes,
                    server_stats.accounts,
                    server_stats.connected,
                    server_stats.messages_per_minute,
                    server_stats.error_rate,
                    server_stats.average_response_time_ms,
                    server_stats.p95_response_time_ms,
                    server_stats.p99_response_time_ms,
                    server_stats.uptime_seconds
                   FROM server_stats
                  WHERE ((server_stats.server_id = s.id) AND (server_stats.at > (now() - '00:05:00'::interval)))
                  ORDER BY server_stats.instance_id, server_stats.at DESC) newest) latest ON (true));

CREATE OR REPLACE FUNCTION public.attribute_reply()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
      end $function$;

CREATE OR REPLACE FUNCTION public.begin_pacing_anew()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
  begin
    delete from contacts where account_id = new.id;
    update account_pacing set warm_up_from = (now() at time zone 'UTC')::date, cold_sent = 0, replies_sent = 0,
      cold_closed_until = case when cold_closed_until = 'infinity' then cold_closed_until end, replies_closed_until = case when replies_closed_until = 'infinity' then replies_closed_until end,
      burst_sent = 0, refusals = 0 where account_id = new.id;
    update messages set status = 'unknown', error_code = 'account.number_changed',
      error_message = 'The account has another number now. WhatsApp Web cannot tell whether the message left under the old number.'
    where account_id = new.id and (stage = 'sending' or (stage in ('scheduled', 'queued') and attempts > 0));
    update messages set is_cold = true
    where account_id = new.id and not is_cold and stage in ('scheduled', 'queued') and chat_id not like '%@g.us';
    return null;
  end $function$;

CREATE OR REPLACE FUNCTION public.best_instance_of(wanted_server_id text)
 RETURNS text
 LANGUAGE sql
 STABLE
AS $function$
        select i.id from instances i join backend_servers s on s.id = i.server_id
        cross join lateral (select count(*) as accounts from accounts a
          where a.instance_id = i.id and a.desired_state = 'connected') reserved
        where i.server_id = wanted_server_id and i.status = 'active' and not i.is_draining and i.lease_expires_at > now()
          and reserved.accounts < i.max_accounts and s.current_load < s.max_capacity
        order by reserved.accounts, i.id limit 1
      $function$;

CREATE OR REPLACE FUNCTION public.campaign_counts(campaign campaigns)
 RETURNS jsonb
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$
        select campaign.counts || coalesce((
          select jsonb_object_agg(status, coalesce((campaign.counts ->> status)::bigint, 0) + change)
          from (
            select status, sum(change) as change from (
              select new_status as status, recipients as change from campaign_changes where campaign_id = campaign.id
              union all
              select old_status, - recipients from campaign_changes where campaign_id = campaign.id
            ) changes where status is not null group by status
          ) changed), '{}')
      $function$;

CREATE OR REPLACE FUNCTION public.campaign_json(c campaigns)
 RETURNS jsonb
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$
    select jsonb_build_object('id', c.id, 'workspaceId', c.workspace_id, 'name', c.name, 'status', c.status,
      'pauseReason', c.pause_reason, 'counts', (
        select jsonb_build_object('total', sum(number), 'queued', sum(number) filter (where name in ('queued', 'scheduled')
            or name = 'waiting' and c.status <> 'cancelled'),
          'sending', sum(number) filter (where name = 'sending'), 'sent', sum(number) filter (where name = 'sent'),
          'delivered', sum(number) filter (where name = 'delivered'), 'read', sum(number) filter (where name in ('read', 'played')),
          'failed', sum(number) filter (where name in ('failed', 'expired')), 'unknown', sum(number) filter (where name = 'unknown'),
          'cancelled', sum(number) filter (where name = 'cancelled' or name = 'waiting' and c.status = 'cancelled'), 'replied', coalesce((campaign_counts(c) ->> 'replied')::bigint, 0))
        from (values ('waiting'), ('queued'), ('scheduled'), ('sending'), ('sent'), ('delivered'), ('read'), ('played'), ('failed'),
            ('expired'), ('unknown'), ('cancelled')) names (name)
          cross join lateral (select coalesce((counted.counts ->> name)::bigint, 0) as number from (select campaign_counts(c) as counts) counted) found), 'startAt', iso_time(c.start_at),
      'createdAt', iso_time(c.created_at), 'startedAt', iso_time(c.started_at), 'finishedAt', iso_time(c.finished_at))
  $function$;

CREATE OR REPLACE FUNCTION public.campaign_runs(campaign uuid)
 RETURNS boolean
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$
        select exists (select from campaigns where id = campaign and status = 'running')
      $function$;

CREATE OR REPLACE FUNCTION public.cancel_if_suppressed()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
      end $function$;

CREATE OR REPLACE FUNCTION public.cancel_suppressed_messages()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
      end $function$;

CREATE OR REPLACE FUNCTION public.check_backend_server(given backend_servers)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
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
      end $function$;

CREATE OR REPLACE FUNCTION public.count_media()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO '$user', 'public'
AS $function$
      declare
        step integer := case tg_op when 'INSERT' then 1 else -1 end;
      begin
        perform from media_blobs where id in (select blob_id from changed) order by id for update;
        update media_blobs b set refs = refs + step * counted.media
        from (select blob_id, count(*)::integer as media from changed group by 1) counted where b.id = counted.blob_id;
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.current_workspace()
 RETURNS uuid
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$
        select nullif(current_setting('flotilla.workspace', true), '')::uuid
      $function$;

CREATE OR REPLACE FUNCTION public.delete_backend_server()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
      end $function$;

CREATE OR REPLACE FUNCTION public.forget_failed_message()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        delete from failed_jobs where message_id = new.id;
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.get_best_available_server()
 RETURNS text
 LANGUAGE sql
 STABLE
AS $function$
        select id from backend_servers s where is_open_to_placement(s)
        order by priority desc, current_load::double precision / max_capacity, response_time nulls last, id limit 1
      $function$;

CREATE OR REPLACE FUNCTION public.give_up_media_blob(written uuid)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO '$user', 'public'
AS $function$
        update media_blobs set state = 'doomed' where id = written and state = 'writing'
      $function$;

CREATE OR REPLACE FUNCTION public.grow_epoch()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        if new.epoch = old.epoch then new.epoch := old.epoch + 1; end if;
        return new;
      end $function$;

CREATE OR REPLACE FUNCTION public.hold_media()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        perform from media where id = (new.media ->> 'mediaId')::uuid and workspace_id = new.workspace_id for key share;
        if not found then
          raise exception 'The media of this message was deleted.' using errcode = 'foreign_key_violation';
        end if;
        return new;
      end $function$;

CREATE OR REPLACE FUNCTION public.insert_backend_server()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
      end $function$;

CREATE OR REPLACE FUNCTION public.is_open_to_placement(server backend_servers)
 RETURNS boolean
 LANGUAGE sql
 STABLE
AS $function$
        select server.is_active and server.is_healthy and server.current_load < server.max_capacity
          and coalesce(server.environment = filters ->> 'environment', filters ->> 'environment' is null)
          and coalesce(server.location = filters ->> 'location', filters ->> 'location' is null)
          and (coalesce(filters -> 'tags', '[]') <@ to_jsonb(server.tags))
          and server.max_capacity - server.current_load >= coalesce((filters ->> 'minCapacity')::integer, 0)
        from load_balancing
      $function$;

CREATE OR REPLACE FUNCTION public.is_suppressed(workspace uuid, persons text[])
 RETURNS boolean
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$
        select exists (select from suppressions where workspace_id = workspace and person = any(persons))
          or exists (select from suppressions where workspace_id = workspace and lid = any(persons))
      $function$;

CREATE OR REPLACE FUNCTION public.iso_time(value timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE STRICT
AS $function$
        select to_char(value at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
      $function$;

CREATE OR REPLACE FUNCTION public.isolate_account(target regclass, privileges text DEFAULT 'select, insert, update, delete'::text)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
      begin
        execute format('alter table %s enable row level security', target);
        execute format('create policy workspace on %1$s to flotilla_tenant
          using (exists (select from accounts a where a.id = %1$s.account_id and a.workspace_id = current_workspace()))',
          target);
        if privileges <> '' then execute format('grant %s on %s to flotilla_tenant', privileges, target); end if;
      end $function$;

CREATE OR REPLACE FUNCTION public.isolate_workspace(target regclass, privileges text DEFAULT 'select, insert, update, delete'::text)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
      begin
        execute format('alter table %s enable row level security', target);
        execute format('create policy workspace on %s to flotilla_tenant using (workspace_id = (select current_workspace()))
          with check (workspace_id = current_workspace())', target);
        if privileges <> '' then execute format('grant %s on %s to flotilla_tenant', privileges, target); end if;
      end $function$;

CREATE OR REPLACE FUNCTION public.keep_media_blob(written uuid, lost uuid)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO '$user', 'public'
AS $function$
      declare
        content bytea;
        kept uuid;
        moved integer;
      begin
        select sha256 into content from media_blobs where id = written and state = 'writing' for update;
        if not found then return null; end if;
        if lost is not null and lost = kept_media_blob(content) then
          -- Media before blobs, as everybody who deletes media.
          update media set blob_id = written where blob_id = lost;
          get diagnostics moved = row_count;
          update media_blobs set state = 'doomed', refs = refs - moved where id = lost;
          update media_blobs set state = 'kept', refs = refs + moved where id = written;
          return written;
        end if;
        select id into kept from media_blobs where sha256 = content and state = 'kept' for update;
        update media_blobs set state = case when kept is null then 'kept' else 'doomed' end where id = written;
        return coalesce(kept, written);
      end $function$;

CREATE OR REPLACE FUNCTION public.keep_used_whatsapp_id()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
        begin
          insert into used_whatsapp_ids (account_id, whatsapp_id) values (old.account_id, old.whatsapp_id)
          on conflict do nothing;
          return null;
        end $function$;

CREATE OR REPLACE FUNCTION public.kept_media_blob(content bytea)
 RETURNS uuid
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO '$user', 'public'
AS $function$
        select id from media_blobs where sha256 = content and state = 'kept'
      $function$;

CREATE OR REPLACE FUNCTION public.lock_media_content(content bytea)
 RETURNS void
 LANGUAGE sql
AS $function$
        select pg_advisory_xact_lock(hashtextextended('media ' || encode(content, 'hex'), 0))
      $function$;

CREATE OR REPLACE FUNCTION public.lock_suppressions()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        perform pg_advisory_xact_lock(suppressions_lock(new.workspace_id));
        return new;
      end $function$;

CREATE OR REPLACE FUNCTION public.log_assignment()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
      end $function$;

CREATE OR REPLACE FUNCTION public.log_connection()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
      end $function$;

CREATE OR REPLACE FUNCTION public.log_holder()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        insert into connection_logs (workspace_id, account_id, instance_id, epoch, event_type, details)
        values (new.workspace_id, new.id, coalesce(new.held_by, old.held_by), new.epoch,
          case when new.held_by is null then 'released' else 'claimed' end,
          jsonb_build_object('previousHolder', old.held_by, 'assignedTo', new.instance_id));
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.log_instance()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
      end $function$;

CREATE OR REPLACE FUNCTION public.log_server()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
      end $function$;

CREATE OR REPLACE FUNCTION public.message_json(m messages)
 RETURNS jsonb
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$
        select jsonb_build_object(
          'id', m.id, 'workspaceId', m.workspace_id, 'accountId', m.account_id, 'direction', m.direction,
          'priority', (array['campaign', 'normal', 'high', 'urgent'])[m.priority + 1], 'type', m.type,
          'to', m.recipient, 'from', m.sender, 'text', m.text, 'media', m.media, 'status', m.status,
          'error', case when m.error_code is null then null
                        else jsonb_build_object('code', m.error_code, 'message', m.error_message) end,
          'attempts', m.attempts, 'whatsappId', m.whatsapp_id, 'campaignId', m.campaign_id, 'replyTo', m.reply_to,
          'metadata', m.metadata, 'createdAt', iso_time(m.created_at), 'scheduledFor', iso_time(m.scheduled_for),
          'sentAt', iso_time(m.sent_at), 'deliveredAt', iso_time(m.delivered_at), 'readAt', iso_time(m.read_at),
          'failedAt', iso_time(m.failed_at), 'editedAt', iso_time(m.edited_at), 'revokedAt', iso_time(m.revoked_at),
          'reactions', jsonb_path_query_array(m.reactions, '$[*] ? (@.emoji != "")'),
          'location', m.content -> 'location', 'contact', m.content -> 'contact', 'poll', m.content -> 'poll',
          'votes', jsonb_path_query_array(m.votes, '$[*] ? (@.options.size() > 0)'),
          'mentions', m.content -> 'mentions', 'viewOnce', coalesce(m.content -> 'viewOnce', 'false'), 'gif', coalesce(m.content -> 'gif', 'false'), 'participant', '{"name": null}'::jsonb || (m.content -> 'participant'), 'group', m.content -> 'group', 'origin',
          case when m.direction = 'incoming' then null when m.is_from_device then 'device'
               when m.campaign_id is not null then 'campaign' else 'api' end,
          'quotedWhatsappId', m.content ->> 'quotedWhatsappId', 'whatsappType', m.content ->> 'whatsappType', 'inQuestionSince', iso_time(m.in_question_since))
      $function$;

CREATE OR REPLACE FUNCTION public.note_campaign_change()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        insert into campaign_changes (campaign_id, workspace_id, old_status, new_status)
        values (new.campaign_id, new.workspace_id, case when tg_op = 'UPDATE' then old.status else 'waiting' end, new.status);
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.note_message_end()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        new.ended := case when new.status in ('failed', 'unknown', 'cancelled', 'expired') then new.status end;
        return new;
      end $function$;

CREATE OR REPLACE FUNCTION public.note_uncertain_message()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        if (new.status = 'unknown' or new.status = 'failed' and new.error_code = 'whatsapp.refused'
          or new.status in ('queued', 'scheduled') and new.attempts > 0) then
          insert into uncertain_messages (message_id, account_id) values (new.id, new.account_id)
          on conflict (message_id) do update set since = excluded.since;
        else
          delete from uncertain_messages where message_id = new.id;
        end if;
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.notify_instance(id text)
 RETURNS void
 LANGUAGE sql
AS $function$
        select pg_notify('instance_' || md5(id), '')
      $function$;

CREATE OR REPLACE FUNCTION public.notify_instances()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        if new.instance_id is not null and (old.instance_id is distinct from new.instance_id
            or old.desired_state <> new.desired_state or old.epoch <> new.epoch
            or (old.held_by is distinct from new.held_by and new.held_by is null)
            or old.proxy_url is distinct from new.proxy_url or old.proxy_credentials is distinct from new.proxy_credentials
            or old.link_method <> new.link_method or old.link_phone_number is distinct from new.link_phone_number
            or (old.status <> new.status and new.status = 'starting' and new.held_by is null)) then
          perform notify_instance(new.instance_id);
        end if;
        if old.instance_id is not null and old.instance_id is distinct from new.instance_id then
          perform notify_instance(old.instance_id);
        end if;
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.notify_key()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        perform pg_notify('flotilla_keys', old.id::text);
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.notify_keys_of_workspace()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        perform pg_notify('flotilla_keys', id::text) from api_keys where workspace_id = new.id;
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.notify_limits()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        perform pg_notify('flotilla_limits', new.id::text);
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.notify_message_wait()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        perform pg_notify('flotilla_message_waits', new.id || ' ' || new.status);
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.notify_new_key()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        perform pg_notify('flotilla_keys', new.id::text);
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.pause_cold_after_refusal()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        update account_pacing set
          refusals = case when refusals + 1 < pause_after then refusals + 1 else 0 end,
          cold_paused_until = case when refusals + 1 < pause_after then cold_paused_until else now() + cool_down end,
          cold_pause_reason = case when refusals + 1 < pause_after then cold_pause_reason else 'refused' end
        where account_id = new.account_id and (cold_paused_until is null or cold_paused_until <= now());
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.publish_account_event()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
      end $function$;

CREATE OR REPLACE FUNCTION public.publish_campaign_status()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        insert into events (workspace_id, type, data) values (new.workspace_id, 'campaign.status', campaign_json(new));
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.publish_message_action()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      declare
        changed jsonb;
      begin
        -- Nobody has been told of it yet: message.received will say it all.
        if new.media_due_at is not null then return null; end if;
        if new.edited_at is distinct from old.edited_at then
          insert into events (workspace_id, account_id, type, data) values (new.workspace_id, new.account_id,
            'message.edited', message_json(new) || jsonb_build_object('previousText', old.text));
        end if;
        if new.revoked_at is not null and old.revoked_at is null then
          insert into events (workspace_id, account_id, type, data) values (new.workspace_id, new.account_id,
            'message.revoked', message_json(new));
        end if;
        for changed in select after.value from jsonb_array_elements(new.reactions) after
          where not exists (select from jsonb_array_elements(old.reactions) before where before.value = after.value) loop
          insert into events (workspace_id, account_id, type, data) values (new.workspace_id, new.account_id,
            'message.reaction', message_json(new) || jsonb_build_object('reaction', changed));
        end loop;
        for changed in select after.value from jsonb_array_elements(new.votes) after
          where not exists (select from jsonb_array_elements(old.votes) before where before.value = after.value) loop
          insert into events (workspace_id, account_id, type, data) values (new.workspace_id, new.account_id,
            'message.poll_vote', message_json(new) || jsonb_build_object('vote', changed));
        end loop;
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.publish_message_event()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      declare
        steps constant text[] := array['sent', 'delivered', 'read', 'played'];
        step messages%rowtype;
      begin
        if tg_op = 'UPDATE' then
          for place in coalesce(array_position(steps, old.status), 0) + 1
              .. coalesce(array_position(steps, new.status), 0) - 1 loop
            step := new;
            step.status := steps[place];
            if place < 2 then step.delivered_at := null; end if;
            if place < 3 then step.read_at := null; end if;
            insert into events (workspace_id, account_id, type, data)
            values (new.workspace_id, new.account_id, 'message.' || step.status, message_json(step));
          end loop;
        end if;
        insert into events (workspace_id, account_id, type, data)
        values (new.workspace_id, new.account_id, case when new.is_from_device and (tg_op = 'INSERT' or old.status = new.status)
          then 'message.sent_elsewhere'
          when new.direction = 'incoming' and new.chat_id = 'status@broadcast' then 'story.' || new.status
          when new.direction = 'incoming' and new.chat_id like '%@newsletter' then 'channel.' || new.status
          else 'message.' || new.status end, message_json(new));
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.publish_pacing_event()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        if new.cold_paused_until is not null then
          insert into events (workspace_id, account_id, type, data) values (new.workspace_id, new.account_id,
            'account.cold_paused', jsonb_build_object('accountId', new.account_id, 'reason', new.cold_pause_reason,
              'until', iso_time(new.cold_paused_until)));
        else
          insert into events (workspace_id, account_id, type, data) values (new.workspace_id, new.account_id,
            'account.cold_resumed', jsonb_build_object('accountId', new.account_id,
              'reason', case when old.cold_paused_until <= now() then 'cool_down' else 'user_initiated' end));
        end if;
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.publish_suppression()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        if tg_op = 'INSERT' then
          insert into events (workspace_id, type, data) values (new.workspace_id, 'suppression.added', suppression_json(new));
        else
          insert into events (workspace_id, type, data) values (old.workspace_id, 'suppression.removed', suppression_json(old));
        end if;
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.publish_web_incompatible()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        insert into events (workspace_id, account_id, type, data)
        values (new.workspace_id, new.id, 'account.web_incompatible',
          jsonb_build_object('accountId', new.id, 'version', new.web_version, 'missing', new.web_missing,
            'phoneNumber', new.phone_number));
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.publish_web_version()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        insert into events (type, data) values ('web_version.status', jsonb_build_object('environment', new.environment,
          'version', new.version, 'status', new.status, 'reason', new.reason,
          'previousStatus', case when tg_op = 'UPDATE' then old.status end));
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.publish_webhook_disabled()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        insert into events (workspace_id, type, data) values (new.workspace_id, 'webhook.disabled', jsonb_build_object(
          'webhookId', new.id, 'url', new.url, 'description', new.description, 'reason', new.disabled_reason,
          'failingSince', iso_time(new.failing_since)));
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.read_events(after_transaction xid8, after_id bigint, of_workspace uuid, max_rows integer, max_bytes integer)
 RETURNS TABLE(transaction_id xid8, id bigint, type text, workspace_id uuid, account_id uuid, created_at timestamp with time zone, data jsonb, has_more boolean)
 LANGUAGE plpgsql
 STABLE
 SET plan_cache_mode TO 'force_custom_plan'
AS $function$
      #variable_conflict use_column
      declare
        event record;
        row_count integer := 0;
        byte_count bigint := 0;
      begin
        for event in
          select e.transaction_id, e.id, e.type, e.workspace_id, e.account_id, e.created_at, e.data from events e
          where (e.transaction_id, e.id) > (after_transaction, after_id)
            and e.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
            and (of_workspace is null or e.workspace_id = of_workspace)
          order by e.transaction_id, e.id limit max_rows
        loop
          row_count := row_count + 1;
          byte_count := byte_count + octet_length(event.data::text);
          return query select event.transaction_id, event.id, event.type, event.workspace_id, event.account_id,
            event.created_at, event.data, row_count = max_rows or byte_count >= max_bytes;
          exit when byte_count >= max_bytes;
        end loop;
      end $function$;

CREATE OR REPLACE FUNCTION public.reassign_devices_on_server_failure(failed_server_id text DEFAULT NULL::text)
 RETURNS integer
 LANGUAGE plpgsql
AS $function$
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
      end $function$;

CREATE OR REPLACE FUNCTION public.record_failed_message()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      declare
        carried_by constant text := 'whatsapp-' || (array['campaign', 'normal', 'high', 'urgent'])[new.priority + 1];
      begin
        insert into failed_jobs (id, queue, job_id, name, data, exception, attempts, message_id, workspace_id)
        values (new.id, carried_by, 'message-' || new.id, carried_by, jsonb_build_object('id', new.id),
          coalesce(new.error_code, 'message.' || new.status) || coalesce(': ' || new.error_message, ''),
          new.attempts, new.id, new.workspace_id)
        on conflict (id) do update set queue = excluded.queue, exception = excluded.exception,
          attempts = excluded.attempts, failed_at = excluded.failed_at;
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.record_web_version()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        insert into web_versions (environment, version, contract)
        values (new.environment, new.web_version, new.web_contract)
        on conflict (environment, version) do update set contract = excluded.contract, last_seen_at = now();
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.refuse_device()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        raise exception 'devices are not created or deleted by SQL' using errcode = 'feature_not_supported',
          hint = 'Use POST /api/v1/accounts and DELETE /api/v1/accounts/:id: a deleted device is also unlinked from its phone.';
      end $function$;

CREATE OR REPLACE FUNCTION public.round(value double precision, digits integer)
 RETURNS double precision
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
AS $function$ select pg_catalog.round(value::numeric, digits)::double precision $function$;

CREATE OR REPLACE FUNCTION public.suppressed_sentence()
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
        select 'The person gets no campaigns: GET /suppressions tells since when, and why.'
      $function$;

CREATE OR REPLACE FUNCTION public.suppression_json(s suppressions)
 RETURNS jsonb
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$
        select jsonb_build_object('id', s.id, 'workspaceId', s.workspace_id, 'to', s.address, 'source', s.source, 'reason', s.reason,
          'messageId', s.message_id, 'accountId', s.account_id, 'createdAt', iso_time(s.created_at))
      $function$;

CREATE OR REPLACE FUNCTION public.suppressions_lock(workspace uuid)
 RETURNS bigint
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$
        select hashtextextended('suppressions of ' || workspace, 0)
      $function$;

CREATE OR REPLACE FUNCTION public.update_backend_server()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
      end $function$;

CREATE OR REPLACE FUNCTION public.update_device()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
      end $function$;

CREATE OR REPLACE FUNCTION public.webhook_delivery_id()
 RETURNS uuid
 LANGUAGE sql
 PARALLEL SAFE
AS $function$
        select encode(overlay(uuid_send(gen_random_uuid()) placing substring(int8send(us / 1000) from 3)
          || int2send((28672 + us % 1000 * 4096 / 1000)::smallint) from 1 for 8), 'hex')::uuid
        from (select floor(extract(epoch from clock_timestamp()) * 1000000)::bigint as us) moment
      $function$;

CREATE OR REPLACE FUNCTION public.webhook_wants(w webhooks, event_type text, event_account_id uuid)
 RETURNS boolean
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$
        select (w.account_ids is null or event_account_id = any(w.account_ids))
          and exists (select from unnest(w.events) pattern where pattern = event_type
            or (right(pattern, 1) = '*' and starts_with(event_type, left(pattern, -1))
              and event_type not in ('account.qr', 'account.pairing_code')))
          and (w.labels is null
            or exists (select from accounts a where a.id = event_account_id and a.labels && w.labels))
      $function$;

CREATE OR REPLACE FUNCTION public.write_media_blob(blob uuid, content bytea, length bigint)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO '$user', 'public'
AS $function$
        insert into media_blobs (id, sha256, size) values (blob, content, length)
      $function$;
