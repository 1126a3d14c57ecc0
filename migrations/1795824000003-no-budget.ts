import type { MigrationInterface, QueryRunner } from 'typeorm';

const beginPacingAnew = (closedUntil: (lane: string) => string) => `
  create or replace function begin_pacing_anew() returns trigger language plpgsql as $$
  begin
    delete from contacts where account_id = new.id;
    update account_pacing set warm_up_from = (now() at time zone 'UTC')::date, cold_sent = 0, replies_sent = 0,
      cold_closed_until = ${closedUntil('cold_closed_until')}, replies_closed_until = ${closedUntil('replies_closed_until')},
      burst_sent = 0, refusals = 0 where account_id = new.id;
    update messages set is_cold = true
    where account_id = new.id and not is_cold and stage in ('scheduled', 'queued') and chat_id not like '%@g.us';
    return null;
  end $$`;

/** Messages of a kind with budget 0 stay closed when another number is linked. */
export class NoBudget1795824000003 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(beginPacingAnew((lane) => `case when ${lane} = 'infinity' then ${lane} end`));
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(beginPacingAnew(() => 'null'));
  }
}
