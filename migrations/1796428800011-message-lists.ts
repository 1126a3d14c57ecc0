import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Lets `GET /messages` find the few messages of a status among a million others. No index may contain `status` itself: acks change
 * it, and the update of a row is cheap (HOT) only while no indexed column changes.
 */
export class MessageLists1796428800011 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      -- The status of a message that ended without being sent; null for every other message.
      alter table messages add column ended text;

      create function note_message_end() returns trigger language plpgsql as $$
      begin
        new.ended := case when new.status in ('failed', 'unknown', 'cancelled', 'expired') then new.status end;
        return new;
      end $$;
      create trigger message_ended before insert or update of status on messages for each row
        when (new.status in ('failed', 'unknown', 'cancelled', 'expired') or new.ended is not null)
        execute function note_message_end();

      update messages set ended = status where status in ('failed', 'unknown', 'cancelled', 'expired');

      create index messages_ended on messages (workspace_id, ended, id desc) where ended is not null;
      create index messages_incoming on messages (workspace_id, id desc) where direction = 'incoming';
      create index messages_later on messages (workspace_id, id desc) where stage = 'scheduled';
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop index messages_ended, messages_incoming, messages_later;
      drop trigger message_ended on messages;
      drop function note_message_end;
      alter table messages drop column ended;
    `);
  }
}
