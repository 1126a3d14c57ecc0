import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Changes of a message after it was sent: edits, revocations and reactions. */
export class MessageActions1795651200000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table messages
        add column edited_at timestamptz,
        add column revoked_at timestamptz,
        -- A list of {from, emoji, at}. A reaction that was taken back stays, with an empty emoji: an older one may come late.
        add column reactions jsonb not null default '[]';

      create or replace function message_json(m messages) returns jsonb language sql stable parallel safe as $$
        select ${messageFields.slice(0, -1)},
          'editedAt', iso_time(m.edited_at), 'revokedAt', iso_time(m.revoked_at),
          'reactions', jsonb_path_query_array(m.reactions, '$[*] ? (@.emoji != "")'))
      $$;

      -- In the transaction of the change itself, so that no code path can forget one. 'data' is the message and what changed.
      create function publish_message_action() returns trigger language plpgsql as $$
      declare
        changed jsonb;
      begin
        if new.edited_at is distinct from old.edited_at then
          insert into events (workspace_id, account_id, type, data) values (new.workspace_id, new.account_id,
            'message.edited', message_json(new) || jsonb_build_object('previousText', old.text));
        end if;
        if new.revoked_at is not null and old.revoked_at is null then
          insert into events (workspace_id, account_id, type, data) values (new.workspace_id, new.account_id,
            'message.revoked', message_json(new));
        end if;
        for changed in
          select after.value from jsonb_array_elements(new.reactions) after
          left join jsonb_array_elements(old.reactions) before on before.value ->> 'from' = after.value ->> 'from'
          where before.value is distinct from after.value
        loop
          insert into events (workspace_id, account_id, type, data) values (new.workspace_id, new.account_id,
            'message.reaction', message_json(new) || jsonb_build_object('reaction', changed));
        end loop;
        return null;
      end $$;
      create trigger message_acted_on after update of edited_at, revoked_at, reactions on messages for each row
        execute function publish_message_action();
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop trigger message_acted_on on messages;
      drop function publish_message_action;
      create or replace function message_json(m messages) returns jsonb language sql stable parallel safe as $$
        select ${messageFields}
      $$;
      alter table messages drop column edited_at, drop column revoked_at, drop column reactions;
    `);
  }
}

/** The event data of a message as the first migration built it. */
const messageFields = `jsonb_build_object(
          'id', m.id, 'workspaceId', m.workspace_id, 'accountId', m.account_id, 'direction', m.direction,
          'priority', (array['campaign', 'normal', 'high', 'urgent'])[m.priority + 1], 'type', m.type,
          'to', m.recipient, 'from', m.sender, 'text', m.text, 'media', m.media, 'status', m.status,
          'error', case when m.error_code is null then null
                        else jsonb_build_object('code', m.error_code, 'message', m.error_message) end,
          'attempts', m.attempts, 'whatsappId', m.whatsapp_id, 'campaignId', m.campaign_id, 'replyTo', m.reply_to,
          'metadata', m.metadata, 'createdAt', iso_time(m.created_at), 'scheduledFor', iso_time(m.scheduled_for),
          'sentAt', iso_time(m.sent_at), 'deliveredAt', iso_time(m.delivered_at), 'readAt', iso_time(m.read_at),
          'failedAt', iso_time(m.failed_at))`;
