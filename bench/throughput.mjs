/**
 * The whole pipeline, from REST POST to ack 1, message by message and in batches, against a bare whatsapp-web.js loop, over
 * four accounts each, on the same sandbox, in alternating rounds of one run.
 */
import pg from 'pg';
import { launchOptions } from '../dist/src/whatsapp/browser/launch.js';
import { call, cpuTimes, eventually, median, startBareClients, startFleet } from './fleet.mjs';

const accountCount = 4;
/** Messages of each account before anything is measured. */
const warmUp = 200;
/** Messages of a request to POST /messages/batch. */
const batchSize = 100;

/** @param {{ messages: number, rounds: number, log: (text: string) => void }} options */
export async function run({ messages, rounds, log }) {
  const fleet = await startFleet({ accounts: accountCount });
  const sandboxUrl = fleet.stack.urls.sandbox;
  const { executablePath, args, ...launch } = launchOptions(await configuredBrowser(fleet.stack), '', {
    kind: 'live',
    proxyUrl: null,
  });
  const bare = await startBareClients({
    sandboxUrl,
    count: accountCount,
    puppeteer: { ...launch, executablePath, args },
  });
  try {
    const { phone } = (await call('POST', `${sandboxUrl}/phones`, {})).body;
    // Until the programs of both have been compiled, and PostgreSQL knows its tables, as it does after its first minute.
    await bareLoop(bare.clients, phone, warmUp);
    await pipeline(fleet, phone, warmUp, sendOneByOne);
    await pipeline(fleet, phone, warmUp, sendInBatches);
    await analyze(fleet.stack.env.DATABASE_URL);
    const bareRates = [];
    const pipelineRates = [];
    const batchRates = [];
    const cost = { bare: {}, pipeline: {}, batches: {} };
    const measured = async (kind, work) => {
      const before = await cpuTimes(fleet.stack, bare.folder);
      const rate = await work();
      const after = await cpuTimes(fleet.stack, bare.folder);
      for (const [part, time] of Object.entries(after)) {
        const perMessage = (time - (before[part] ?? 0)) / (messages * accountCount * rounds);
        cost[kind][part] = Math.round(((cost[kind][part] ?? 0) + perMessage) * 100) / 100;
      }
      return rate;
    };
    for (let round = 1; round <= rounds; round += 1) {
      bareRates.push(await measured('bare', () => bareLoop(bare.clients, phone, messages)));
      pipelineRates.push(await measured('pipeline', () => pipeline(fleet, phone, messages, sendOneByOne)));
      batchRates.push(await measured('batches', () => pipeline(fleet, phone, messages, sendInBatches)));
      const [bareRate, one, batches] = [bareRates, pipelineRates, batchRates].map((rates) =>
        rates.at(-1).toFixed(0),
      );
      log(`round ${round}: bare ${bareRate}/s, pipeline ${one}/s, in batches ${batches}/s`);
    }
    const { duplicates, conflicts } = (await call('GET', `${sandboxUrl}/stats`)).body;
    const [a, b, c] = [bareRates, pipelineRates, batchRates].map(median);
    return {
      messagesPerAccount: messages,
      accounts: accountCount,
      bareRates,
      pipelineRates,
      batchRates,
      ratio: b / a,
      batchRatio: c / a,
      cpuMsPerMessage: cost,
      duplicates,
      conflicts,
      rows: [
        { what: 'a: bare whatsapp-web.js loop, messages/s', value: a.toFixed(0) },
        { what: 'b: REST POST to ack 1, messages/s', value: b.toFixed(0) },
        { what: 'b/a', value: (b / a).toFixed(2), target: '>= 0.8' },
        { what: `c: batches of ${batchSize} to ack 1, messages/s`, value: c.toFixed(0) },
        { what: 'c/a', value: (c / a).toFixed(2) },
        ...['bare', 'pipeline', 'batches'].map((kind) => ({
          what: `${kind}: processor ms per message`,
          value: describe(cost[kind]),
        })),
        { what: 'duplicates, conflicts', value: `${duplicates}, ${conflicts}`, target: '0, 0' },
      ],
    };
  } finally {
    await bare.stop();
    await fleet.stack.stop();
  }
}

/** The browser that the system under test uses. @param {import('../setup/stack.mjs').Stack} stack */
async function configuredBrowser(stack) {
  const { stdout } = await stack.cli('config:show', '--json');
  return JSON.parse(stdout).sessions.chromiumPath;
}

/** @param {string} databaseUrl */
async function analyze(databaseUrl) {
  const database = new pg.Client(databaseUrl);
  await database.connect();
  await database.query('analyze messages, events, accounts');
  await database.end();
}

/** @param {any[]} clients @param {string} phone @param {number} count */
async function bareLoop(clients, phone, count) {
  const started = performance.now();
  await Promise.all(
    clients.map(async (client, index) => {
      for (let number = 0; number < count; number += 1) {
        await client.sendMessage(`${phone}@c.us`, `bare ${index} ${number}`, { waitUntilMsgSent: true });
      }
    }),
  );
  return (count * clients.length * 1000) / (performance.now() - started);
}

/** @typedef {Awaited<ReturnType<typeof startFleet>>} Fleet */

/**
 * @param {Fleet} fleet @param {string} phone @param {number} count of each account
 * @param {(fleet: Fleet, messages: object[]) => Promise<void>} send the messages of one account
 */
async function pipeline(fleet, phone, count, send) {
  const { stack, api, key, accounts } = fleet;
  const accepted = async () => (await call('GET', `${stack.urls.sandbox}/stats`)).body.accepted;
  const before = await accepted();
  const started = performance.now();
  const since = new Date().toISOString();
  await Promise.all(
    accounts.map(({ id }, index) => {
      const text = (number) => `pipeline ${index} ${number}`;
      const message = (_, number) => ({ accountId: id, to: phone, text: text(number) });
      return send(fleet, Array.from({ length: count }, message));
    }),
  );
  await eventually(
    'everything accepted by WhatsApp',
    async () => (await accepted()) >= before + count * accounts.length,
    300_000,
  );
  for (const status of ['queued', 'sending']) {
    await eventually(`nothing ${status}`, async () => {
      const { body } = await call(
        'GET',
        `${api}/messages?direction=outgoing&status=${status}&since=${since}&limit=1`,
        undefined,
        key,
      );
      return body.items.length === 0;
    });
  }
  return (count * accounts.length * 1000) / (performance.now() - started);
}

/** @param {Fleet} fleet @param {object[]} messages */
async function sendOneByOne({ api, key }, messages) {
  for (const message of messages) {
    const { status, body } = await call('POST', `${api}/messages`, message, key);
    if (status !== 202) throw new Error(`POST /messages answered ${status}: ${JSON.stringify(body)}`);
  }
}

/** @param {Fleet} fleet @param {object[]} messages */
async function sendInBatches({ api, key }, messages) {
  for (let start = 0; start < messages.length; start += batchSize) {
    const batch = { messages: messages.slice(start, start + batchSize) };
    const { status, body } = await call('POST', `${api}/messages/batch`, batch, key);
    if (status !== 200 || body.items.some((item) => item.status !== 202))
      throw new Error(`POST /messages/batch answered ${status}: ${JSON.stringify(body).slice(0, 500)}`);
  }
}

/** @param {Record<string, number>} cost */
function describe(cost) {
  const parts = Object.entries(cost).filter(([, time]) => time >= 0.05);
  const sum = parts.reduce((total, [, time]) => total + time, 0);
  return [
    `${sum.toFixed(2)} in all`,
    ...parts.sort((a, b) => b[1] - a[1]).map(([part, time]) => `${time.toFixed(2)} ${part}`),
  ].join('\n');
}
