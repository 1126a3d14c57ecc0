import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What an endpoint may need besides its URL, and a filter of its events by the labels of accounts. */
export class WebhookAccess1796428800021 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table webhooks
        -- Headers of every delivery, encrypted: a JSON object of names and values. Answers show only the names.
        add column headers bytea,
        add column header_names text[] not null default '{}',
        -- The user and the password that the URL had, encrypted: a JSON object.
        add column login bytea,
        -- PEM. The only authorities or certificates that the endpoint's own certificate may come from.
        add column ca_certificate text,
        -- Only events of accounts with one of these labels. Null: of all.
        add column labels text[];

      -- The codes by which an account is linked are only for an endpoint that names them in full.
      create or replace function webhook_wants(w webhooks, event_type text, event_account_id uuid) returns boolean
        language sql stable parallel safe as $$
        select (w.account_ids is null or event_account_id = any(w.account_ids))
          and exists (select from unnest(w.events) pattern where pattern = event_type
            or (right(pattern, 1) = '*' and starts_with(event_type, left(pattern, -1))
              and event_type not in ('account.qr', 'account.pairing_code')))
          and (w.labels is null
            or exists (select from accounts a where a.id = event_account_id and a.labels && w.labels))
      $$;
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create or replace function webhook_wants(w webhooks, event_type text, event_account_id uuid) returns boolean
        language sql immutable parallel safe as $$
        select (w.account_ids is null or event_account_id = any(w.account_ids))
          and exists (select from unnest(w.events) pattern where pattern = event_type
            or (right(pattern, 1) = '*' and starts_with(event_type, left(pattern, -1))
              and event_type not in ('account.qr', 'account.pairing_code')))
      $$;
      alter table webhooks drop column headers, drop column header_names, drop column login,
        drop column ca_certificate, drop column labels;
    `);
  }
}
