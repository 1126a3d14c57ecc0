import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Account safety: how carefully an account sends. A paced account has a row in `account_pacing`. For an account that is not
 * paced, the claim of a message only costs the look-up of the missing row.
 */
export class Pacing1795651200002 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table workspaces add column pacing jsonb;
      -- Any object was accepted before, and no object had an effect.
      update accounts set pacing = null where pacing is not null;

      create table account_pacing (
        account_id uuid primary key references accounts on delete cascade,
        workspace_id uuid not null,
        -- From when on a message may leave, by priority: campaign, normal, high, urgent.
        next_send_at timestamptz[] not null default array_fill('epoch'::timestamptz, array[4])
          check (cardinality(next_send_at) = 4),
        burst_sent integer not null default 0,
        last_sent_at timestamptz,
        -- The UTC day of the counts.
        day date,
        cold_sent integer not null default 0,
        replies_sent integer not null default 0,
        warm_up_from date,
        -- Until when a used-up budget keeps messages back. Null: it does not.
        cold_closed_until timestamptz,
        replies_closed_until timestamptz,
        -- The message that was counted last, and the state before it: if the message never left, its count is undone.
        counted_message_id uuid,
        before_message jsonb,
        -- Refusals of cold messages since the day began or the cold lane was opened, and what too many of them lead to.
        refusals integer not null default 0,
        pause_after integer not null,
        cool_down interval not null,
        cold_paused_until timestamptz,
        cold_pause_reason text,
        -- When pacing is switched on, the waiting messages are marked as cold or not, in the order of ids. This is the last marked
        -- one. Null: all are marked.
        marking_after uuid
      ) with (fillfactor = 50);
      create index account_pacing_paused on account_pacing (cold_paused_until) where cold_paused_until is not null;
      create index account_pacing_marking on account_pacing (account_id) where marking_after is not null;

      -- Every live account is paced from now on. An account that was linked before is not new: its warm-up began then.
      insert into account_pacing (account_id, workspace_id, warm_up_from, pause_after, cool_down)
      select id, workspace_id, (linked_at at time zone 'UTC')::date, 1, interval '1 day' from accounts
      where environment = 'live';

      -- Who has written to an account, under each chat id by which that person is known.
      create table contacts (
        account_id uuid not null references accounts on delete cascade,
        chat_id text not null,
        primary key (account_id, chat_id)
      );
      insert into contacts select distinct account_id, chat_id from messages where direction = 'incoming';

      -- Whether the recipient of a message of a paced account has never written to that account. Null: the account is not paced.
      alter table messages add column is_cold boolean;
      -- While one kind is held back, the head of a lane is the first row of the other kind here.
      create index messages_lane_kind on messages (account_id, is_cold, priority desc, seq)
        where stage = 'queued' and is_cold is not null;
      -- What stops being cold when its recipient writes.
      create index messages_cold on messages (account_id, chat_id) where is_cold and stage is not null;
      update messages m set is_cold = m.chat_id not like '%@g.us' and not exists (select from contacts c
          where c.account_id = m.account_id and c.chat_id = m.chat_id)
      from account_pacing p where p.account_id = m.account_id and m.stage in ('scheduled', 'queued', 'sending');

      create function pause_cold_after_refusal() returns trigger language plpgsql as $$
      begin
        update account_pacing set
          refusals = case when refusals + 1 < pause_after then refusals + 1 else 0 end,
          cold_paused_until = case when refusals + 1 < pause_after then cold_paused_until else now() + cool_down end,
          cold_pause_reason = case when refusals + 1 < pause_after then cold_pause_reason else 'refused' end
        where account_id = new.account_id and (cold_paused_until is null or cold_paused_until <= now());
        return null;
      end $$;
      create trigger message_refused after update of status on messages for each row
        when (new.status = 'failed' and old.status <> 'failed' and new.error_code = 'whatsapp.refused' and new.is_cold)
        execute function pause_cold_after_refusal();

      create function publish_pacing_event() returns trigger language plpgsql as $$
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
      end $$;
      create trigger account_cold_lane after update of cold_paused_until on account_pacing for each row
        when (old.cold_paused_until is distinct from new.cold_paused_until) execute function publish_pacing_event();

      -- Another number was linked: WhatsApp has known it for no day yet, and nobody has written to it.
      create function begin_pacing_anew() returns trigger language plpgsql as $$
      begin
        delete from contacts where account_id = new.id;
        update account_pacing set warm_up_from = (now() at time zone 'UTC')::date, cold_sent = 0, replies_sent = 0,
          cold_closed_until = null, replies_closed_until = null, burst_sent = 0, refusals = 0 where account_id = new.id;
        update messages set is_cold = true
        where account_id = new.id and not is_cold and stage in ('scheduled', 'queued') and chat_id not like '%@g.us';
        return null;
      end $$;
      create trigger account_other_number after update of phone_number on accounts for each row
        when (old.phone_number <> new.phone_number) execute function begin_pacing_anew();
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop trigger account_other_number on accounts;
      drop trigger message_refused on messages;
      drop index messages_lane_kind, messages_cold;
      alter table messages drop column is_cold;
      drop table account_pacing, contacts;
      drop function pause_cold_after_refusal, publish_pacing_event, begin_pacing_anew;
      alter table workspaces drop column pacing;
    `);
  }
}
