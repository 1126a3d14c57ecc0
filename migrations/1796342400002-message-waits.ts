import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Tells the API processes when a message that a caller waits for (`?wait=`) has another status. The other messages notify nobody,
 * because transactions that notify commit one after the other.
 */
export class MessageWaits1796342400002 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      -- The status that a caller waits or has waited for: sent or delivered. Null: nobody has waited.
      alter table messages add column awaited_status text;

      create function notify_message_wait() returns trigger language plpgsql as $$
      begin
        perform pg_notify('flotilla_message_waits', new.id || ' ' || new.status);
        return null;
      end $$;
      create trigger message_awaited after update of status on messages for each row
        when (new.awaited_status is not null and old.status <> new.status
          and new.status not in ('scheduled', 'queued', 'sending')
          and (new.awaited_status = 'delivered' or old.status in ('scheduled', 'queued', 'sending')))
        execute function notify_message_wait();
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop trigger message_awaited on messages;
      drop function notify_message_wait;
      alter table messages drop column awaited_status;
    `);
  }
}
