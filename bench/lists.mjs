/**
 * How long `GET /messages` and `GET /admin/queues` take with a long ledger. The messages of fifty accounts lie between each other, and
 * those that wait are the oldest: the newest messages, where each search begins, have other statuses.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { withDatabase } from './backlog.mjs';
import { median } from './figures.mjs';
import { call, startFleet } from './fleet.mjs';

const accountCount = 50;
const timesEach = 9;
/** Longer than a count of many messages is shown. */
const countAgeMs = 61_000;
const statuses = [
  'queued',
  'scheduled',
  'sending',
  'sent',
  'delivered',
  'read',
  'played',
  'failed',
  'unknown',
  'received',
];

/** @param {{ rows: number, log: (text: string) => void }} options */
export async function run({ rows, log }) {
  const { stack, api, key } = await startFleet({ accounts: 0, instances: 1 });
  try {
    /** @type {string[]} */
    const accounts = [];
    for (let number = 0; number < accountCount; number += 1) {
      /** @type {{ body: { id: string } }} */
      const { body } = await call(
        'POST',
        `${api}/accounts`,
        { name: `a ${number}`, environment: 'sandbox' },
        key,
      );
      accounts.push(body.id);
    }
    await fill(stack.env.DATABASE_URL, accounts, rows);
    log(`${rows} messages are there`);
    const admin = stack.env.ADMIN_API_KEY;
    const timed = async (/** @type {string} */ path, /** @type {string} */ by) => {
      const started = performance.now();
      const { status, body } = await call('GET', `${api}${path}`, undefined, by);
      if (status !== 200) throw new Error(`GET ${path} answered ${status}: ${JSON.stringify(body)}`);
      return performance.now() - started;
    };
    // As a user who looks at a system that runs: the API counts every 45 seconds.
    await delay(46_000);
    const firstCount = await timed('/admin/queues', admin);
    const queries = [
      '',
      ...statuses.map((status) => `status=${status}`),
      ...statuses.map((status) => `accountId=${accounts[7]}&status=${status}`),
      `accountId=${accounts[7]}`,
      'direction=incoming',
      'to=6281234567890&status=sent',
    ];
    /** @type {{ query: string, ms: number, first: number }[]} */
    const lists = [];
    for (const query of queries) {
      const first = await timed(`/messages?${query}`, key);
      const times = [];
      for (let time = 0; time < timesEach; time += 1) times.push(await timed(`/messages?${query}`, key));
      lists.push({ query: query.replace(/accountId=[^&]+/, 'accountId'), first, ms: median(times) });
    }
    const nextCounts = [];
    for (let time = 0; time < timesEach; time += 1) nextCounts.push(await timed('/admin/queues', admin));
    await delay(countAgeMs);
    const lateCount = await timed('/admin/queues', admin);
    const slowest = lists.reduce((most, list) => (list.ms > most.ms ? list : most));
    const slowestFirst = lists.reduce((most, list) => (list.first > most.first ? list : most));
    return {
      messages: rows,
      lists,
      queues: { first: firstCount, next: median(nextCounts), afterAMinute: lateCount },
      rows: [
        ...lists.map(({ query, ms, first }) => ({
          what: `GET /messages?${query}, ms (median; the first time)`,
          value: `${ms.toFixed(0)}; ${first.toFixed(0)}`,
        })),
        { what: `the slowest list, ms: ${slowest.query}`, value: slowest.ms.toFixed(0), target: '<= 50' },
        { what: `the slowest first time, ms: ${slowestFirst.query}`, value: slowestFirst.first.toFixed(0) },
        {
          what: 'GET /admin/queues, ms: first, next, after a minute without calls',
          value: `${firstCount.toFixed(0)}, ${median(nextCounts).toFixed(0)}, ${lateCount.toFixed(0)}`,
          target: '<= 50',
        },
      ],
    };
  } finally {
    await stack.stop();
  }
}

/**
 * Inserts messages, in turn for each account: the oldest tenth waits, the others are read, and one in a hundred thousand has another status.
 *
 * @param {string} databaseUrl
 * @param {string[]} accounts
 * @param {number} count
 */
async function fill(databaseUrl, accounts, count) {
  await withDatabase(databaseUrl, async (client) => {
    await client.query('begin');
    await client.query('alter table messages disable trigger message_created');
    await client.query(
      `insert into messages (id, workspace_id, account_id, direction, priority, type, chat_id, recipient, sender, text, status,
         whatsapp_id, next_attempt_at)
       select made.id, a.workspace_id, a.id, case when made.status = 'received' then 'incoming' else 'outgoing' end, 1, 'text',
         made.phone || '@c.us', made.phone, a.phone_number, 'message ' || made.number, made.status, made.number::text, 'infinity'
       from (
         select number, ($1::uuid[])[1 + number % cardinality($1::uuid[])] as account_id, '62812' || 1000000 + number % 9000 as phone,
           case when number < $2::int / 10 then 'queued'
             else coalesce((array['sent', 'delivered', 'failed', 'unknown', 'received', 'played'])[number % 100000 / 100 + 1], 'read') end as status,
           (lpad(to_hex((extract(epoch from now()) * 1000)::bigint - $2::int + number), 12, '0') || '7000' || '8000'
             || lpad(to_hex(number), 12, '0'))::uuid as id
         from generate_series(0, $2::int - 1) number) made
       join accounts a on a.id = made.account_id
       order by made.number`,
      [accounts, count],
    );
    await client.query('alter table messages enable trigger message_created');
    await client.query('commit');
    await client.query('vacuum (analyze) messages');
  });
}
