import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The content of messages besides text: media, places, contacts, polls with votes, mentions, and the author in a group. */
export class Content1795737600002 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table messages
        -- What each type needs: location, contact, poll, mentions; for incoming messages also participant, quotedWhatsappId,
        -- whatsappType, and author, the chat id under which WhatsApp knows the writer.
        add column content jsonb,
        -- A list of {from, phone, lid, options, at}. A vote that was taken back stays, without options: an older vote may come late.
        add column votes jsonb not null default '[]',
        -- When the media of an incoming message is to be downloaded (again). Until it is there, or has failed for good, the
        -- message is not published.
        add column media_due_at timestamptz,
        add column media_attempts smallint not null default 0;
      create index messages_media_due on messages (media_due_at) where media_due_at is not null;
      create index messages_reacted on messages (account_id, id desc) where reactions <> '[]';

      create or replace function message_json(m messages) returns jsonb language sql stable parallel safe as $$
        select ${messageFields(`
          'location', m.content -> 'location', 'contact', m.content -> 'contact', 'poll', m.content -> 'poll',
          'votes', jsonb_path_query_array(m.votes, '$[*] ? (@.options.size() > 0)'),
          'mentions', m.content -> 'mentions', 'participant', m.content -> 'participant',
          'quotedWhatsappId', m.content ->> 'quotedWhatsappId', 'whatsappType', m.content ->> 'whatsappType'`)}
      $$;

      drop trigger message_created on messages;
      create trigger message_created after insert on messages for each row
        when (new.media_due_at is null) execute function publish_message_event();
      create trigger message_media_settled after update of media_due_at on messages for each row
        when (old.media_due_at is not null and new.media_due_at is null) execute function publish_message_event();

      create or replace function publish_message_action() returns trigger language plpgsql as $$
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
        for changed in ${changedIn('reactions')} loop
          insert into events (workspace_id, account_id, type, data) values (new.workspace_id, new.account_id,
            'message.reaction', message_json(new) || jsonb_build_object('reaction', changed));
        end loop;
        for changed in ${changedIn('votes')} loop
          insert into events (workspace_id, account_id, type, data) values (new.workspace_id, new.account_id,
            'message.poll_vote', message_json(new) || jsonb_build_object('vote', changed));
        end loop;
        return null;
      end $$;
      drop trigger message_acted_on on messages;
      create trigger message_acted_on after update of edited_at, revoked_at, reactions, votes on messages for each row
        execute function publish_message_action();
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop trigger message_media_settled on messages;
      drop trigger message_created on messages;
      create trigger message_created after insert on messages for each row execute function publish_message_event();
      drop trigger message_acted_on on messages;
      create or replace function message_json(m messages) returns jsonb language sql stable parallel safe as $$
        select ${messageFields()}
      $$;
      create or replace function publish_message_action() returns trigger language plpgsql as $$
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
        for changed in ${changedIn('reactions')} loop
          insert into events (workspace_id, account_id, type, data) values (new.workspace_id, new.account_id,
            'message.reaction', message_json(new) || jsonb_build_object('reaction', changed));
        end loop;
        return null;
      end $$;
      create trigger message_acted_on after update of edited_at, revoked_at, reactions on messages for each row
        execute function publish_message_action();
      drop index messages_reacted;
      alter table messages drop column content, drop column votes, drop column media_due_at, drop column media_attempts;
    `);
  }
}

/** The entries of a list (one entry per person) that were not in the list before the change. */
function changedIn(column: string): string {
  return `select after.value from jsonb_array_elements(new.${column}) after
          where not exists (select from jsonb_array_elements(old.${column}) before where before.value = after.value)`;
}

/** The event data of a message as the earlier migrations built it, and `more`. */
function messageFields(more?: string): string {
  return `jsonb_build_object(
          'id', m.id, 'workspaceId', m.workspace_id, 'accountId', m.account_id, 'direction', m.direction,
          'priority', (array['campaign', 'normal', 'high', 'urgent'])[m.priority + 1], 'type', m.type,
          'to', m.recipient, 'from', m.sender, 'text', m.text, 'media', m.media, 'status', m.status,
          'error', case when m.error_code is null then null
                        else jsonb_build_object('code', m.error_code, 'message', m.error_message) end,
          'attempts', m.attempts, 'whatsappId', m.whatsapp_id, 'campaignId', m.campaign_id, 'replyTo', m.reply_to,
          'metadata', m.metadata, 'createdAt', iso_time(m.created_at), 'scheduledFor', iso_time(m.scheduled_for),
          'sentAt', iso_time(m.sent_at), 'deliveredAt', iso_time(m.delivered_at), 'readAt', iso_time(m.read_at),
          'failedAt', iso_time(m.failed_at), 'editedAt', iso_time(m.edited_at), 'revokedAt', iso_time(m.revoked_at),
          'reactions', jsonb_path_query_array(m.reactions, '$[*] ? (@.emoji != "")')${more === undefined ? '' : `,${more}`})`;
}
