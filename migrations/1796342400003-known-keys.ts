import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Every API process keeps the beginnings of the hashes of all keys, so that a flood of guesses costs no query. */
export class KnownKeys1796342400003 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create function notify_new_key() returns trigger language plpgsql as $$
      begin
        perform pg_notify('flotilla_keys', new.id::text);
        return null;
      end $$;
      create trigger key_created after insert on api_keys for each row execute function notify_new_key();
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop trigger key_created on api_keys;
      drop function notify_new_key;
    `);
  }
}
