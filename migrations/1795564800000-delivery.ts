import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The policy for messages with an unknown outcome, the number of resends of a message, and an event for every step of its acks. */
export class Delivery1795564800000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table workspaces
        -- 'hold': a person decides. 'resend': it is sent again, under the same WhatsApp id.
        add column unknown_policy text not null default 'hold' check (unknown_policy in ('hold', 'resend'));

      alter table messages
        -- How often it was sent again, by hand or by that policy. A failed message got a new WhatsApp id each time.
        add column resends integer not null default 0;

      -- Acks are written as far as they have come: whoever listens is told every step on the way, in order.
      create or replace function publish_message_event() returns trigger language plpgsql as $$
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
        values (new.workspace_id, new.account_id, 'message.' || new.status, message_json(new));
        return null;
      end $$;
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create or replace function publish_message_event() returns trigger language plpgsql as $$
      begin
        insert into events (workspace_id, account_id, type, data)
        values (new.workspace_id, new.account_id, 'message.' || new.status, message_json(new));
        return null;
      end $$;
      alter table messages drop column resends;
      alter table workspaces drop column unknown_policy;
    `);
  }
}
