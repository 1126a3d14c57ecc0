/**
 * The whole pipeline, from REST POST to ack 1, message by message and in batches, against a bare whatsapp-web.js loop, over
 * four accounts each, on the same sandbox, in alternating rounds of one run. The bare loop works on the build june only, so the
 * rounds run there. After them, the pipeline sends once on each newer build.
 */
import pg from 'pg';
import { launchOptions } from '#dist/src/whatsapp/browser/launch.js';
import { median, sum } from './figures.mjs';
import {
  call,
  configOf,
  cpuTimes,
  eventually,
  newPhone,
  sandboxStats,
  startBareClients,
  startFleet,
} from './fleet.mjs';

/** @typedef {import('./fleet.mjs').Fleet} Fleet */
/** @typedef {{ accountId: string, to: string, text: string }} Message */

const accountCount = 4;
/** Messages of each account before anything is measured. */
const warmUp = 200;
/** Messages in one POST /messages/batch. */
const batchSize = 100;

/** @param {{ messages: number, rounds: number, log: (text: string) => void }} options */
export async function run({ messages, rounds, log }) {
  const fleet = await startFleet({ accounts: accountCount });
  const sandboxUrl = fleet.stack.urls.sandbox;
  // The browser that our system uses.
  const { chromiumPath } = (await configOf(fleet.stack)).sessions;
  const bare = await startBareClients({
    sandboxUrl,
    count: accountCount,
    puppeteer: launchOptions(chromiumPath ?? '', '', { kind: 'live', proxyPort: null }),
  });
  try {
    const phone = await newPhone(sandboxUrl);
    // Warm-up: the code of both is compiled, and PostgreSQL gets the statistics that autovacuum makes in its first minute.
    await bareLoop(bare.clients, phone, warmUp);
    await pipeline(fleet, phone, warmUp, sendOneByOne);
    await pipeline(fleet, phone, warmUp, sendInBatches);
    await analyze(fleet.stack.env.DATABASE_URL);
    /** @type {Record<Kind, number[]>} */
    const rates = { bare: [], pipeline: [], batches: [] };
    /** @type {Record<Kind, Record<string, number>>} */
    const cost = { bare: {}, pipeline: {}, batches: {} };
    const measure = async (/** @type {Kind} */ kind, /** @type {() => Promise<number>} */ work) => {
      const before = await cpuTimes(fleet.stack, bare.folder);
      const rate = await work();
      const after = await cpuTimes(fleet.stack, bare.folder);
      for (const [part, time] of Object.entries(after)) {
        const perMessage = (time - (before[part] ?? 0)) / (messages * accountCount * rounds);
        cost[kind][part] = Math.round(((cost[kind][part] ?? 0) + perMessage) * 100) / 100;
      }
      rates[kind].push(rate);
      return rate.toFixed(0);
    };
    for (let round = 1; round <= rounds; round += 1) {
      const bareRate = await measure('bare', () => bareLoop(bare.clients, phone, messages));
      const one = await measure('pipeline', () => pipeline(fleet, phone, messages, sendOneByOne));
      const batches = await measure('batches', () => pipeline(fleet, phone, messages, sendInBatches));
      log(`round ${round}: bare ${bareRate}/s, pipeline ${one}/s, in batches ${batches}/s`);
    }
    const newer = await onNewerBuilds(fleet, async (name) => {
      await pipeline(fleet, phone, warmUp, sendOneByOne);
      const rate = await pipeline(fleet, phone, messages, sendOneByOne);
      log(`${name}: pipeline ${rate.toFixed(0)}/s`);
      return rate;
    });
    const { duplicates, conflicts } = await sandboxStats(sandboxUrl);
    const a = median(rates.bare);
    const b = median(rates.pipeline);
    const c = median(rates.batches);
    return {
      messagesPerAccount: messages,
      accounts: accountCount,
      bareRates: rates.bare,
      pipelineRates: rates.pipeline,
      batchRates: rates.batches,
      ratio: b / a,
      batchRatio: c / a,
      newerBuilds: newer,
      cpuMsPerMessage: cost,
      duplicates,
      conflicts,
      rows: [
        { what: 'a: bare whatsapp-web.js loop, messages/s', value: a.toFixed(0) },
        { what: 'b: REST POST to ack 1, messages/s', value: b.toFixed(0) },
        { what: 'b/a', value: (b / a).toFixed(2), target: '>= 0.8' },
        { what: `c: batches of ${batchSize} to ack 1, messages/s`, value: c.toFixed(0) },
        { what: 'c/a', value: (c / a).toFixed(2) },
        ...Object.entries(newer).map(([name, rate]) => ({
          what: `b on ${name}, messages/s, and as a share of b`,
          value: `${rate.toFixed(0)}, ${(rate / b).toFixed(2)}`,
        })),
        ...Object.entries(cost).map(([kind, ofKind]) => ({
          what: `${kind}: processor ms per message`,
          value: describe(ofKind),
        })),
        { what: 'duplicates, conflicts', value: `${duplicates}, ${conflicts}`, target: '0, 0' },
      ],
    };
  } finally {
    await bare.stop();
    await fleet.stack.stop();
  }
}

/**
 * Loads each build after june in all accounts, and measures there.
 *
 * @param {Fleet} fleet
 * @param {(name: string) => Promise<number>} measure
 * @returns {Promise<Record<string, number>>} the result of each build, by its name
 */
async function onNewerBuilds({ stack, api, key, accounts }, measure) {
  /** @type {{ body: { items: { name: string, version: string }[] } }} */
  const { body } = await call('GET', `${stack.urls.sandbox}/builds`);
  /** @type {Record<string, number>} */
  const results = {};
  for (const { name, version } of body.items.filter((build) => build.name !== 'june')) {
    await call('PUT', `${stack.urls.sandbox}/build`, { version });
    for (const { id } of accounts) {
      await call('POST', `${api}/accounts/${id}/restart`, {}, key);
      await eventually(`an account on ${name}`, async () => {
        /** @type {{ body: { status: string, webVersion: string } }} */
        const { body: account } = await call('GET', `${api}/accounts/${id}`, undefined, key);
        return account.status === 'ready' && account.webVersion === version;
      });
    }
    results[name] = await measure(name);
  }
  return results;
}

/** @param {string} databaseUrl */
async function analyze(databaseUrl) {
  const database = new pg.Client(databaseUrl);
  await database.connect();
  await database.query('analyze messages, events, accounts');
  await database.end();
}

/** @typedef {'bare' | 'pipeline' | 'batches'} Kind */

/** @param {import('whatsapp-web.js').Client[]} clients @param {string} phone @param {number} count of each client */
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

/**
 * @param {Fleet} fleet
 * @param {string} phone
 * @param {number} count of each account
 * @param {(fleet: Fleet, messages: Message[]) => Promise<void>} send sends the messages of one account
 */
async function pipeline(fleet, phone, count, send) {
  const { stack, api, key, accounts } = fleet;
  const accepted = async () => (await sandboxStats(stack.urls.sandbox)).accepted;
  const before = await accepted();
  const started = performance.now();
  const since = new Date().toISOString();
  await Promise.all(
    accounts.map(({ id }, index) => {
      const messages = Array.from({ length: count }, (_message, number) => ({
        accountId: id,
        to: phone,
        text: `pipeline ${index} ${number}`,
      }));
      return send(fleet, messages);
    }),
  );
  await eventually(
    'everything accepted by WhatsApp',
    async () => (await accepted()) >= before + count * accounts.length,
    300_000,
  );
  for (const status of ['queued', 'sending']) {
    await eventually(`nothing ${status}`, async () => {
      /** @type {{ body: { items: unknown[] } }} */
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

/** @param {Fleet} fleet @param {Message[]} messages */
async function sendOneByOne({ api, key }, messages) {
  for (const message of messages) {
    const { status, body } = await call('POST', `${api}/messages`, message, key);
    if (status !== 202) throw new Error(`POST /messages answered ${status}: ${JSON.stringify(body)}`);
  }
}

/** @param {Fleet} fleet @param {Message[]} messages */
async function sendInBatches({ api, key }, messages) {
  for (let start = 0; start < messages.length; start += batchSize) {
    const batch = { messages: messages.slice(start, start + batchSize) };
    /** @type {{ status: number, body: { items: { status: number }[] } }} */
    const { status, body } = await call('POST', `${api}/messages/batch`, batch, key);
    if (status !== 200 || body.items.some((item) => item.status !== 202))
      throw new Error(`POST /messages/batch answered ${status}: ${JSON.stringify(body).slice(0, 500)}`);
  }
}

/** @param {Record<string, number>} cost */
function describe(cost) {
  const parts = Object.entries(cost).filter(([, time]) => time >= 0.05);
  return [
    `${sum(parts.map(([, time]) => time)).toFixed(2)} in all`,
    ...parts.sort((a, b) => b[1] - a[1]).map(([part, time]) => `${time.toFixed(2)} ${part}`),
  ].join('\n');
}
