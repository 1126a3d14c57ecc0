/**
 * 1,000 idle streams of events and mixed traffic at a fixed rate, together on one API process: errors, latency of each
 * kind of request, memory of a stream, and how late events are. Latency counts from when a request was due, so that one
 * that holds up others is seen.
 */
import { readFileSync } from 'node:fs';
import { get } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { Pool } from 'undici';
import { call, eventually, startFleet } from './fleet.mjs';

const streamCount = 1_000;
const streamsPerKey = 100;
const requestsPerSecond = 200;
const seconds = 60;
/** An idle stream hears the heartbeat once in 15 seconds; so many of them it has to have heard. */
const heartbeats = 2;

/** @param {{ log: (text: string) => void }} options */
export async function run({ log }) {
  const fleet = await startFleet({ accounts: 2, instances: 1, env: { RATE_LIMIT_PER_KEY: '0' } });
  const { stack } = fleet;
  const admin = stack.env.ADMIN_API_KEY;
  const api = `${stack.urls.api}/api/v1`;
  const pid = (await stack.status()).get('flotilla:api').pid;
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
    const { phone } = (await call('POST', `${stack.urls.sandbox}/phones`, {})).body;
    const traffic = await makeTraffic(pool, fleet, phone);
    await traffic(5, () => undefined);
    watcher.delays.length = 0;
    const samples = [];
    const cpuBefore = cpuSecondsOf(pid);
    await traffic(seconds, (sample) => samples.push(sample));
    const cpu = (cpuSecondsOf(pid) - cpuBefore) / seconds;
    await eventually(
      'heartbeats',
      async () => streams.every(({ heard }) => heard() >= heartbeats),
      60_000,
      200,
    );

    const closed = streams.filter(({ isClosed }) => isClosed()).length;
    const answered = samples.filter(({ status }) => typeof status === 'number').length;
    const errors = samples.filter(({ isExpected }) => !isExpected);
    for (const { kind, status } of errors.slice(0, 5)) log(`unexpected: ${kind} ${status}`);
    const kinds = [...new Set(samples.map(({ kind }) => kind))].sort();
    const latency = Object.fromEntries(
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
      latencyMs: latency,
      eventDelayMs: eventDelay,
      events: watcher.delays.length,
      rows: [
        {
          what: 'requests answered, of them unexpectedly',
          value: `${answered}, ${errors.length}`,
          target: `${seconds * requestsPerSecond}, 0`,
        },
        { what: 'idle streams that broke', value: String(closed), target: '0' },
        {
          what: 'API memory per idle stream',
          value: `${Math.round(perStream / 1024)} KiB`,
          target: '< 100 KiB',
        },
        { what: 'API memory in the end', value: `${Math.round(memoryOf(pid) / 2 ** 20)} MiB` },
        { what: 'API processor', value: `${cpu.toFixed(2)} cores` },
        ...kinds.map((kind) => ({ what: `${kind}: p50 / p95 / p99`, value: describe(latency[kind]) })),
        { what: 'events: p50 / p95 / p99 after they happened', value: describe(eventDelay) },
      ],
      missed: [
        ...(answered < samples.length ? [`${samples.length - answered} requests had no answer`] : []),
        ...(perStream >= 100 * 1024 ? [`an idle stream takes ${Math.round(perStream / 1024)} KiB`] : []),
        ...(errors.length > samples.length - answered
          ? [
              `${errors.length - (samples.length - answered)} requests had an answer that they should not have`,
            ]
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

/** A workspace of its own. @returns its owner's key */
async function newTenant(api, admin, number) {
  const { body: workspace } = await call('POST', `${api}/workspaces`, { name: `idle ${number}` }, admin);
  const wanted = { name: 'idle', role: 'viewer' };
  return (await call('POST', `${api}/workspaces/${workspace.id}/api-keys`, wanted, admin)).body.key;
}

/** Opens a stream of events and reads it; resolves once the API has answered. */
function openStream(url, key) {
  return new Promise((resolve, reject) => {
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
      response.on('data', (text) => {
        if (text.startsWith(':')) heard += 1;
        const now = Date.now();
        for (const [, at] of text.matchAll(/^data: .*?"createdAt":"([^"]+)"/gm))
          delays.push(now - Date.parse(at));
      });
      response.on('error', () => undefined);
      response.on('close', () => (isClosed = true));
      resolve({ delays, heard: () => heard, isClosed: () => isClosed, close: () => request.destroy() });
    });
    request.on('error', reject);
  });
}

/** @returns what sends mixed traffic for so many seconds, and tells of each answer */
async function makeTraffic(pool, { key, accounts }, phone) {
  const sent = [];
  const json = { 'content-type': 'application/json' };
  const auth = { authorization: `Bearer ${key}` };
  const send = (number, body, headers) => ({
    method: 'POST',
    path: '/api/v1/messages',
    headers: { ...json, ...headers },
    body: JSON.stringify(body),
    number,
  });
  const kinds = [
    [
      'send',
      202,
      (number) =>
        send(
          number,
          { accountId: accounts[number % accounts.length].id, to: `+${phone}`, text: `bench ${number}` },
          auth,
        ),
    ],
    [
      'read a message',
      200,
      (number) => ({ method: 'GET', path: `/api/v1/messages/${sent[number % sent.length]}`, headers: auth }),
    ],
    [
      'read a message',
      200,
      (number) => ({
        method: 'GET',
        path: `/api/v1/messages/${sent[(number * 7) % sent.length]}`,
        headers: auth,
      }),
    ],
    ['list messages', 200, () => ({ method: 'GET', path: '/api/v1/messages?limit=50', headers: auth })],
    [
      'read an account',
      200,
      (number) => ({
        method: 'GET',
        path: `/api/v1/accounts/${accounts[number % accounts.length].id}`,
        headers: auth,
      }),
    ],
    ['list accounts', 200, () => ({ method: 'GET', path: '/api/v1/accounts', headers: auth })],
    [
      'bad: no such message',
      404,
      () => ({ method: 'GET', path: '/api/v1/messages/01960000-0000-7000-8000-000000000000', headers: auth }),
    ],
    ['bad: invalid body', 400, (number) => send(number, { to: 'nobody', text: '' }, auth)],
    ['bad: no key', 401, (number) => send(number, { to: `+${phone}`, text: 'x' }, {})],
    [
      'send',
      202,
      (number) =>
        send(
          number,
          {
            accountId: accounts[number % accounts.length].id,
            to: `+${phone}`,
            text: `more ${number}`,
            metadata: { order: number },
          },
          auth,
        ),
    ],
  ];
  const once = async ([kind, expected, make], number, due) => {
    try {
      const { number: _number, ...request } = make(number);
      const { statusCode, body } = await pool.request({
        ...request,
        headersTimeout: 10_000,
        bodyTimeout: 10_000,
      });
      const text = await body.text();
      if (statusCode === 202) sent.push(JSON.parse(text).id);
      return { kind, status: statusCode, isExpected: statusCode === expected, ms: performance.now() - due };
    } catch (error) {
      return { kind, status: String(error), isExpected: false, ms: performance.now() - due };
    }
  };
  await once(kinds[0], 0, performance.now());
  return async (forSeconds, tell) => {
    const started = performance.now();
    const pending = [];
    for (let number = 0; number < forSeconds * requestsPerSecond; number += 1) {
      const due = started + (number * 1_000) / requestsPerSecond;
      const early = due - performance.now();
      if (early > 1) await delay(early);
      pending.push(once(kinds[number % kinds.length], number, due).then(tell));
    }
    await Promise.all(pending);
  };
}

function percentiles(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => Math.round((sorted[Math.floor(share * (sorted.length - 1))] ?? 0) * 10) / 10;
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1) };
}

function describe({ p50, p95, p99 }) {
  return `${p50} / ${p95} / ${p99} ms`;
}

/** The resident memory of a process, in bytes. */
function memoryOf(pid) {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) * 1024;
}

/** The processor time that a process has used, in seconds. */
function cpuSecondsOf(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
