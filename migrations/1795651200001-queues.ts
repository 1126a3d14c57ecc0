import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Pauses, restarts and heartbeats of workers, and failed jobs: the state that must survive a flushed Redis. */
export class Queues1795651200001 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      -- A queue without a row is served.
      create table queues (
        name text primary key,
        paused_at timestamptz
      );

      -- When all workers were last asked to restart; at most one row.
      create table worker_restarts (
        is_only boolean primary key default true check (is_only),
        requested_at timestamptz not null
      );

      create table workers (
        name text primary key,
        -- No foreign key: a machine that runs only workers registers no server.
        server_id text not null,
        pid integer not null,
        queues text[] not null,
        status text not null check (status in ('running', 'paused', 'stopping')),
        running integer not null,
        concurrency integer not null,
        processed bigint not null,
        failed bigint not null,
        memory_bytes bigint not null,
        started_at timestamptz not null,
        seen_at timestamptz not null
      );

      create table failed_jobs (
        -- The id of its message, if it has a message.
        id uuid primary key,
        queue text not null,
        job_id text not null,
        name text not null,
        data jsonb not null,
        exception text not null,
        attempts integer not null,
        -- To the millisecond, as clients have it: lists go on from it.
        failed_at timestamptz(3) not null default now(),
        message_id uuid references messages on delete cascade,
        workspace_id uuid references workspaces on delete cascade
      );
      -- A job that fails again replaces its record.
      create unique index failed_jobs_job on failed_jobs (queue, job_id);
      create index failed_jobs_age on failed_jobs (failed_at desc, id desc);
      create index failed_jobs_message on failed_jobs (message_id) where message_id is not null;
      -- A job that ran past its time stands for a message that others may have sent since.
      create index failed_jobs_timed_out on failed_jobs (message_id)
        where message_id is not null and exception like 'job.timed_out:%';
      create index failed_jobs_workspace on failed_jobs (workspace_id) where workspace_id is not null;
    `);

    await runner.query(`
      create function record_failed_message() returns trigger language plpgsql as $$
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
      end $$;

      create function forget_failed_message() returns trigger language plpgsql as $$
      begin
        delete from failed_jobs where message_id = new.id;
        return null;
      end $$;

      -- Their conditions are all that an ordinary change of status costs.
      create trigger message_failed after update of status on messages for each row
        when (old.status is distinct from new.status and new.direction = 'outgoing' and new.status in ('failed', 'unknown'))
        execute function record_failed_message();
      create trigger message_moved_on after update of status on messages for each row
        when (old.status in ('failed', 'unknown') and new.status not in ('failed', 'unknown'))
        execute function forget_failed_message();

      insert into failed_jobs (id, queue, job_id, name, data, exception, attempts, failed_at, message_id, workspace_id)
      select m.id, carried.by, 'message-' || m.id, carried.by, jsonb_build_object('id', m.id),
        coalesce(m.error_code, 'message.' || m.status) || coalesce(': ' || m.error_message, ''),
        m.attempts, coalesce(m.failed_at, m.created_at), m.id, m.workspace_id
      from messages m
      cross join lateral (select 'whatsapp-' || (array['campaign', 'normal', 'high', 'urgent'])[m.priority + 1] as by) carried
      where m.direction = 'outgoing' and m.status in ('failed', 'unknown');
    `);

    // The backlog is counted by priority: with it in the index no row has to be read.
    await runner.query(`
      drop index messages_scheduled;
      create index messages_scheduled on messages (scheduled_for) include (priority) where stage = 'scheduled';
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop index messages_scheduled;
      create index messages_scheduled on messages (scheduled_for) where stage = 'scheduled';
      drop trigger message_failed on messages;
      drop trigger message_moved_on on messages;
      drop function record_failed_message, forget_failed_message;
      drop table failed_jobs, workers, worker_restarts, queues;
    `);
  }
}
