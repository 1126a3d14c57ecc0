import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * What Flotilla found when it last checked the page of an account: the version of WhatsApp Web, whether the page has everything
 * that sending needs, and the names of what is missing. Only a new finding is announced, not each check that finds the same.
 */
export class WebContract1796256000001 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table accounts
        add column web_version text,
        add column web_contract text check (web_contract in ('ok', 'broken')),
        add column web_missing jsonb,
        add column web_checked_at timestamptz;

      create function publish_web_incompatible() returns trigger language plpgsql as $$
      begin
        insert into events (workspace_id, account_id, type, data)
        values (new.workspace_id, new.id, 'account.web_incompatible',
          jsonb_build_object('accountId', new.id, 'version', new.web_version, 'missing', new.web_missing,
            'phoneNumber', new.phone_number));
        return null;
      end $$;
      create trigger account_web_incompatible after update of web_contract, web_missing on accounts for each row
        when (new.web_contract = 'broken' and (old.web_contract is distinct from 'broken'
          or old.web_missing is distinct from new.web_missing))
        execute function publish_web_incompatible();
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop trigger account_web_incompatible on accounts;
      drop function publish_web_incompatible();
      alter table accounts drop column web_version, drop column web_contract, drop column web_missing,
        drop column web_checked_at;
    `);
  }
}
