import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Events of calls: the log accepts each kind once for a call. And whether an account rejects calls, and answers them. */
export class Calls1796428800041 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table accounts add column reject_calls boolean not null default false, add column call_answer text;
      create unique index events_call on events (account_id, (data ->> 'callId'), type) where type like 'call.%'
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop index events_call;
      alter table accounts drop column call_answer, drop column reject_calls
    `);
  }
}
