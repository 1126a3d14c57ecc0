import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * A statement of a tenant finds its workspace once. Before, PostgreSQL called `current_workspace()` for each row that it looked at, and
 * a page of `GET /messages` looks at thousands.
 */
export class Policies1796428800071 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(policies('current_workspace()', '(select current_workspace())'));
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(policies('(select current_workspace())', 'current_workspace()'));
  }
}

/** Changes the policies that there are, and the function that makes the next ones. */
function policies(from: string, to: string): string {
  const condition = (call: string) => `using (workspace_id = ${call})`;
  return `do $do$
    declare
      isolated regclass;
      definition text := pg_get_functiondef('isolate_workspace'::regproc);
    begin
      if position('${condition(from)}' in definition) = 0 then
        raise exception 'isolate_workspace has not the text that this migration changes';
      end if;
      execute replace(definition, '${condition(from)}', '${condition(to)}');
      for isolated in
        select polrelid::regclass from pg_policy
        where polname = 'workspace' and pg_get_expr(polqual, polrelid) like '(workspace_id = %'
      loop
        execute format('alter policy workspace on %s ${condition(to)}', isolated);
      end loop;
      alter policy workspace on workspaces using (id = ${to});
    end $do$;`;
}
