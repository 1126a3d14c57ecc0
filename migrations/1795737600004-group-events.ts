import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Events of groups: WhatsApp gives each notice of a group its own id, and the log accepts each id once. */
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
