import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * The messages whose acks Flotilla asks WhatsApp Web for, because an ack may still tell their outcome. The failed jobs cannot
 * list them, because an operator may delete failed jobs. A trigger maintains the table. An index on the status instead would
 * make each ack of any message touch the indexes.
 */
export class UncertainMessages1795824000001 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create table uncertain_messages (
        message_id uuid primary key references messages on delete cascade,
        account_id uuid not null,
        since timestamptz not null default now()
      );
      create index uncertain_messages_account on uncertain_messages (account_id, since desc);
      select isolate_account('uncertain_messages');

      create function note_uncertain_message() returns trigger language plpgsql as $$
      begin
        if ${isUncertain('new')} then
          insert into uncertain_messages (message_id, account_id) values (new.id, new.account_id)
          on conflict (message_id) do update set since = excluded.since;
        else
          delete from uncertain_messages where message_id = new.id;
        end if;
        return null;
      end $$;
      -- Its condition is all that an ordinary change of status costs.
      create trigger message_uncertain after update of status on messages for each row
        when (old.status is distinct from new.status and (${isUncertain('old')} or ${isUncertain('new')}))
        execute function note_uncertain_message();

      insert into uncertain_messages (message_id, account_id, since)
      select m.id, m.account_id, coalesce(f.failed_at, m.failed_at, now())
      from messages m left join failed_jobs f on f.message_id = m.id
      where ${isUncertain('m')};
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop trigger message_uncertain on messages;
      drop function note_uncertain_message;
      drop table uncertain_messages;
    `);
  }
}

/**
 * Whether it is unknown if the message arrived, also while the message waits to be sent again. A refused message did not arrive,
 * unless a page that had lost the refusal sent it.
 */
function isUncertain(message: string): string {
  return `(${message}.status = 'unknown' or ${message}.status = 'failed' and ${message}.error_code = 'whatsapp.refused'
          or ${message}.status in ('queued', 'scheduled') and ${message}.attempts > 0)`;
}
