/**
 * 1,000 idle event streams and mixed traffic at a fixed rate, together on one API process. Measures errors, the latency of
 * each kind of request, the memory of a stream, and the delay of events. Latency counts from the time when a request was
 * due, so that a request that delays others is seen.
 */
import { get } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { Pool } from 'undici';
import { parseJson } from '../setup/json.mjs';
import { cpuTimeOf, memoryOf } from '../setup/processes.mjs';
import { percentiles } from './figures.mjs';
import { call, eventually, newPhone, startFleet } from './fleet.mjs';

const streamCount = 1_000;
const streamsPerKey = 100;
const requestsPerSecond = 200;
const seconds = 60;
/** An idle stream gets a heartbeat every 15 seconds. Each stream must have got this many. */
const heartbeats = 2;

/** @param {{ log: (text: string) => void }} options */
export async function run({ log }) {
  const fleet = await startFleet({
    accounts: 2,
    instances: 1,
    env: { RATE_LIMIT_PER_KEY: '0', RATE_LIMIT_PER_WORKSPACE: '0' },
  });
  const { stack } = fleet;
  const admin = stack.env.ADMIN_API_KEY;
  const api = `${stack.urls.api}/api/v1`;
  const pid = (await stack.status()).get('flotilla:api')?.pid ?? 0;
  /** @type {Stream[]} */
  const streams = [];
  const pool = new Pool(stack.urls.api, { connections: 64 });
  try {
    const tenants = await Promise.all(
      Array.from({ length: streamCount / streamsPerKey }, (_item, number) => newTenant(api, admin, number)),
    );
    await delay(2_000);
    const before = memoryOf(pid);
    for (const key of tenants) {
      const some = Array.from({ length: streamsPerKey }, () => openStream(`${api}/events`, key));
      streams.push(...(await Promise.all(some)));
    }
    await delay(2_000);
    const perStream = (memoryOf(pid) - before) / streamCount;
    log(`${streamCount} streams are open: ${Math.round(perStream / 1024)} KiB each`);

    const watcher = await openStream(`${api}/events?types=message.queued`, fleet.key);
    const traffic = await makeTraffic(pool, fleet, await newPhone(stack.urls.sandbox));
    await traffic(5, () => undefined);
    watcher.delays.length = 0;
    /** @type {Sample[]} */
    const samples = [];
    const cpuBefore = cpuTimeOf(pid);
    await traffic(seconds, (sample) => samples.push(sample));
    const cpu = (cpuTimeOf(pid) - cpuBefore) / 1_000 / seconds;
    await eventually('heartbeats', () => streams.every(({ heard }) => heard() >= heartbeats), 60_000, 200);

    const closed = streams.filter(({ isClosed }) => isClosed()).length;
    const answered = samples.filter(({ status }) => typeof status === 'number').length;
    const errors = samples.filter(({ isExpected }) => !isExpected);
    for (const { kind, status } of errors.slice(0, 5)) log(`unexpected: ${kind} ${status}`);
    const kinds = [...new Set(samples.map(({ kind }) => kind))].sort();
    const latency = new Map(
      kinds.map((kind) => [
        kind,
        percentiles(samples.filter((one) => one.kind === kind).map(({ ms }) => ms)),
      ]),
    );
    const eventDelay = percentiles(watcher.delays);
    return {
      streams: streamCount,
      requestsPerSecond,
      seconds,
      requests: samples.length,
      answered,
      errors: errors.length,
      closedStreams: closed,
      bytesPerStream: Math.round(perStream),
      apiMemoryBytes: memoryOf(pid),
      apiCores: Math.round(cpu * 100) / 100,
      latencyMs: Object.fromEntries(latency),
      eventDelayMs: eventDelay,
      events: watcher.delays.length,
      rows: [
        {
          what: 'requests answered, unexpected answers',
          value: `${answered}, ${errors.length}`,
          target: `${seconds * requestsPerSecond}, 0`,
        },
        { what: 'broken idle streams', value: String(closed), target: '0' },
        {
          what: 'API memory per idle stream',
          value: `${Math.round(perStream / 1024)} KiB`,
          target: '< 100 KiB',
        },
        { what: 'API memory at the end', value: `${Math.round(memoryOf(pid) / 2 ** 20)} MiB` },
        { what: 'API processor', value: `${cpu.toFixed(2)} cores` },
        ...[...latency].map(([kind, times]) => ({
          what: `${kind}: p50 / p95 / p99`,
          value: describe(times),
        })),
        { what: 'delay of events: p50 / p95 / p99', value: describe(eventDelay) },
      ],
      missed: [
        ...(answered < samples.length ? [`${samples.length - answered} requests had no answer`] : []),
        ...(perStream >= 100 * 1024 ? [`an idle stream takes ${Math.round(perStream / 1024)} KiB`] : []),
        ...(errors.length > samples.length - answered
          ? [`${errors.length - (samples.length - answered)} requests had an unexpected answer`]
          : []),
        ...(closed > 0 ? [`${closed} idle streams broke`] : []),
      ],
    };
  } finally {
    for (const { close } of streams) close();
    await pool.destroy();
    await stack.stop();
  }
}

/**
 * Makes a workspace.
 *
 * @param {string} api
 * @param {string} admin key
 * @param {number} number
 * @returns a key of the workspace
 */
async function newTenant(api, admin, number) {
  /** @type {{ body: { id: string } }} */
  const { body: workspace } = await call('POST', `${api}/workspaces`, { name: `idle ${number}` }, admin);
  const wanted = { name: 'idle', role: 'viewer' };
  /** @type {{ body: { key: string } }} */
  const { body } = await call('POST', `${api}/workspaces/${workspace.id}/api-keys`, wanted, admin);
  return body.key;
}

/**
 * @typedef {object} Stream
 * @property {number[]} delays milliseconds from each event to its arrival
 * @property {() => number} heard how many heartbeats
 * @property {() => boolean} isClosed
 * @property {() => void} close
 */

/**
 * Opens an event stream and reads it. Resolves when the API has answered.
 *
 * @param {string} url
 * @param {string} key
 * @returns {Promise<Stream>}
 */
function openStream(url, key) {
  return new Promise((resolve, reject) => {
    /** @type {number[]} */
    const delays = [];
    let heard = 0;
    let isClosed = false;
    const request = get(url, { agent: false, headers: { authorization: `Bearer ${key}` } }, (response) => {
      if (response.statusCode !== 200) {
        reject(new Error(`a stream was refused: ${response.statusCode}`));
        request.destroy();
        return;
      }
      response.setEncoding('utf8');
      response.on('data', (/** @type {string} */ text) => {
        if (text.startsWith(':')) heard += 1;
        const now = Date.now();
        for (const [, at = ''] of text.matchAll(/^data: .*?"createdAt":"([^"]+)"/gm))
          delays.push(now - Date.parse(at));
      });
      response.on('error', () => undefined);
      response.on('close', () => (isClosed = true));
      resolve({ delays, heard: () => heard, isClosed: () => isClosed, close: () => request.destroy() });
    });
    request.on('error', reject);
  });
}

/** @typedef {{ kind: string, status: number | string, isExpected: boolean, ms: number }} Sample */
/** @typedef {Pick<import('undici').Dispatcher.RequestOptions, 'method' | 'path' | 'body'> & { headers: Record<string, string> }} Request */
/** @typedef {{ kind: string, expected: number, make: (number: number) => Request }} Kind */

/**
 * @param {Pool} pool
 * @param {import('./fleet.mjs').Fleet} fleet
 * @param {string} phone the recipient
 * @returns a function that sends mixed traffic for a number of seconds and reports each answer
 */
async function makeTraffic(pool, { key, accounts }, phone) {
  /** @type {string[]} */
  const sent = [];
  const json = { 'content-type': 'application/json' };
  const headers = { authorization: `Bearer ${key}` };
  const accountId = (/** @type {number} */ number) => accounts[number % accounts.length]?.id;
  /** @returns {Request} */
  const send = (/** @type {object} */ body, /** @type {Record<string, string>} */ given = headers) => ({
    method: 'POST',
    path: '/api/v1/messages',
    headers: { ...json, ...given },
    body: JSON.stringify(body),
  });
  /** @returns {Request} */
  const read = (/** @type {string} */ path) => ({ method: 'GET', path: `/api/v1${path}`, headers });
  const to = `+${phone}`;
  /** @type {[Kind, ...Kind[]]} */
  const kinds = [
    {
      kind: 'send',
      expected: 202,
      make: (number) => send({ accountId: accountId(number), to, text: `bench ${number}` }),
    },
    {
      kind: 'read a message',
      expected: 200,
      make: (number) => read(`/messages/${sent[number % sent.length]}`),
    },
    {
      kind: 'read a message',
      expected: 200,
      make: (number) => read(`/messages/${sent[(number * 7) % sent.length]}`),
    },
    { kind: 'list messages', expected: 200, make: () => read('/messages?limit=50') },
    {
      kind: 'read an account',
      expected: 200,
      make: (number) => read(`/accounts/${accountId(number)}`),
    },
    { kind: 'list accounts', expected: 200, make: () => read('/accounts') },
    {
      kind: 'bad: no such message',
      expected: 404,
      make: () => read('/messages/01960000-0000-7000-8000-000000000000'),
    },
    { kind: 'bad: invalid body', expected: 400, make: () => send({ to: 'nobody', text: '' }) },
    { kind: 'bad: no key', expected: 401, make: () => send({ to, text: 'x' }, {}) },
    {
      kind: 'send',
      expected: 202,
      make: (number) =>
        send({ accountId: accountId(number), to, text: `more ${number}`, metadata: { order: number } }),
    },
  ];
  /** @returns {Promise<Sample>} */
  const once = async (
    /** @type {Kind} */ { kind, expected, make },
    /** @type {number} */ number,
    /** @type {number} */ due,
  ) => {
    try {
      const { statusCode, body } = await pool.request({
        ...make(number),
        headersTimeout: 10_000,
        bodyTimeout: 10_000,
      });
      const text = await body.text();
      if (statusCode === 202) sent.push(/** @type {{ id: string }} */ (parseJson(text)).id);
      return { kind, status: statusCode, isExpected: statusCode === expected, ms: performance.now() - due };
    } catch (error) {
      return { kind, status: String(error), isExpected: false, ms: performance.now() - due };
    }
  };
  await once(kinds[0], 0, performance.now());
  return async (/** @type {number} */ forSeconds, /** @type {(sample: Sample) => unknown} */ tell) => {
    const started = performance.now();
    const pending = [];
    for (let number = 0; number < forSeconds * requestsPerSecond; number += 1) {
      const due = started + (number * 1_000) / requestsPerSecond;
      const early = due - performance.now();
      if (early > 1) await delay(early);
      pending.push(once(kinds[number % kinds.length] ?? kinds[0], number, due).then(tell));
    }
    await Promise.all(pending);
  };
}

/** @param {import('./figures.mjs').Percentiles} times */
function describe({ p50, p95, p99 }) {
  return `${[p50, p95, p99].map((ms) => ms.toFixed(1)).join(' / ')} ms`;
}
