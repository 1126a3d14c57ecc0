import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Events tell whether media can be opened only once, and whether a video plays as a GIF. */
export class ViewOnce1796428800061 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(replaceInMessageJson(before, after));
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(replaceInMessageJson(after, before));
  }
}

const before = `'mentions', m.content -> 'mentions'`;
const after = `${before}, 'viewOnce', coalesce(m.content -> 'viewOnce', 'false'), 'gif', coalesce(m.content -> 'gif', 'false')`;

/** Changes only its own part of the function, as PhoneMessages1796428800031 does: other migrations change other parts. */
function replaceInMessageJson(from: string, to: string): string {
  const text = (value: string) => `$patch$${value}$patch$`;
  return `do $do$
    declare
      definition text := pg_get_functiondef('message_json'::regproc);
    begin
      if position(${text(from)} in definition) = 0 then
        raise exception 'message_json has not the text that this migration changes';
      end if;
      execute replace(definition, ${text(from)}, ${text(to)});
    end $do$;`;
}
