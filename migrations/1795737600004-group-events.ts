import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Events of groups: WhatsApp tells each notice of a group under an id of its own, and the log takes each once. */
export class GroupEvents1795737600004 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create unique index events_group_notice on events (account_id, (data ->> 'groupId'), (data ->> 'noticeId'))
      where type like 'group.%'
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`drop index events_group_notice`);
  }
}
