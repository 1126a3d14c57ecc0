import type { INestApplicationContext } from '@nestjs/common';
import { Client } from 'pg';
import type { DataSource } from 'typeorm';
import type { PostgresDriver } from 'typeorm/driver/postgres/PostgresDriver.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PacingReservations } from '../../src/sending/pacing-reservations.js';
import { LanesService } from '../../src/sending/lanes.service.js';
import { strictOrder } from '../../src/sending/lane-order.js';
import { AcceptService } from '../../src/messages/accept.service.js';
import { UpdatesService } from '../../src/receiving/updates.service.js';
import { LaneRunner } from '../../src/sending/lane-runner.js';
import { eventually } from '../support/eventually.js';
import { insertAccount, insertWorkspace, ready } from '../support/factories.js';
import { changed, fake } from '../support/fake.js';
import { senderThat } from '../support/fakes.js';
import { silent, startServices } from '../support/services.js';
import { scratchDatabase } from '../support/scratch-database.js';

/** So many messages that a good plan never reads all of them. */
const backlog = 50_000;
const burst = 5_000;
/** More runs than PostgreSQL makes custom plans before it may keep a generic plan. */
const rounds = 40;

let context: INestApplicationContext;
let drop: () => Promise<void>;
let databaseUrl: string;
let database: DataSource;
let accepting: AcceptService;
let sending: LaneRunner;
let lanes: LanesService;
/** Every send succeeds at once: these tests measure the ledger. */
const sendsAtOnce = senderThat(async () => ({ ack: 1 }));
let workspaceId: string;
let accountId: string;

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  databaseUrl = scratch.config.database.url;
  ({ context, database } = await startServices(scratch.config));
  accepting = context.get(AcceptService);
  sending = new LaneRunner(database, sendsAtOnce, new PacingReservations(database), scratch.config, silent);
  lanes = context.get(LanesService);
  workspaceId = await insertWorkspace(database);
  accountId = await insertAccount(database, workspaceId, ready);
  // Each test decides when the statistics are updated.
  await database.query('alter table messages set (autovacuum_enabled = false)');
  await addBacklog(backlog);
  await database.query('analyze messages');
}, 60_000);
afterAll(async () => {
  await context?.close();
  await drop?.();
});

async function addBacklog(count: number): Promise<void> {
  await database.query('alter table messages disable trigger message_created');
  await database.query(
    `insert into messages (id, workspace_id, account_id, direction, priority, type, chat_id, recipient, text, status, whatsapp_id)
     select gen_random_uuid(), $1, $2, 'outgoing', 0, 'text', 'nobody@c.us', 'nobody', 'campaign', 'queued', gen_random_uuid()
     from generate_series(1, ${count}) number`,
    [workspaceId, accountId],
  );
  await database.query('alter table messages enable trigger message_created');
}

/** How often the whole table was read. Waits until the statistics contain this many inserted rows. */
async function tableReads(inserted: number): Promise<number> {
  const [row] = await eventually('the statistics', async () => {
    const rows: { reads: number; inserted: number }[] = await database.query(
      `select seq_scan::int as reads, n_tup_ins::int as inserted from pg_stat_user_tables where relname = 'messages'`,
    );
    return rows[0]!.inserted >= inserted && rows;
  });
  return row!.reads;
}

/** How many rows and index entries were read. Waits until the statistics contain this many written rows. */
async function rowReads(written: number): Promise<{ rows: number; written: number }> {
  const [row] = await eventually('the statistics', async () => {
    // One statement at a time uses one connection, so its counts are visible at once.
    await database.query('select pg_stat_force_next_flush()');
    const rows: { rows: number; written: number }[] = await database.query(
      `select (seq_tup_read + (select sum(idx_tup_read) from pg_stat_user_indexes i where i.relid = t.relid))::int as rows,
         (n_tup_ins + n_tup_upd)::int as written
       from pg_stat_user_tables t where relname = 'messages'`,
    );
    return rows[0]!.written >= written && rows;
  });
  return row!;
}

describe('with a long backlog', () => {
  it('accepting, choosing an account, claiming, feeding and sweeping do not read the whole table', async () => {
    const before = await tableReads(backlog);
    const recipients = Array.from({ length: rounds }, (_recipient, number) => `+62812345678${10 + number}`);
    for (const [number, to] of recipients.entries()) {
      const wanted = { to, text: String(number), type: 'text' as const, priority: 'urgent' as const };
      const named = await accepting.accept(workspaceId, { ...wanted, accountId });
      const chosen = await accepting.accept(workspaceId, wanted);
      for (const { id } of [named, chosen]) {
        const claim = await sending.claim(accountId, 0, strictOrder);
        expect(claim?.id).toBe(id);
        await database.query(`update messages set status = 'sent' where id = $1`, [id]);
      }
      await lanes.feed([accountId]);
      await lanes.sweep();
    }
    expect(await tableReads(backlog + 2 * rounds)).toBe(before);
  }, 60_000);

  it('claims of a burst do not read the whole table, although PostgreSQL has no statistics of it', async () => {
    await database.query('delete from messages');
    await addBacklog(burst);
    await database.query(`update messages set status = 'sent'`);
    await database.query('vacuum analyze messages');
    await addBacklog(burst);
    const before = await rowReads(0);
    const run = { epoch: 0, order: strictOrder, most: rounds, forMs: 60_000, asUrgentOnly: false };
    const { ended } = await sending.run(accountId, { ...run, policy: { attempts: 3, backoffMs: [100] } });
    expect(ended).toBe(rounds);
    const after = await rowReads(before.written + 2 * rounds);
    expect(after.rows - before.rows).toBeLessThan(burst);
  }, 60_000);

  it('an urgent message is sent without reading a whole expired campaign', async () => {
    await database.query('delete from messages');
    await addBacklog(burst);
    await database.query(`update messages set expires_at = now() - interval '1 second'`);
    await database.query('vacuum analyze messages');
    const wanted = { to: '+6281234567890', type: 'text' as const, priority: 'urgent' as const, accountId };
    const run = { epoch: 0, order: strictOrder, most: rounds, forMs: 60_000, asUrgentOnly: false };
    const before = await rowReads(0);
    for (let number = 0; number < rounds; number += 1) {
      await accepting.accept(workspaceId, { ...wanted, text: `urgent ${number}` });
      const { ended } = await sending.run(accountId, { ...run, policy: { attempts: 3, backoffMs: [100] } });
      expect(ended).toBe(1);
    }
    const after = await rowReads(before.written + 3 * rounds);
    // Some hundreds for each of the two statements.
    expect(after.rows - before.rows).toBeLessThan((rounds * burst) / 4);
    await lanes.promote();
    expect(await database.query(`select from messages where stage = 'queued'`)).toEqual([]);
  }, 60_000);

  it('the choice of an account reads a part of the backlog, and nothing of it for a known recipient', async () => {
    const accounts = 20;
    const waiting = 500;
    await database.query('delete from messages');
    await database.query(
      `insert into accounts (id, workspace_id, name, environment, status, desired_state)
       select gen_random_uuid(), $1, 'more', 'sandbox', 'ready', 'connected' from generate_series(1, ${accounts})`,
      [workspaceId],
    );
    await database.query(
      `insert into messages (id, workspace_id, account_id, direction, priority, type, chat_id, recipient, text, status, whatsapp_id)
       select gen_random_uuid(), $1, a.id, 'outgoing', 0, 'text', n || '@c.us', n, 'campaign', 'queued', gen_random_uuid()
       from accounts a, generate_series(1, ${waiting}) n where a.id <> $2`,
      [workspaceId, accountId],
    );
    await database.query('vacuum analyze messages');
    const choose = async (to: string) => {
      const before = await rowReads(0);
      const { accountId: chosen } = await accepting.accept(workspaceId, {
        to,
        type: 'text',
        text: 'hi',
        priority: 'high',
      });
      const after = await rowReads(before.written + 1);
      return { chosen, rows: after.rows - before.rows };
    };
    const first = await choose('+6281234567891');
    expect(first.chosen).toBe(accountId);
    expect(first.rows).toBeLessThan((accounts * waiting) / 2);
    const second = await choose('+6281234567891');
    expect(second.chosen).toBe(accountId);
    expect(second.rows).toBeLessThan(waiting);
  }, 60_000);

  it('the messages to ask a page for are found without reading the backlog, also without statistics', async () => {
    await database.query('delete from messages');
    await addBacklog(burst);
    await database.query('vacuum analyze messages');
    const run = { epoch: 0, order: strictOrder, most: rounds, forMs: 60_000, asUrgentOnly: false };
    await sending.run(accountId, { ...run, policy: { attempts: 3, backoffMs: [100] } });
    const doubted = await sending.claim(accountId, 0, strictOrder);
    await database.query(`update messages set status = 'unknown' where id = $1`, [doubted!.id]);
    await sending.claim(accountId, 0, strictOrder);
    await addBacklog(burst);
    const before = await rowReads(0);
    const awaited = await new UpdatesService(database).awaitingAcks(accountId, 500);
    expect(awaited.length).toBe(rounds + 2);
    const after = await rowReads(before.written);
    expect(after.rows - before.rows).toBeLessThan(10 * rounds);
  }, 60_000);

  it('the acks after the first one touch no index', async () => {
    // Every page of the table has room for more versions of a row.
    await database.query('vacuum full messages');
    const [{ whatsappId }] = await database.query(
      `select whatsapp_id as "whatsappId" from messages where status = 'sent' limit 1`,
    );
    const client = new Client({ connectionString: databaseUrl });
    await client.connect();
    try {
      await client.query('begin');
      const received = new UpdatesService(
        fake<DataSource>({ driver: changed(database.driver as PostgresDriver, { master: client }) }),
      );
      for (const ack of [2, 3, 4]) await received.writeAcks([{ accountId, whatsappId, ack }]);
      const { rows } = await client.query(
        `select n_tup_upd::int as updated, n_tup_hot_upd::int as "heapOnly" from pg_stat_xact_user_tables where relname = 'messages'`,
      );
      expect(rows).toEqual([{ updated: 3, heapOnly: 3 }]);
    } finally {
      await client.end();
    }
  });
});
