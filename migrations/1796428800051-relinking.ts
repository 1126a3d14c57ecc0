import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * A phone with another number does not become an account's phone by accident: an account keeps whether it may change its number at
 * the present connect, and the number of a phone that was refused.
 */
export class Relinking1796428800051 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table accounts add column allow_number_change boolean not null default false,
        add column refused_number text;
      ${patch(sameNumber, otherNumber)}
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ${patch(otherNumber, sameNumber)}
      alter table accounts drop column allow_number_change, drop column refused_number;
    `);
  }
}

const sameNumber = `burst_sent = 0, refusals = 0 where account_id = new.id;`;

/** WhatsApp Web of the new number knows no message of the old one: nobody can tell whether these have left, and a retry may send them twice. */
const otherNumber = `${sameNumber}
    update messages set status = 'unknown', error_code = 'account.number_changed',
      error_message = 'The account has another number now. WhatsApp Web cannot tell whether the message left under the old number.'
    where account_id = new.id and (stage = 'sending' or (stage in ('scheduled', 'queued') and attempts > 0));`;

/** Changes the text of the function that runs when an account gets another number. Other migrations change other parts of it. */
function patch(from: string, to: string): string {
  const text = (value: string) => `$patch$${value}$patch$`;
  return `do $do$
    declare
      definition text := pg_get_functiondef('begin_pacing_anew'::regproc);
    begin
      if position(${text(from)} in definition) = 0 then
        raise exception 'begin_pacing_anew has not the text that this migration changes';
      end if;
      execute replace(definition, ${text(from)}, ${text(to)});
    end $do$;`;
}
