import type { INestApplicationContext } from '@nestjs/common';
import { getDataSourceToken } from '@nestjs/typeorm';
import type { Pool } from 'pg';
import type { DataSource } from 'typeorm';
import type { PostgresDriver } from 'typeorm/driver/postgres/PostgresDriver.js';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { asPlatform, serveRequest } from '../../src/platform/context.js';
import { isolate, isolatedTo } from '../../src/platform/database/isolation.js';
import { prepared } from '../../src/platform/database/prepared.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import { createContext } from '../../src/platform/start-role.js';
import { ApiModule } from '../../src/roles/api.module.js';
import { scratchDatabase } from '../support/scratch-database.js';

/* The second layer: what PostgreSQL itself holds back when a query of the API forgets whose rows it wants. */

let context: INestApplicationContext;
let drop: () => Promise<void>;
let database: DataSource;
let pool: Pool;
const mine = uuidv7();
const theirs = uuidv7();

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  const config = { ...scratch.config, database: { ...scratch.config.database, poolSize: 3 } };
  context = await createContext(ApiModule, config, createLogger('test', 'silent'));
  database = context.get<DataSource>(getDataSourceToken());
  pool = (database.driver as PostgresDriver).master;
  for (const workspaceId of [mine, theirs]) await fill(workspaceId);
}, 60_000);
afterAll(async () => {
  await context?.close();
  await drop?.();
});

/** Does something as a request of a workspace does. */
function requestOf<Result>(workspaceId: string, work: () => Promise<Result>): Promise<Result> {
  return new Promise((resolve, reject) =>
    serveRequest('r', () => {
      isolate(workspaceId);
      work().then(resolve, reject);
    }),
  );
}

/** One row in every table of a workspace. */
async function fill(workspaceId: string): Promise<void> {
  const accountId = uuidv7();
  const [blobId, webhookId, campaignId, templateId] = [uuidv7(), uuidv7(), uuidv7(), uuidv7()];
  const statements: [text: string, values: unknown[]][] = [
    ['insert into workspaces (id, name) values ($1::uuid, ($1::uuid)::text)', [workspaceId]],
    [
      `insert into api_keys (id, workspace_id, name, role, prefix, key_hash)
       values (gen_random_uuid(), $1::uuid, 'k', 'owner', 'flk_', decode(md5(($1::uuid)::text), 'hex'))`,
      [workspaceId],
    ],
    [
      `insert into accounts (id, workspace_id, name, environment) values ($1, $2, 'a', 'sandbox')`,
      [accountId, workspaceId],
    ],
    [
      `insert into account_pacing (account_id, workspace_id, pause_after, cool_down) values ($1, $2, 1, '1 day')`,
      [accountId, workspaceId],
    ],
    [`insert into contacts (account_id, chat_id) values ($1, 'x@c.us')`, [accountId]],
    [
      `insert into recipient_ids (account_id, workspace_id, number, chat_id) values ($1, $2, 'x@c.us', 'y@c.us')`,
      [accountId, workspaceId],
    ],
    [
      `insert into messages (id, workspace_id, account_id, direction, type, chat_id, recipient, status, whatsapp_id)
       values (gen_random_uuid(), $2, $1, 'outgoing', 'text', 'x@c.us', 'x', 'queued', 'W')`,
      [accountId, workspaceId],
    ],
    [`update messages set status = 'failed' where account_id = $1`, [accountId]],
    [
      `insert into idempotency_keys (workspace_id, key, request_hash, message_id) values ($1, 'k', '\\x00', $1)`,
      [workspaceId],
    ],
    [
      `insert into message_rates (workspace_id, minute, accepted, granted) values ($1, now(), 1, 1)`,
      [workspaceId],
    ],
    [
      `insert into connection_logs (workspace_id, account_id, epoch, event_type) values ($2, $1, 0, 'x')`,
      [accountId, workspaceId],
    ],
    [
      `insert into server_logs (workspace_id, account_id, log_type, message) values ($2, $1, 'info', 'x')`,
      [accountId, workspaceId],
    ],
    [
      `insert into audit_log (actor, workspace_id, ip, method, route, status, request_id)
       values ('admin', $1, '::1', 'POST', '/x', 200, 'r')`,
      [workspaceId],
    ],
    [
      `insert into session_snapshots (account_id, workspace_id, epoch, digest, size_bytes, data)
       values ($1, $2, 0, 'd', 1, '\\x00')`,
      [accountId, workspaceId],
    ],
    [`insert into media_blobs (id, sha256, size) values ($1, sha256(($1::uuid)::text::bytea), 1)`, [blobId]],
    [
      `insert into media (id, workspace_id, blob_id, sha256, size, mimetype, source)
       values (gen_random_uuid(), $1, $2, '\\x00', 1, 'text/plain', 'upload')`,
      [workspaceId, blobId],
    ],
    [
      `insert into webhooks (id, workspace_id, url, events, secret) values ($1, $2, 'https://x', '{}', '\\x00')`,
      [webhookId, workspaceId],
    ],
    [
      `insert into webhook_deliveries (id, workspace_id, webhook_id, transaction_id, event_id, type)
       values (gen_random_uuid(), $1, $2, '1', 1, 'message.sent')`,
      [workspaceId, webhookId],
    ],
    [
      `insert into webhook_lanes (webhook_id, lane_id, workspace_id) values ($1, gen_random_uuid(), $2)
       on conflict do nothing`,
      [webhookId, workspaceId],
    ],
    [
      `insert into campaigns (id, workspace_id, name, message) values ($1, $2, 'c', '{}')`,
      [campaignId, workspaceId],
    ],
    [
      `insert into campaign_accounts (campaign_id, account_id, workspace_id) values ($1, $3, $2)`,
      [campaignId, workspaceId, accountId],
    ],
    [
      `insert into campaign_recipients (campaign_id, id, workspace_id, person, recipient) values ($1, $1, $2, 'x', 'x')`,
      [campaignId, workspaceId],
    ],
    [
      `insert into campaign_invalid_lines (campaign_id, workspace_id, line, fingerprint, "column", reason, value, fields)
       values ($1, $2, 2, 'f', 'to', 'r', 'x', '[]')`,
      [campaignId, workspaceId],
    ],
    [
      `insert into campaign_zones (campaign_id, workspace_id, zone) values ($1, $2, 'ID')`,
      [campaignId, workspaceId],
    ],
    [
      `insert into message_templates (id, workspace_id, name) values ($1, $2, 't')`,
      [templateId, workspaceId],
    ],
    [
      `insert into message_template_versions (template_id, workspace_id, version, message) values ($1, $2, 1, '{}')`,
      [templateId, workspaceId],
    ],
    [
      `insert into suppressions (id, workspace_id, person, address, source) values (gen_random_uuid(), $1, 'x', 'x', 'manual')`,
      [workspaceId],
    ],
    [
      `insert into campaign_changes (campaign_id, workspace_id, new_status) values ($1, $2, 'waiting')`,
      [campaignId, workspaceId],
    ],
  ];
  for (const [text, values] of statements) await database.query(text, values);
}

/** PostgreSQL's code for what a role may not do at all, as a value that a test can compare. */
async function orRefused<Result>(work: Promise<Result>): Promise<Result | 'refused'> {
  return work.catch((error: { code?: string; driverError?: { code?: string } }) => {
    if ((error.driverError?.code ?? error.code) === '42501') return 'refused' as const;
    throw error;
  });
}

/** From the catalogue, so that a new table without a policy fails here. */
async function tablesWithWorkspace(): Promise<string[]> {
  const rows: { name: string }[] = await database.query(
    `select c.relname as name from pg_class c join pg_attribute a on a.attrelid = c.oid
     where c.relkind in ('r', 'p') and c.relnamespace = current_schema()::regnamespace
       and a.attname = 'workspace_id' and not a.attisdropped order by 1`,
  );
  return rows.map(({ name }) => name);
}

const countOf = async (table: string, where = 'true', values: unknown[] = []): Promise<number> =>
  (await database.query(`select count(*)::int as count from ${table} where ${where}`, values))[0].count;

describe('PostgreSQL shows a request of a workspace nothing of another', () => {
  it('in any table that has a workspace_id: reading, changing, deleting, giving away', async () => {
    const tables = await tablesWithWorkspace();
    expect(tables).toContain('messages');
    for (const table of tables) {
      const before = await countOf(table, 'workspace_id = $1', [theirs]);
      expect(before, `a row of the other workspace in ${table}`).toBeGreaterThan(0);
      await requestOf(mine, async () => {
        const seen = await orRefused(database.query(`select workspace_id from ${table}`));
        if (seen !== 'refused') {
          const owners = (seen as { workspace_id: string }[]).map((row) => row.workspace_id);
          expect(new Set(owners), `select from ${table}`).toEqual(new Set([mine]));
        }
        const others = await orRefused(
          database.query(`update ${table} set workspace_id = workspace_id where workspace_id = $1`, [theirs]),
        );
        if (others !== 'refused') expect(others[1], `update ${table}`).toBe(0);
        const stolen = await orRefused(
          database.query(`update ${table} set workspace_id = $1 where workspace_id = $2`, [mine, theirs]),
        );
        if (stolen !== 'refused') expect(stolen[1], `taking from ${table}`).toBe(0);
        // Giving a row of one's own away is a new row of the other's.
        await expect(
          orRefused(
            database.query(`update ${table} set workspace_id = $2 where workspace_id = $1`, [mine, theirs]),
          ),
          `giving away from ${table}`,
        ).resolves.toBe('refused');
        const deleted = await orRefused(
          database.query(`delete from ${table} where workspace_id = $1`, [theirs]),
        );
        if (deleted !== 'refused') expect(deleted[1], `delete from ${table}`).toBe(0);
      });
      expect(await countOf(table, 'workspace_id = $1', [theirs]), table).toBe(before);
    }
  });

  it('nor lets it add to what is theirs', async () => {
    for (const table of await tablesWithWorkspace()) {
      // Their own row once more, of which only the workspace is looked at: keys would clash later than policies.
      const columns: { name: string }[] = await database.query(
        `select attname as name from pg_attribute where attrelid = $1::regclass and attnum > 0
           and not attisdropped and attgenerated = '' and attidentity = ''`,
        [table],
      );
      const [row] = await database.query(
        `select to_jsonb(t) as content from ${table} t where workspace_id = $1 limit 1`,
        [theirs],
      );
      const list = columns.map(({ name }) => `"${name}"`).join(', ');
      const insert = requestOf(mine, () =>
        database.query(
          `insert into ${table} (${list}) select ${list} from jsonb_populate_record(null::${table}, $1)`,
          [JSON.stringify(row.content)],
        ),
      );
      await expect(orRefused(insert), table).resolves.toBe('refused');
    }
  });

  it('in tables that know the workspace by the account only', async () => {
    const seen = await requestOf(mine, () =>
      database.query(`select a.workspace_id from contacts c join accounts a on a.id = c.account_id`),
    );
    expect(seen).toEqual([{ workspace_id: mine }]);
    expect(await requestOf(mine, () => countOf('contacts'))).toBe(1);
    const [{ account_id: account }] = await database.query(
      'select account_id from account_pacing where workspace_id = $1',
      [theirs],
    );
    const insert = requestOf(mine, () =>
      database.query(`insert into contacts (account_id, chat_id) values ($1, 'y@c.us')`, [account]),
    );
    await expect(orRefused(insert)).resolves.toBe('refused');
  });

  it('has a policy on every table but those of the fleet, which no request of a workspace reads', async () => {
    const rows: { name: string }[] = await database.query(
      `select relname as name from pg_class where relkind in ('r', 'p') and not relrowsecurity
         and relnamespace = current_schema()::regnamespace
         and has_table_privilege('flotilla_tenant', oid, 'select') order by 1`,
    );
    expect(rows.map(({ name }) => name)).toEqual([
      'instances',
      'load_balancing',
      'servers',
      'webhook_cursor',
    ]);
  });

  it('shows it its workspace only, and no copy of a session at all', async () => {
    expect(await requestOf(mine, () => database.query('select id from workspaces'))).toEqual([{ id: mine }]);
    const sessions = requestOf(mine, () => database.query('select data from session_snapshots'));
    await expect(orRefused(sessions)).resolves.toBe('refused');
  });

  it('counts the load of the fleet with the accounts of all, and tells whose of none', async () => {
    await database.query(`insert into servers (id, name, max_capacity) values ('one', 'one', 10)`);
    await database.query(
      `insert into instances (id, server_id, url, status, lease_expires_at, max_accounts)
       values ('one.instance_00', 'one', 'http://127.0.0.1:9', 'active', now() + interval '1 hour', 10)`,
    );
    await database.query(`update accounts set instance_id = 'one.instance_00', desired_state = 'connected'`);
    const loads = await requestOf(mine, () => database.query('select * from instance_loads'));
    expect(loads).toEqual([{ instance_id: 'one.instance_00', reserved: 2, connected: 0 }]);
  });
});

describe('a connection', () => {
  /** What the work sees of itself: role, workspace and rows. */
  const look = async () => {
    const [row] = await database.query(
      `select current_user as role, current_setting('flotilla.workspace', true) as workspace,
         (select count(distinct workspace_id)::int from messages) as workspaces`,
    );
    return row as { role: string; workspace: string; workspaces: number };
  };

  it('is of the workspace, then of Flotilla itself again', async () => {
    for (let round = 0; round < 10; round += 1) {
      expect(await requestOf(mine, look)).toEqual({
        role: 'flotilla_tenant',
        workspace: mine,
        workspaces: 1,
      });
      expect(await look()).toMatchObject({ workspaces: 2 });
      expect(await requestOf(mine, () => asPlatform(look))).toMatchObject({ workspaces: 2 });
    }
  });

  it('is set once for a workspace that goes on, and not at all for an unknown workspace', async () => {
    const statements = async (work: () => Promise<unknown>) => {
      const client = await pool.connect();
      const sent: string[] = [];
      const original = client.query.bind(client);
      client.query = ((...args: Parameters<typeof original>) => {
        const [query]: unknown[] = args;
        sent.push(typeof query === 'string' ? query : (query as { text: string }).text);
        return original(...args);
      }) as typeof client.query;
      client.release();
      await work();
      client.query = original;
      return sent.filter((text) => text.includes('set_config')).length;
    };
    const three = async () => {
      for (let time = 0; time < 3; time += 1) await look();
    };
    expect(await statements(three)).toBe(0);
    expect(await statements(() => requestOf(mine, three))).toBe(1);
    expect(await statements(() => requestOf(mine, three))).toBeLessThanOrEqual(1);
  });

  it('never serves a request in the state of another, whatever went wrong before', async () => {
    const workspaces = [mine, theirs, ...Array.from({ length: 6 }, () => uuidv7())];
    const kinds = {
      pool: async (workspaceId: string) => {
        const rows = await prepared<{ workspace: string; role: string }>(
          database,
          `select current_setting('flotilla.workspace', true) as workspace, current_user as role`,
          [],
        );
        expect(rows).toEqual([{ workspace: workspaceId, role: 'flotilla_tenant' }]);
      },
      rows: async (workspaceId: string) => {
        const rows: { workspace_id: string }[] = await database.query('select workspace_id from messages');
        for (const row of rows) expect(row.workspace_id).toBe(workspaceId);
      },
      transaction: async (workspaceId: string) => {
        await database.transaction(async (manager) => {
          for (let time = 0; time < 3; time += 1) {
            const [row] = await manager.query(
              `select current_setting('flotilla.workspace', true) as workspace`,
            );
            expect(row.workspace).toBe(workspaceId);
          }
        });
      },
      rolledBack: async (workspaceId: string) => {
        const failure = database.transaction(async (manager) => {
          const [row] = await manager.query(
            `select current_setting('flotilla.workspace', true) as workspace`,
          );
          expect(row.workspace).toBe(workspaceId);
          throw new Error('on purpose');
        });
        await expect(failure).rejects.toThrow('on purpose');
      },
      failed: async () => {
        await expect(database.transaction((manager) => manager.query('select 1 / 0'))).rejects.toThrow(
          'division by zero',
        );
        await expect(pool.query('select 1 / 0')).rejects.toThrow('division by zero');
      },
      setsInside: async () => {
        // A session's setting that a transaction makes is taken back when that is rolled back.
        const failure = database.transaction(async (manager) => {
          await manager.query(`select set_config('flotilla.reason', 'x', true)`);
          await manager.query('select 1 / 0');
        });
        await expect(failure).rejects.toThrow('division by zero');
      },
      forgotten: async () => {
        const runner = database.createQueryRunner();
        await runner.query('begin');
        await runner.query('select 1');
        // Given back in the middle of a transaction.
        await runner.release();
      },
      killed: async () => {
        const client = await pool.connect();
        client.on('error', () => undefined);
        const dying = client.query('select pg_terminate_backend(pg_backend_pid())');
        const failure = await dying.then(
          () => undefined,
          (error: Error) => error,
        );
        client.release(failure ?? new Error('its session has ended'));
      },
    };
    const all = Object.values(kinds);
    let done = 0;
    await Promise.all(
      workspaces.map(async (workspaceId, index) => {
        for (let turn = 0; turn < 120; turn += 1) {
          await requestOf(workspaceId, () =>
            all[(turn * 7 + index * 3 + (turn % 5)) % all.length]!(workspaceId),
          );
          if (turn % 10 === 0) expect(isolatedTo()).toBeNull();
          done += 1;
        }
      }),
    );
    expect(done).toBe(workspaces.length * 120);
    expect(await look()).toMatchObject({ workspaces: 2 });
    expect(pool.totalCount).toBeLessThanOrEqual(3);
  }, 60_000);

  it('keeps its workspace for what a request does later', async () => {
    await requestOf(mine, async () => {
      await Promise.all(Array.from({ length: 9 }, look));
      await new Promise((resolve) => setImmediate(resolve));
      expect(await look()).toMatchObject({ workspace: mine, workspaces: 1 });
    });
  });

  it('is refused outside of a request', () => {
    expect(() => isolate(mine)).toThrow('Only code that serves a request');
  });
});
