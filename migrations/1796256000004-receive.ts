import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Stories and posts of channels are no messages to an account, unless the account asks for them. */
export class Receive1796256000004 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(
      `alter table accounts add column receive jsonb not null default '{"stories": false, "channels": false}'`,
    );
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('alter table accounts drop column receive');
  }
}
