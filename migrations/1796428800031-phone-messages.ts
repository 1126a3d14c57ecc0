import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Messages that the owner of an account writes on the phone or another linked device, the names of the people who write, and
 * WhatsApp's own time of incoming messages, which is in `sent_at` from now on.
 */
export class PhoneMessages1796428800031 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table messages add column is_from_device boolean not null default false;

      -- The ids that Flotilla gave to messages and that no row of messages has any more. WhatsApp Web may still have a message
      -- under such an id: the phone's owner did not write it.
      create table used_whatsapp_ids (
        account_id uuid not null references accounts (id) on delete cascade,
        whatsapp_id text not null,
        primary key (account_id, whatsapp_id)
      );
      select isolate_account('used_whatsapp_ids', 'select, insert');
      create function keep_used_whatsapp_id() returns trigger language plpgsql as $$
        begin
          insert into used_whatsapp_ids (account_id, whatsapp_id) values (old.account_id, old.whatsapp_id)
          on conflict do nothing;
          return null;
        end $$;
      create trigger message_got_other_id after update of whatsapp_id on messages for each row
        when (old.whatsapp_id <> new.whatsapp_id) execute function keep_used_whatsapp_id();
      -- How whatsappIdOf makes the ids of a message that was sent again.
      insert into used_whatsapp_ids (account_id, whatsapp_id)
        select m.account_id, earlier.whatsapp_id from messages m
        cross join lateral generate_series(0, m.resends) round
        cross join lateral (select '3EB0' || upper(left(encode(sha256(convert_to(
          m.id || case when round = 0 then '' else '/' || round end, 'UTF8')), 'hex'), 18)) as whatsapp_id) earlier
        where m.resends > 0 and earlier.whatsapp_id <> m.whatsapp_id
        on conflict do nothing;

      ${sentIndex(`direction = 'outgoing' and stage is null and sent_at is not null`)}
      ${changedTrigger('and new.media_due_at is null')}
      ${patch('message_json', ...messageJson)}
      ${patch('publish_message_event', ...messageEvent)}
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ${patch('publish_message_event', ...reversed(messageEvent))}
      ${patch('message_json', ...reversed(messageJson))}
      ${changedTrigger('')}
      ${sentIndex('stage is null and sent_at is not null')}
      update messages set sent_at = null where direction = 'incoming' and sent_at is not null;
      drop trigger message_got_other_id on messages;
      drop function keep_used_whatsapp_id;
      drop table used_whatsapp_ids;
      alter table messages drop column is_from_device;
    `);
  }
}

type Change = [from: string, to: string];

const messageJson: Change[] = [
  [
    `'participant', m.content -> 'participant'`,
    `'participant', '{"name": null}'::jsonb || (m.content -> 'participant'), 'group', m.content -> 'group', 'origin',
          case when m.direction = 'incoming' then null when m.is_from_device then 'device'
               when m.campaign_id is not null then 'campaign' else 'api' end`,
  ],
];

/** What the phone's owner wrote is published once: later steps of it are events as those of every message. */
const messageEvent: Change[] = [
  [
    `'message.' || new.status, message_json(new)`,
    `case when new.is_from_device and (tg_op = 'INSERT' or old.status = new.status)
          then 'message.sent_elsewhere' else 'message.' || new.status end, message_json(new)`,
  ],
];

function reversed(changes: Change[]): Change[] {
  return changes.map(([from, to]) => [to, from]);
}

/**
 * Changes the text of a function. Other migrations change the same function: this changes only its own part, so that it fits
 * before and after them.
 */
function patch(name: string, ...changes: Change[]): string {
  const text = (value: string) => `$patch$${value}$patch$`;
  return changes
    .map(
      ([from, to]) => `do $do$
        declare
          definition text := pg_get_functiondef('${name}'::regproc);
        begin
          if position(${text(from)} in definition) = 0 then
            raise exception '% has not the text that this migration changes', '${name}';
          end if;
          execute replace(definition, ${text(from)}, ${text(to)});
        end $do$;`,
    )
    .join('\n');
}

/** The index of SentMessages1795824000002 says why its condition names the stage. */
function sentIndex(condition: string): string {
  return `drop index messages_sent;
      create index messages_sent on messages (account_id, sent_at desc) where ${condition};`;
}

/** A message with media is published when its download has ended. Until then nobody has been told of it. */
function changedTrigger(condition: string): string {
  return `drop trigger message_changed on messages;
      create trigger message_changed after update of status on messages for each row
        when (old.status is distinct from new.status and new.status not in ('sending', 'queued', 'scheduled') ${condition})
        execute function publish_message_event();`;
}
