import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Reads the log of events up to a number of rows and of bytes. It stops at the limit: the next rows are not even read. Each call
 * plans its query, because the best index depends on whether the call names a workspace.
 */
export class ReadEvents1796342400001 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create function read_events(after_transaction xid8, after_id bigint, of_workspace uuid, max_rows integer, max_bytes integer)
        returns table (transaction_id xid8, id bigint, type text, workspace_id uuid, account_id uuid,
          created_at timestamptz, data jsonb, has_more boolean)
        language plpgsql stable set plan_cache_mode = force_custom_plan as $$
      #variable_conflict use_column
      declare
        event record;
        row_count integer := 0;
        byte_count bigint := 0;
      begin
        for event in
          select e.transaction_id, e.id, e.type, e.workspace_id, e.account_id, e.created_at, e.data from events e
          where (e.transaction_id, e.id) > (after_transaction, after_id)
            and e.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
            and (of_workspace is null or e.workspace_id = of_workspace)
          order by e.transaction_id, e.id limit max_rows
        loop
          row_count := row_count + 1;
          byte_count := byte_count + octet_length(event.data::text);
          return query select event.transaction_id, event.id, event.type, event.workspace_id, event.account_id,
            event.created_at, event.data, row_count = max_rows or byte_count >= max_bytes;
          exit when byte_count >= max_bytes;
        end loop;
      end $$;
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('drop function read_events');
  }
}
