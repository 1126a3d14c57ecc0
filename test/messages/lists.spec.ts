import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Api, startApi } from '../support/api.js';
import { scratchDatabase } from '../support/scratch-database.js';

/* Lists stay cheap however long the ledger is: how many rows PostgreSQL reads for a page is bounded. */

/** Above the number of messages whose count `GET /admin/queues` waits for. */
const count = 60_000;
/** A page looks at 3,000 messages, twice: for the end of the search, and for what it wants. */
const mostRows = 6_500;

let api: Api;
let drop: () => Promise<void>;
let workspaceId: string;
let accountId: string;
/** Has every twentieth message, and none that waits. */
let otherId: string;

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  api = await startApi({ ...scratch.config, database: { ...scratch.config.database, poolSize: 3 } });
  workspaceId = (await api.call('POST', '/workspaces', { name: 'large' })).body.id;
  [accountId, otherId] = [uuidv7(), uuidv7()];
  await api.database.query(
    `insert into accounts (id, workspace_id, name, environment, status, phone_number)
     values ($1, $2, 'a', 'sandbox', 'disconnected', '628112345678'), ($3, $2, 'b', 'sandbox', 'disconnected', '628112345679')`,
    [accountId, workspaceId, otherId],
  );
  // The newest ten and the oldest ten have one message of each status; all others are queued.
  await api.database.query('alter table messages disable trigger message_created');
  // In parts: readers of the event log stop at the oldest transaction that runs, also in the databases of other tests.
  for (let from = 0; from < count; from += 5_000)
    await api.database.query(
      `insert into messages (id, workspace_id, account_id, direction, priority, type, chat_id, recipient, text, status, whatsapp_id)
     select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint - ${count} + n), 12, '0') || '7000' || '8000'
         || lpad(to_hex(n), 12, '0'))::uuid,
       $1, case when n % 20 = 19 then $4 else $2 end::uuid, case when status = 'received' then 'incoming' else 'outgoing' end, n % 4, 'text', 'c', 'r', 'message ' || n, status, n::text
     from (select n, coalesce(
         (array['scheduled', 'sent', 'delivered', 'read', 'played', 'failed', 'unknown', 'cancelled', 'expired', 'received'])
           [1 + least(n, ${count - 1} - n)], case when n % 20 = 19 then 'read' else 'queued' end) as status
       from generate_series($3::int, $3::int + 4999) n) made`,
      [workspaceId, accountId, from, otherId],
    );
  await api.database.query('alter table messages enable trigger message_created');
  await api.database.query('vacuum (analyze) messages');
}, 120_000);
afterAll(async () => {
  await api?.close();
  await drop?.();
}, 30_000);

interface Plan {
  'Node Type': string;
  'Actual Rows': number;
  'Actual Loops': number;
  'Rows Removed by Filter'?: number;
  Plans?: Plan[];
}

/** Calls the API, and counts the rows of `messages` that its statements read. */
async function rowsRead(
  path: string,
): Promise<{ body: Awaited<ReturnType<Api['call']>>['body']; rows: number }> {
  const statements: [sql: string, parameters: unknown[]][] = [];
  const { logger } = api.database;
  api.database.logger = new Proxy(logger, {
    get: (target, key) =>
      key === 'logQuery'
        ? (sql: string, parameters: unknown[] = []) => statements.push([sql, parameters])
        : (Reflect.get(target, key) as unknown),
  });
  const { body } = await api
    .call('GET', `${path}workspaceId=${workspaceId}`)
    .finally(() => (api.database.logger = logger));
  let rows = 0;
  for (const [sql, parameters] of statements) {
    if (!/^\s*select\b[^]*\bmessages\b/i.test(sql)) continue;
    const [explained] = await api.database.query(`explain (analyze, format json) ${sql}`, parameters);
    const visit = (plan: Plan): void => {
      // The other scans read what these have read.
      if (/Scan$/.test(plan['Node Type']) && !/^(Subquery|Bitmap Index)/.test(plan['Node Type']))
        rows += (plan['Actual Rows'] + (plan['Rows Removed by Filter'] ?? 0)) * plan['Actual Loops'];
      plan.Plans?.forEach(visit);
    };
    visit(explained['QUERY PLAN'][0].Plan);
  }
  return { body, rows };
}

describe('GET /messages in a long ledger', () => {
  it.each(['scheduled', 'failed', 'unknown', 'cancelled', 'expired', 'received'])(
    'finds both messages that are %s on one page',
    async (status) => {
      const { body, rows } = await rowsRead(`/messages?status=${status}&`);
      expect(body.items.map((item: { status: string }) => item.status)).toEqual([status, status]);
      expect(body.nextCursor).toBeNull();
      expect(rows).toBeGreaterThan(0);
      expect(rows).toBeLessThan(100);
    },
  );

  it.each(['sent', 'played'])('finds the messages that are %s on several pages', async (status) => {
    const found: string[] = [];
    let pages = 0;
    for (let cursor = ''; ; pages += 1) {
      const { body, rows } = await rowsRead(`/messages?status=${status}&${cursor}`);
      expect(rows).toBeLessThan(mostRows);
      found.push(...body.items.map((item: { status: string }) => item.status));
      if (body.nextCursor === null) break;
      cursor = `cursor=${body.nextCursor}&`;
    }
    expect(found).toEqual([status, status]);
    expect(pages).toBe(count / 3_000);
  });

  it.each([
    'status=queued',
    'status=sending',
    'direction=outgoing',
    'direction=incoming',
    'campaignId=01960000-0000-7000-8000-000000000000',
    'since=2100-01-01T00:00:00Z',
    'status=failed&since=2100-01-01T00:00:00Z',
    'status=sent&since=2100-01-01T00:00:00Z',
    'to=6281234567890',
    'to=6281234567890&status=sent',
    'to=628112345678&direction=outgoing',
    'to=628112345678',
  ])('reads a bounded number of rows for %s', async (query) => {
    const { body, rows } = await rowsRead(`/messages?${query}&`);
    expect(body.items).toBeDefined();
    expect(rows).toBeLessThan(mostRows);
  });

  it.each(['queued', 'sent', 'read'])(
    'reads a bounded number of rows for %s messages of an account among others',
    async (status) => {
      const { body, rows } = await rowsRead(`/messages?accountId=${otherId}&status=${status}&`);
      expect(body.items.length > 0).toBe(status === 'read');
      expect(rows).toBeLessThan(mostRows);
    },
  );

  it('shows a message under its new status at once, whichever way it takes', async () => {
    const ids = async (status: string) =>
      (await api.call('GET', `/messages?workspaceId=${workspaceId}&status=${status}`)).body.items.map(
        ({ id }: { id: string }) => id,
      ) as string[];
    const [id] = await ids('queued');
    const become = (status: string) =>
      api.database.query('update messages set status = $2 where id = $1', [id, status]);
    for (const status of [
      'failed',
      'queued',
      'unknown',
      'sent',
      'delivered',
      'cancelled',
      'expired',
      'scheduled',
      'queued',
    ]) {
      await become(status);
      for (const other of [
        'failed',
        'unknown',
        'cancelled',
        'expired',
        'scheduled',
        'queued',
        'sent',
        'delivered',
      ])
        expect((await ids(other)).includes(id!), `${status} in ${other}`).toBe(status === other);
    }
  });
});

it('GET /admin/queues counts many messages in the background', async () => {
  const queues = async () => {
    const { body } = await api.call('GET', '/admin/queues');
    return body.items.reduce(
      (sum: number, { name, waiting }: { name: string; waiting: number }) =>
        sum + (name.startsWith('whatsapp-') ? waiting : 0),
      0,
    ) as number;
  };
  const first = await queues();
  expect(first).toBeGreaterThan(50_000);
  await api.database.query(
    `update messages set status = 'cancelled' where status = 'queued' and seq % 99 = 0`,
  );
  expect((await rowsRead('/admin/queues?')).rows).toBe(0);
  await expect.poll(queues, { timeout: 10_000 }).toBeLessThan(first);
});
