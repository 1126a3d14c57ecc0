/**
 * The workspace that works normally while another one attacks: a request every few milliseconds, half of them to each API
 * process, an event stream on each, and a webhook. The next request does not wait for an answer, and latency counts from the
 * time when a request was due: a slow server does not make the measurement kind.
 */
import { createServer, get } from 'node:http';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { Pool } from 'undici';
import { parseJson } from '../setup/json.mjs';
import { servePart } from './abuse-part.mjs';

/** A request that has its end. @typedef {{ due: number, api: number, kind: string, ms: number, status: number | string, isExpected: boolean }} Sample */

/**
 * What happened to the requests that were due in a window.
 *
 * @typedef {object} Window
 * @property {number} from milliseconds since 1970, as all times here
 * @property {number} to
 * @property {Sample[]} samples
 * @property {number[]} eventDelays milliseconds from each event to its arrival in a stream
 * @property {number[]} webhookDelays the same for webhooks
 * @property {number} brokenStreams
 * @property {number} ownDelayMs how long this process itself stood still at most
 */

/**
 * @typedef {object} VictimOptions
 * @property {string[]} origins the API processes
 * @property {string} key
 * @property {string} accountId
 * @property {string} host where its webhook's endpoint listens
 * @property {number} everyMs
 */

const timeoutMs = 10_000;
const reconnectMs = 100;
const to = '+6281234567890';

/** @type {Sample[]} */
let samples = [];
/** The times when the unanswered requests were due. @type {Set<number>} */
const pending = new Set();
/** @type {number[]} */
let eventDelays = [];
/** @type {number[]} */
let webhookDelays = [];
let brokenStreams = 0;
const loop = monitorEventLoopDelay({ resolution: 5 });
loop.enable();

const now = () => performance.timeOrigin + performance.now();

/** @typedef {{ kind: string, expected: number, method: 'GET' | 'POST', path: () => string, body?: (number: number) => object }} Kind */

/** @param {VictimOptions} options */
async function start({ origins, key, accountId, host, everyMs }) {
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
  const pools = origins.map(
    // An idle connection ends here long before the API ends it: a request at that moment would be lost.
    (origin) => new Pool(origin, { connections: 64, pipelining: 1, keepAliveMaxTimeout: 10_000 }),
  );
  let lastId = '';
  /** @type {[Kind, ...Kind[]]} */
  const kinds = [
    {
      kind: 'send',
      expected: 202,
      method: 'POST',
      path: () => '/messages',
      body: (number) => ({ accountId, to, text: `order ${number} is on its way` }),
    },
    { kind: 'read a message', expected: 200, method: 'GET', path: () => `/messages/${lastId}` },
    { kind: 'list messages', expected: 200, method: 'GET', path: () => '/messages?limit=50' },
    { kind: 'read an account', expected: 200, method: 'GET', path: () => `/accounts/${accountId}` },
    { kind: 'read its workspace', expected: 200, method: 'GET', path: () => '/workspace' },
  ];
  const ask = async (/** @type {Kind} */ { kind, method, path, body }, /** @type {number} */ number) => {
    const pool = pools[number % pools.length];
    if (!pool) throw new Error('there is no API');
    const answer = await pool.request({
      method,
      path: `/api/v1${path()}`,
      headers,
      body: body ? JSON.stringify(body(number)) : null,
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      // Undici's timeouts begin when the request is on the wire, and it may wait for a connection before.
      signal: AbortSignal.timeout(timeoutMs),
    });
    const content = await answer.body.text();
    if (kind === 'send' && answer.statusCode === 202)
      lastId = /** @type {{ id: string }} */ (parseJson(content)).id;
    return answer.statusCode;
  };
  const once = async (/** @type {number} */ number, /** @type {number} */ due) => {
    const kind = kinds[number % kinds.length] ?? kinds[0];
    pending.add(due);
    const status = await ask(kind, number).catch((/** @type {unknown} */ error) =>
      error instanceof Error ? error.name : String(error),
    );
    pending.delete(due);
    const isExpected = status === kind.expected;
    samples.push({ due, api: number % pools.length, kind: kind.kind, ms: now() - due, status, isExpected });
  };

  const first = await ask(kinds[0], 0);
  if (first !== 202) throw new Error(`the victim's first message was answered with ${first}`);
  await startWebhook(pools[0], headers, host);
  for (const origin of origins) follow(`${origin}/api/v1/events`, key, undefined);
  void (async () => {
    const started = now();
    for (let number = 1; ; number += 1) {
      const due = started + number * everyMs;
      const early = due - now();
      if (early > 1) await delay(early);
      void once(number, due);
    }
  })();
}

/** @param {Pool | undefined} pool @param {Record<string, string>} headers @param {string} host */
async function startWebhook(pool, headers, host) {
  const server = createServer((request, response) => {
    void text(request).then((body) => {
      const { createdAt } = /** @type {{ createdAt: string }} */ (parseJson(body));
      webhookDelays.push(now() - Date.parse(createdAt));
      response.end();
    });
  });
  await new Promise((resolve) => server.listen(0, host, () => resolve(undefined)));
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  const made = await pool?.request({
    method: 'POST',
    path: '/api/v1/webhooks',
    headers,
    body: JSON.stringify({ url: `http://${host}:${port}/`, events: ['message.*'] }),
  });
  if (made?.statusCode !== 201)
    throw new Error(`the victim's webhook was refused: ${await made?.body.text()}`);
  await made.body.dump();
}

/** Reads an event stream for ever, and resumes a broken one. @param {string} url @param {string} key @param {string | undefined} after */
function follow(url, key, after) {
  let last = after;
  let isOver = false;
  const resume = () => {
    if (isOver) return;
    isOver = true;
    brokenStreams += 1;
    setTimeout(() => follow(url, key, last), reconnectMs);
  };
  const headers = { authorization: `Bearer ${key}`, ...(after ? { 'last-event-id': after } : {}) };
  get(url, { agent: false, headers }, (response) => {
    if (response.statusCode !== 200) response.destroy();
    response.setEncoding('utf8');
    response.on('data', (/** @type {string} */ part) => {
      for (const [, at = ''] of part.matchAll(/^data: .*?"createdAt":"([^"]+)"/gm))
        eventDelays.push(now() - Date.parse(at));
      for (const [, id = ''] of part.matchAll(/^id: ([\d-]+)$/gm)) last = id;
    });
    response.on('error', () => undefined);
    response.on('close', resume);
  }).on('error', resume);
}

/**
 * Everything since the last window. Waits until the requests of the window have their end.
 *
 * @param {number} from
 * @returns {Promise<Window>}
 */
async function takeWindow(from) {
  const until = now();
  // Each request ends at its timeout, and so does this.
  while ([...pending].some((due) => due < until)) await delay(5);
  const ofWindow = samples.filter(({ due }) => due >= from && due < until);
  samples = samples.filter(({ due }) => due >= until);
  const taken = { eventDelays, webhookDelays, brokenStreams, ownDelayMs: loop.max / 1e6 };
  eventDelays = [];
  webhookDelays = [];
  brokenStreams = 0;
  loop.reset();
  return { from, to: until, samples: ofWindow, ...taken };
}

servePart({
  start,
  /** Begins a window. */
  begin: async () => (await takeWindow(now())).to,
  end: takeWindow,
});
