import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What a message of unknown outcome becomes, and how often a message was sent anew. */
export class Delivery1795564800000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table workspaces
        -- 'hold': a person decides. 'resend': it is sent again, under the same WhatsApp id.
        add column unknown_policy text not null default 'hold' check (unknown_policy in ('hold', 'resend'));

      alter table messages
        -- How often it was sent anew, by hand or by that policy. A failed one got a new WhatsApp id each time.
        add column resends integer not null default 0;
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table messages drop column resends;
      alter table workspaces drop column unknown_policy;
    `);
  }
}
