import type { MigrationInterface, QueryRunner } from 'typeorm';

/** An index of the sent messages of an account, the latest first: Flotilla asks WhatsApp Web for their acks. */
export class SentMessages1795824000002 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      -- A message enters it by the same update that ends its stage, and no later ack changes what is in it. Its condition names
      -- the stage so that it fits no query that asks for sent_at alone: where statistics say that nothing has been sent,
      -- PostgreSQL would look through all of this index for one recipient.
      create index messages_sent on messages (account_id, sent_at desc) where stage is null and sent_at is not null
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('drop index messages_sent');
  }
}
