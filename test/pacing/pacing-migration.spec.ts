import { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { expect, it } from 'vitest';
import { dataSourceOptions, loadMigrations } from '../../src/platform/database/data-source.js';
import { scratchDatabase } from '../support/scratch-database.js';

it('paces the existing live accounts, marks their waiting messages as cold or not, and can be reverted', async () => {
  const { config, drop } = await scratchDatabase({ migrated: false });
  const all = await loadMigrations();
  const place = all.findIndex(({ name }) => name.startsWith('Pacing'));
  const upTo = async (end: number) =>
    new DataSource({ ...dataSourceOptions(config), migrations: all.slice(0, end) }).initialize();
  const before = await upTo(place);
  const after = await upTo(place + 1);
  try {
    await before.runMigrations({ transaction: 'each' });
    const workspaceId = uuidv7();
    await before.query(`insert into workspaces (id, name) values ($1, 'w')`, [workspaceId]);
    const [live, sandbox] = [uuidv7(), uuidv7()];
    await before.query(
      `insert into accounts (id, workspace_id, name, environment, pacing, linked_at)
       values ($2, $1, 'live', 'live', '{"any": "thing"}', '2026-01-31T23:30:00Z'), ($3, $1, 'sandbox', 'sandbox', null, now())`,
      [workspaceId, live, sandbox],
    );
    for (const [account, chat, direction, status] of [
      [live, '1@c.us', 'incoming', 'received'],
      [live, '1@c.us', 'outgoing', 'queued'],
      [live, '2@c.us', 'outgoing', 'scheduled'],
      [live, '3@g.us', 'outgoing', 'queued'],
      [live, '4@c.us', 'outgoing', 'sent'],
      [sandbox, '5@c.us', 'outgoing', 'queued'],
    ]) {
      await before.query(
        `insert into messages (id, workspace_id, account_id, direction, type, chat_id, recipient, status, whatsapp_id)
         values ($1, $2, $3, $5, 'text', $4, $4, $6, $1::uuid::text)`,
        [uuidv7(), workspaceId, account, chat, direction, status],
      );
    }

    await after.runMigrations({ transaction: 'each' });
    expect(
      await after.query('select account_id, warm_up_from::text, marking_after from account_pacing'),
    ).toEqual([{ account_id: live, warm_up_from: '2026-01-31', marking_after: null }]);
    expect(
      await after.query(
        `select chat_id, is_cold from messages where direction = 'outgoing' order by chat_id`,
      ),
    ).toEqual([
      { chat_id: '1@c.us', is_cold: false },
      { chat_id: '2@c.us', is_cold: true },
      { chat_id: '3@g.us', is_cold: false },
      { chat_id: '4@c.us', is_cold: null },
      { chat_id: '5@c.us', is_cold: null },
    ]);
    expect(await after.query('select pacing from accounts where id = $1', [live])).toEqual([
      { pacing: null },
    ]);

    await after.undoLastMigration({ transaction: 'each' });
    const left = await after.query(
      `select table_name from information_schema.columns where column_name in ('is_cold', 'next_send_at', 'marking_after')`,
    );
    expect(left).toEqual([]);
    await after.runMigrations({ transaction: 'each' });
  } finally {
    await before.destroy();
    await after.destroy();
    await drop();
  }
});
