import { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { expect, it } from 'vitest';
import { dataSourceOptions, loadMigrations } from '../../src/platform/database/data-source.js';
import { scratchDatabase } from '../support/scratch-database.js';

it('the migration finds the messages with an unknown outcome, also without their failed jobs, and can be reverted', async () => {
  const { config, drop } = await scratchDatabase({ migrated: false });
  const all = await loadMigrations();
  const place = all.findIndex(({ name }) => name.startsWith('UncertainMessages'));
  const upTo = async (end: number) =>
    new DataSource({ ...dataSourceOptions(config), migrations: all.slice(0, end) }).initialize();
  const before = await upTo(place);
  const after = await upTo(place + 1);
  try {
    await before.runMigrations({ transaction: 'each' });
    const [workspaceId, accountId] = [uuidv7(), uuidv7()];
    await before.query(`insert into workspaces (id, name) values ($1, 'w')`, [workspaceId]);
    await before.query(
      `insert into accounts (id, workspace_id, name, environment) values ($1, $2, 'a', 'sandbox')`,
      [accountId, workspaceId],
    );
    for (const [name, status, code, attempts] of [
      ['waits', 'queued', null, 0],
      ['waits again', 'queued', null, 1],
      ['has no chat', 'failed', 'recipient.no_chat', 1],
      ['refused', 'failed', 'whatsapp.refused', 1],
      ['unknown', 'unknown', 'whatsapp.no_answer', 8],
      ['forgotten', 'unknown', 'whatsapp.no_answer', 8],
      ['sent', 'sent', null, 1],
    ]) {
      const id = uuidv7();
      await before.query(
        `insert into messages (id, workspace_id, account_id, direction, type, chat_id, recipient, text, status, whatsapp_id, attempts)
         values ($1, $2, $3, 'outgoing', 'text', '1@c.us', '1', $4, 'sending', $1::uuid::text, $5)`,
        [id, workspaceId, accountId, name, attempts],
      );
      await before.query('update messages set status = $2, error_code = $3 where id = $1', [
        id,
        status,
        code,
      ]);
      await before.query(
        `update failed_jobs set failed_at = now() - interval '1 hour' where message_id = $1`,
        [id],
      );
      if (name === 'forgotten') await before.query('delete from failed_jobs where message_id = $1', [id]);
    }

    await after.runMigrations({ transaction: 'each' });
    expect(
      await after.query(
        `select m.text, u.since > now() - interval '1 minute' as "justNow"
         from uncertain_messages u join messages m on m.id = u.message_id and m.account_id = u.account_id order by 1`,
      ),
    ).toEqual([
      { text: 'forgotten', justNow: true },
      { text: 'refused', justNow: false },
      { text: 'unknown', justNow: false },
      { text: 'waits again', justNow: true },
    ]);

    await after.undoLastMigration({ transaction: 'each' });
    await after.query(`update messages set status = 'sent'`);
    expect(await after.query(`select to_regclass('uncertain_messages') as "table"`)).toEqual([
      { table: null },
    ]);
  } finally {
    await before.destroy();
    await after.destroy();
    await drop();
  }
});
