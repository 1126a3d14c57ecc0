import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Whether an account shows the writers of incoming messages at once that it has read them. */
export class AutoRead1796428800032 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('alter table accounts add column auto_read boolean not null default false');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('alter table accounts drop column auto_read');
  }
}
