import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The tables that came together with the isolation of workspaces, under it. */
export class Isolation1795737600009 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      select isolate_workspace('media');
      select isolate_workspace('webhooks');
      select isolate_workspace('webhook_deliveries');
      select isolate_workspace('webhook_lanes');
      -- Whoever adds deliveries locks it, so that the reader of the log comes before or after.
      grant select, update (moved_at) on webhook_cursor to flotilla_tenant;
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      revoke all on media, webhooks, webhook_deliveries, webhook_lanes, webhook_cursor from flotilla_tenant;
      revoke update (moved_at) on webhook_cursor from flotilla_tenant;
      drop policy workspace on media;
      drop policy workspace on webhooks;
      drop policy workspace on webhook_deliveries;
      drop policy workspace on webhook_lanes;
      alter table media disable row level security;
      alter table webhooks disable row level security;
      alter table webhook_deliveries disable row level security;
      alter table webhook_lanes disable row level security;
    `);
  }
}
