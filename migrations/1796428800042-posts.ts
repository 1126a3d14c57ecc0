import type { MigrationInterface, QueryRunner } from 'typeorm';

/** A story or a post of a channel that an account asks for is no message to the account: it has an event of its own. */
export class Posts1796428800042 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(patch(before, after));
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(patch(after, before));
  }
}

const before = `then 'message.sent_elsewhere' else 'message.' || new.status end`;
const after = `then 'message.sent_elsewhere'
          when new.direction = 'incoming' and new.chat_id = 'status@broadcast' then 'story.' || new.status
          when new.direction = 'incoming' and new.chat_id like '%@newsletter' then 'channel.' || new.status
          else 'message.' || new.status end`;

/** Changes its own part of the function, so that it fits before and after other migrations of the same function. */
function patch(from: string, to: string): string {
  return `do $do$
    declare
      definition text := pg_get_functiondef('publish_message_event'::regproc);
    begin
      if position($patch$${from}$patch$ in definition) = 0 then
        raise exception 'publish_message_event has not the text that this migration changes';
      end if;
      execute replace(definition, $patch$${from}$patch$, $patch$${to}$patch$);
    end $do$;`;
}
