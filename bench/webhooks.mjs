/**
 * Webhooks: deliveries per second to one endpoint, their delay, the effect of a hanging endpoint on others, and the cost of
 * events without a subscriber. The benchmark inserts the events directly into the event log.
 */
import { once } from 'node:events';
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { parseJson } from '../setup/json.mjs';
import { createStack } from '../setup/stack.mjs';
import { percentiles } from './figures.mjs';
import { call, eventually } from './fleet.mjs';

const accountCount = 50;
/** The least rate beside a hanging endpoint, as a share of the rate of one endpoint alone. */
const leastBeside = 0.8;

/** @param {{ log: (text: string) => void }} options */
export async function run({ log }) {
  const stack = await createStack({
    programs: ['api', 'worker', 'scheduler'],
    env: { ALLOW_PRIVATE_ADDRESSES: '127.0.0.0/8' },
  });
  await stack.start();
  const database = new pg.Client({ connectionString: stack.env.DATABASE_URL });
  await database.connect();
  const receiver = await startReceiver((response) => response.end());
  const hanging = await startReceiver(() => {});
  try {
    const api = `${stack.urls.api}/api/v1`;
    const post = async (/** @type {string} */ path, /** @type {object} */ body) => {
      /** @type {{ status: number, body: { id: string } }} */
      const answer = await call('POST', `${api}${path}`, body, stack.env.ADMIN_API_KEY);
      if (answer.status !== 201) throw new Error(JSON.stringify(answer.body));
      return answer.body;
    };
    const { id: workspaceId } = await post('/workspaces', { name: 'bench' });
    const accounts = Array.from({ length: accountCount }, () => randomUUID());

    /** @type {Emit} */
    const emit = (count) =>
      database.query(
        `insert into events (workspace_id, account_id, type, data)
         select $1, ($2::uuid[])[1 + n % cardinality($2::uuid[])], 'message.sent', jsonb_build_object('n', n, 'text', repeat('x', 500))
         from generate_series(1, $3::int) n`,
        [workspaceId, accounts, count],
      );
    const drained = async (/** @type {number} */ count) => {
      const started = performance.now();
      await eventually(`${count} received`, () => receiver.times.length >= count, 300_000);
      return count / ((performance.now() - started) / 1_000);
    };

    await post(`/webhooks?workspaceId=${workspaceId}`, { url: receiver.url, events: ['message.*'] });
    await emit(500);
    await drained(500);
    receiver.times.length = 0;

    await emit(10_000);
    const rate = await drained(10_000);
    log(`one endpoint: ${rate.toFixed(0)} deliveries/s`);
    receiver.times.length = 0;

    const calm = await latencies(emit, receiver);
    log(`50 events/s: p50 ${calm.p50} ms, p95 ${calm.p95} ms from event to delivery`);
    receiver.times.length = 0;

    await post(`/webhooks?workspaceId=${workspaceId}`, { url: hanging.url, events: ['message.*'] });
    await emit(accountCount);
    await drained(accountCount);
    receiver.times.length = 0;
    const beside = await latencies(emit, receiver);
    log(`beside a hanging endpoint: p50 ${beside.p50} ms, p95 ${beside.p95} ms`);
    receiver.times.length = 0;
    await emit(10_000);
    const rateBeside = await drained(10_000);
    log(`beside a hanging endpoint: ${rateBeside.toFixed(0)} deliveries/s`);

    await database.query('update webhooks set events = $1', [['none.such']]);
    const before = performance.now();
    await emit(50_000);
    await eventually('read', async () => {
      /** @type {import('pg').QueryResult<{ done: boolean }>} */
      const { rows } = await database.query(
        `select not exists (select from events e, webhook_cursor c
           where (e.transaction_id, e.id) > (c.transaction_id, c.event_id)) as done`,
      );
      return rows[0]?.done;
    });
    const unwantedMs = (performance.now() - before) / 50_000;
    return {
      accounts: accountCount,
      deliveriesPerSecond: rate,
      deliveriesPerSecondBesideHanging: rateBeside,
      latencyMs: calm,
      latencyMsBesideHanging: beside,
      unwantedEventMs: unwantedMs,
      rows: [
        { what: 'deliveries/s to one endpoint, 10,000 events of 50 accounts', value: rate.toFixed(0) },
        {
          what: 'the same beside a hanging endpoint, and its share',
          value: `${rateBeside.toFixed(0)}, ${(rateBeside / rate).toFixed(2)}`,
          target: `>= ${leastBeside}`,
        },
        { what: 'event to delivery, 50 events/s: p50 / p95, ms', value: `${calm.p50} / ${calm.p95}` },
        { what: 'the same beside a hanging endpoint', value: `${beside.p50} / ${beside.p95}` },
        { what: 'an event without a subscriber, written and skipped, ms', value: unwantedMs.toFixed(3) },
      ],
      missed:
        rateBeside / rate < leastBeside
          ? [`a hanging endpoint slows others down: ${rateBeside.toFixed(0)} of ${rate.toFixed(0)}/s`]
          : [],
    };
  } finally {
    await Promise.all([receiver.stop(), hanging.stop()]);
    await database.end();
    await stack.stop();
  }
}

/** @typedef {(count: number) => Promise<unknown>} Emit */

/** The delays of 500 events, five every tenth of a second. @param {Emit} emit @param {{ times: number[] }} receiver */
async function latencies(emit, receiver) {
  for (let round = 0; round < 100; round += 1) await Promise.all([emit(5), delay(100)]);
  await eventually('all received', () => receiver.times.length >= 500, 60_000);
  const { p50, p95 } = percentiles(receiver.times);
  return { p50, p95 };
}

/** @param {(response: import('node:http').ServerResponse) => void} answer */
async function startReceiver(answer) {
  /** Milliseconds from event to delivery. @type {number[]} */
  const times = [];
  const server = createServer((request, response) => {
    void text(request).then(
      (body) => {
        const { createdAt } = /** @type {{ createdAt: string }} */ (parseJson(body));
        times.push(Date.now() - Date.parse(createdAt));
        answer(response);
      },
      // The worker has given up the delivery, for example because the benchmark ends.
      () => response.destroy(),
    );
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  return {
    url: `http://127.0.0.1:${port}/`,
    times,
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
