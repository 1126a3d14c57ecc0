/**
 * What the hostile workspace does. Each attack uses the public API only, and takes whatever it is answered: a refusal or a closed
 * connection is a normal end of its requests. The attacks run in the process of abuse-attacker.mjs.
 */
import { setMaxListeners } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import sharp from 'sharp';
import { Agent, request } from 'undici';
import { v4 as uuidv4 } from 'uuid';
import { parseJson } from '../setup/json.mjs';
import { nastyRequests, operations } from './abuse-bodies.mjs';

/** @typedef {'owner' | 'sender' | 'viewer'} Role */

/** How large the attacks are. @typedef {Record<'texts' | 'pictureSide' | 'streams' | 'lists' | 'downloads' | 'waits' | 'halves' | 'keys' | 'connects' | 'slow', number>} Scale */

/**
 * @typedef {object} Context
 * @property {string[]} origins the API processes
 * @property {number} seconds how long the attack goes on
 * @property {Scale} scale
 * @property {{ keys: Record<Role, string>, accountId: string }} hostile
 * @property {{ phone: string | null, things: [path: string, id: string][] }} victim its phone, and an id of it for each
 *   collection of the API
 * @property {string} slowHost an address that the operator lets tenants call
 */

/** How many requests had each answer: a status, or `closed`. @typedef {Record<string, number>} Answers */

/**
 * @typedef {object} Outcome
 * @property {Answers} answers
 * @property {Record<string, number>} [counts] what else the attack has counted
 * @property {Record<string, string[]>} [seen] different answers, for attacks that must not tell anything apart
 */

/**
 * @typedef {object} Attack
 * @property {string} what
 * @property {boolean} [countsOnly] only its counts have a target: it is an allowed load, however heavy
 * @property {(context: Context) => Promise<unknown>} [prepare] runs before the victim's measurement
 * @property {(context: Context, signal: AbortSignal, prepared: unknown) => Promise<Outcome>} run
 */

/** @type {Role[]} */
const roles = ['viewer', 'sender', 'owner'];
const to = '+6281234567890';
const largeText = 'x'.repeat(65_000);
const connections = 8;
const answerMs = 30_000;
/** How long the requests of many keys may take to reach the limit: within one minute of the limit. */
const blastMs = 40_000;
/** For this long after the limit is reached, requests go on. Twice what API processes may take to tell each other their counts. */
const proofSeconds = 4;

/** @type {Record<string, Attack>} */
export const attacks = {
  bodies: {
    what: 'the largest and nastiest bodies and queries of every route, with an owner key',
    run: (context, signal) => sendNasty(context, signal, 'owner'),
  },
  'viewer-bodies': {
    what: 'the same with a viewer key',
    run: (context, signal) => sendNasty(context, signal, 'viewer'),
  },
  'unread-streams': {
    what: 'event streams that nobody reads, from the beginning of a log of large events and live',
    prepare: sendLargeTexts,
    async run(context, signal) {
      const { origins, scale, hostile } = context;
      const sockets = Array.from({ length: scale.streams }, (_, number) =>
        openUnread(originOf(origins, number), {
          method: 'GET',
          path: '/api/v1/events',
          key: hostile.keys.viewer,
          headers: number % 2 === 0 ? { 'last-event-id': '0-0' } : {},
        }),
      );
      // The live streams get something, too.
      await repeat(1, signal, async () => {
        await sendBatch(context, 20);
        await delay(1_000, undefined, { signal });
      });
      return { answers: await readStatuses(sockets) };
    },
  },
  'unread-lists': {
    what: 'pages of 200 large messages that nobody reads, with a viewer key',
    prepare: sendLargeTexts,
    run: ({ origins, scale, hostile }, signal) =>
      holdUnread(signal, scale.lists, (number) =>
        openUnread(originOf(origins, number), {
          method: 'GET',
          path: '/api/v1/messages?limit=200',
          key: hostile.keys.viewer,
        }),
      ),
  },
  'unread-media': {
    what: 'downloads of a file of 16 MB that nobody reads',
    prepare: upload,
    run: ({ origins, scale, hostile }, signal, mediaId) =>
      holdUnread(signal, scale.downloads, (number) =>
        openUnread(originOf(origins, number), {
          method: 'GET',
          path: `/api/v1/media/${String(mediaId)}`,
          key: hostile.keys.viewer,
        }),
      ),
  },
  waits: {
    what: 'requests that wait for the delivery of a message that no account sends',
    async run({ origins, scale, hostile }, signal) {
      /** @type {Answers} */
      const answers = {};
      const client = new Agent({ connections: scale.waits, pipelining: 1 });
      const one = (/** @type {number} */ number) =>
        ask(client, signal, {
          url: `${originOf(origins, number)}/api/v1/messages?wait=delivered&timeoutMs=60000`,
          method: 'POST',
          key: hostile.keys.sender,
          body: JSON.stringify({ accountId: hostile.accountId, to, text: 'wait' }),
        }).then(({ status }) => count(answers, status));
      await Promise.all(Array.from({ length: scale.waits }, (_, number) => one(number)));
      await ended(signal);
      await client.destroy();
      return { answers };
    },
  },
  'keyless-flood': {
    what: "5 MB/s without a key and with wrong keys, from the victim's address",
    async run(context, signal) {
      const { origins } = context;
      const bytesPerSecond = 5_000_000;
      /** Mostly as large as a route without a key might read. */
      const sizes = [...Array.from({ length: 10 }, () => 60_000), 1_000, 1_000, 1_000, 900_000];
      /** @type {Answers} */
      const answers = {};
      const client = new Agent({ connections: 32, pipelining: 1 });
      const started = performance.now();
      let sent = 0;
      /** @type {Promise<void>[]} */
      const open = [];
      for (let number = 0; !signal.aborted; number += 1) {
        const size = sizes[number % sizes.length] ?? 0;
        const body = `{"to":"${to}","text":"${'x'.repeat(size)}"}`;
        const key = number % 2 === 0 ? undefined : `flk_${uuidv4()}`;
        const url = `${originOf(origins, number)}/api/v1/messages`;
        open.push(
          ask(client, signal, { url, method: 'POST', key, body }).then(({ status }) =>
            count(answers, status),
          ),
        );
        sent += body.length;
        const early = started + (sent / bytesPerSecond) * 1_000 - performance.now();
        if (early > 1) await delay(early);
      }
      await Promise.all(open);
      await client.destroy();
      // A key that nobody has used yet: no process knows that it belongs to this address.
      const { status } = await need(context, { url: '/workspace', method: 'GET' });
      const lockedOut = status === 200 ? 0 : 1;
      return { answers, counts: { megabytes: Math.round(sent / 1e6), lockedOut } };
    },
  },
  'half-requests': {
    what: "requests that never end, from the victim's address: half of the headers, or a byte of the body a second",
    async run({ origins, scale }, signal) {
      let opened = 0;
      /** @type {Set<import('node:net').Socket>} */
      const sockets = new Set();
      const open = () => {
        opened += 1;
        const { hostname, port } = new URL(originOf(origins, opened));
        const socket = connect(Number(port), hostname);
        const headers = `POST /api/v1/messages HTTP/1.1\r\nHost: ${hostname}\r\nContent-Type: application/json\r\n`;
        const half = `${headers}Authorization: Bearer flk_${uuidv4()}\r\nContent-Length: 60000\r\n\r\n{"to":"`;
        socket.write(opened % 2 === 0 ? `${headers}X-Half: ` : half);
        socket.on('error', () => undefined);
        socket.on('data', () => undefined);
        socket.once('close', () => {
          sockets.delete(socket);
          // Not at once: connections that are refused at once would make this a flood of connections.
          if (!signal.aborted) setTimeout(() => signal.aborted || open(), 500);
        });
        sockets.add(socket);
      };
      for (let number = 0; number < scale.halves; number += 1) open();
      await repeat(1, signal, async () => {
        for (const socket of sockets) socket.write('1');
        await delay(1_000, undefined, { signal });
      });
      for (const socket of sockets) socket.destroy();
      return { answers: {}, counts: { opened } };
    },
  },
  'many-keys': {
    what: 'new keys, each as fast as it can, half of its requests to each process',
    countsOnly: true,
    async run(context) {
      const keys = await newKeys(context);
      // A workspace that may have no more keys attacks with what it has.
      if (keys.length === 0) keys.push(context.hostile.keys.owner);
      return pipeline(context.origins, keys);
    },
  },
  'inner-proxies': {
    what: 'accounts with proxies at inner addresses, open and closed ports',
    countsOnly: true,
    run: tryProxies,
  },
  conversions: {
    what: 'messages whose pictures take seconds to convert, and pictures with more pixels than are allowed',
    prepare: uploadPictures,
    async run({ origins, hostile }, signal, pictures) {
      /** @type {Answers} */
      const answers = {};
      const client = new Agent({ connections });
      const mediaIds = /** @type {string[]} */ (pictures);
      let number = 0;
      await repeat(2 * connections, signal, async () => {
        const mediaId = mediaIds[(number += 1) % mediaIds.length];
        const message = { accountId: hostile.accountId, to, type: 'sticker', media: { mediaId } };
        const { status } = await ask(client, signal, {
          url: `${originOf(origins, number)}/api/v1/messages`,
          method: 'POST',
          key: hostile.keys.owner,
          body: JSON.stringify(message),
        });
        count(answers, status);
        // Refused at once, it tries again a little later.
        if (Number(status) >= 400) await delay(20, undefined, { signal });
      });
      await client.destroy();
      return { answers };
    },
  },
  'slow-hosts': {
    what: 'media by URL, webhooks and webhook tests, all to hosts that never answer',
    run: callSlowHosts,
  },
  'foreign-things': {
    what: "a scan with the victim's phone, every route with the victim's ids, and guesses of ids",
    run: tryForeignThings,
  },
};

/** @param {string[]} origins @param {number} number */
const originOf = (origins, number) => origins[number % origins.length] ?? '';

/** @param {Answers} answers @param {number | string} answer */
function count(answers, answer) {
  answers[answer] = (answers[answer] ?? 0) + 1;
}

/** Runs a job again and again, several at a time, until the attack ends. @param {number} concurrency @param {AbortSignal} signal @param {() => Promise<unknown>} job */
async function repeat(concurrency, signal, job) {
  const lane = async () => {
    while (!signal.aborted)
      await job().catch((/** @type {unknown} */ error) => {
        if (!signal.aborted) throw error;
      });
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
}

/** @param {AbortSignal} signal */
const ended = (signal) =>
  signal.aborted
    ? Promise.resolve()
    : new Promise((resolve) => signal.addEventListener('abort', () => resolve(undefined), { once: true }));

/** @typedef {{ url: string, method: string, key?: string, body?: string }} Wanted */

/**
 * Sends a request and reads the answer.
 *
 * @param {Agent | undefined} client
 * @param {AbortSignal | undefined} signal
 * @param {Wanted & { keep?: boolean }} wanted `keep`: the text is needed
 * @returns {Promise<{ status: number | string, text: string }>} `closed` without an answer, `open` when the attack ended before
 */
async function ask(client, signal, { url, method, key, body, keep = false }) {
  try {
    const response = await request(url, {
      method: /** @type {import('undici').Dispatcher.HttpMethod} */ (method),
      dispatcher: client,
      signal: AbortSignal.any([AbortSignal.timeout(answerMs), ...(signal ? [signal] : [])]),
      headers: {
        ...(body !== undefined ? { 'content-type': 'application/json' } : {}),
        ...(key ? { authorization: `Bearer ${key}` } : {}),
      },
      body: body ?? null,
      headersTimeout: answerMs,
      bodyTimeout: answerMs,
    });
    if (keep) return { status: response.statusCode, text: await response.body.text() };
    await response.body.dump({ limit: 1e9 });
    return { status: response.statusCode, text: '' };
  } catch {
    return { status: signal?.aborted ? 'open' : 'closed', text: '' };
  }
}

/** Calls the API and needs the answer. @param {Context} context @param {Wanted} wanted */
async function need(context, { url, ...wanted }) {
  const answer = await ask(undefined, undefined, {
    key: context.hostile.keys.owner,
    ...wanted,
    url: `${originOf(context.origins, 0)}/api/v1${url}`,
    keep: true,
  });
  /** @type {unknown} */
  const body = answer.text.startsWith('{') ? parseJson(answer.text) : {};
  return { status: answer.status, body: /** @type {Record<string, unknown>} */ (body) };
}

/** @param {Context} context @param {AbortSignal} signal @param {Role} role @returns {Promise<Outcome>} */
async function sendNasty({ origins, hostile }, signal, role) {
  /** @type {Answers} */
  const answers = {};
  const client = new Agent({ connections, pipelining: 1 });
  const own = (/** @type {string} */ path) =>
    path.replace(/\{\w+\}/g, () => (path.includes('/accounts/{id}') ? hostile.accountId : uuidv4()));
  const requests = nastyRequests(own);
  let number = 0;
  await repeat(origins.length * connections, signal, async () => {
    const { method, path, body } = requests.next().value;
    const url = `${originOf(origins, (number += 1))}${path}`;
    const { status } = await ask(client, signal, { url, method, key: hostile.keys[role], body });
    count(answers, status);
  });
  await client.destroy();
  return { answers };
}

/** Fills the log of events and the list of messages with large texts. @param {Context} context */
async function sendLargeTexts(context) {
  for (let left = context.scale.texts; left > 0; left -= 100) await sendBatch(context, Math.min(left, 100));
}

/** @param {Context} context @param {number} size */
function sendBatch(context, size) {
  const message = { accountId: context.hostile.accountId, to, text: largeText };
  const body = JSON.stringify({ messages: Array.from({ length: size }, () => message) });
  return need(context, { url: '/messages/batch', method: 'POST', body });
}

/** @param {Context} context @returns the ids of pictures: one that is allowed, and one that is too large. Both have a few kilobytes */
async function uploadPictures(context) {
  const { pictureSide } = context.scale;
  const sides = /** @type {const} */ ([
    [pictureSide, 0.75 * pictureSide],
    [10_000, 9_000],
  ]);
  const ids = [];
  for (const [width, height] of sides) {
    const picture = sharp({ create: { width, height, channels: 3, background: 'red' } });
    ids.push(await uploadFile(context, await picture.png().toBuffer(), 'large.png'));
  }
  return ids;
}

/** @param {Context} context @returns the id of a file */
function upload(context) {
  return uploadFile(context, Buffer.alloc(16_000_000, 'a text. '), 'large.txt');
}

/** @param {Context} context @param {Buffer} bytes @param {string} name @returns the id of a file */
async function uploadFile(context, bytes, name) {
  const form = new FormData();
  form.set('file', new Blob([new Uint8Array(bytes)]), name);
  const url = `${originOf(context.origins, 0)}/api/v1/media`;
  const headers = { authorization: `Bearer ${context.hostile.keys.owner}` };
  const response = await fetch(url, { method: 'POST', headers, body: form });
  const { mediaId } = /** @type {{ mediaId?: string }} */ (await response.json());
  if (mediaId === undefined) throw new Error(`the upload was answered with ${response.status}`);
  return mediaId;
}

/**
 * Sends a request on a socket that never reads: only the buffers of the kernel fill.
 *
 * @param {string} origin
 * @param {{ method: string, path: string, key: string, headers?: Record<string, string> }} wanted
 */
function openUnread(origin, { method, path, key, headers = {} }) {
  const { hostname, port } = new URL(origin);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => undefined);
  // Before it is connected, so that Node does not begin to read.
  socket.pause();
  const lines = Object.entries({ host: hostname, authorization: `Bearer ${key}`, ...headers });
  socket.write(
    `${method} ${path} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`,
  );
  return socket;
}

/** @param {AbortSignal} signal @param {number} length @param {(number: number) => import('node:net').Socket} open @returns {Promise<Outcome>} */
async function holdUnread(signal, length, open) {
  const sockets = Array.from({ length }, (_, number) => open(number));
  await ended(signal);
  return { answers: await readStatuses(sockets) };
}

/** Reads the statuses of unread answers, and closes their sockets. @param {import('node:net').Socket[]} sockets */
async function readStatuses(sockets) {
  /** @type {Answers} */
  const answers = {};
  await Promise.all(
    sockets.map(
      (socket) =>
        new Promise((resolve) => {
          const end = (/** @type {string} */ answer) => {
            clearTimeout(giveUp);
            socket.removeAllListeners('data').removeAllListeners('close').destroy();
            count(answers, answer);
            resolve(undefined);
          };
          const giveUp = setTimeout(() => end('open'), 2_000);
          socket.once('close', () => end('closed'));
          socket.once('data', (/** @type {Buffer} */ bytes) =>
            end(/^HTTP\/1\.1 (\d{3})/.exec(bytes.toString('latin1'))?.[1] ?? 'closed'),
          );
          if (socket.closed) end('closed');
          else socket.resume();
        }),
    ),
  );
  return answers;
}

/**
 * Makes keys, at the beginning of a minute of the limit: a second minute would have its own requests.
 *
 * @param {Context} context
 * @returns {Promise<string[]>}
 */
async function newKeys(context) {
  const { origins, hostile, scale } = context;
  for (const origin of origins) {
    const headers = { authorization: `Bearer ${hostile.keys.owner}` };
    const { headers: answered } = await fetch(`${origin}/api/v1/workspace`, { headers });
    const resets = [...(answered.get('ratelimit') ?? '').matchAll(/;t=(\d+)/g)].map(([, s]) => Number(s));
    const seconds = Math.min(60, ...resets);
    if (seconds * 1_000 < blastMs + 10_000) await delay(seconds * 1_000 + 500);
  }
  const keys = [];
  for (let number = 0; number < scale.keys; number += 1) {
    const body = JSON.stringify({ name: `key ${number}`, role: 'viewer' });
    const made = await need(context, { url: '/workspace/api-keys', method: 'POST', body });
    if (made.status === 201) keys.push(String(made.body.key));
  }
  return keys;
}

/**
 * Sends small requests of many keys, several in one write, and counts those that were not refused by a limit. It stops some
 * seconds after the limit that the answers name: by then a limit that holds has shown itself.
 *
 * @param {string[]} origins
 * @param {string[]} keys
 * @returns {Promise<Outcome>}
 */
async function pipeline(origins, keys) {
  const atOnce = 5;
  const signal = AbortSignal.timeout(blastMs);
  setMaxListeners(0, signal);
  /** @type {Answers} */
  const answers = {};
  let limit = Infinity;
  let sent = 0;
  const started = performance.now();
  const isOver = () => {
    const perSecond = sent / ((performance.now() - started) / 1_000);
    return signal.aborted || sent >= limit + proofSeconds * perSecond;
  };
  const lane = async (/** @type {string} */ origin, /** @type {string} */ key) => {
    const { hostname, port } = new URL(origin);
    while (!isOver()) {
      const socket = connect(Number(port), hostname);
      socket.setEncoding('latin1');
      let unanswered = 0;
      let rest = '';
      const push = () => {
        if (isOver()) {
          socket.end();
          return;
        }
        unanswered = atOnce;
        sent += atOnce;
        socket.write(
          `GET /api/v1/messages/none HTTP/1.1\r\nHost: ${hostname}\r\nAuthorization: Bearer ${key}\r\n\r\n`.repeat(
            atOnce,
          ),
        );
      };
      await new Promise((resolve) => {
        socket.once('connect', push);
        socket.on('error', () => undefined);
        socket.once('close', () => resolve(undefined));
        socket.on('data', (/** @type {string} */ part) => {
          rest += part;
          let end = 0;
          for (const found of rest.matchAll(/HTTP\/1\.1 (\d{3})[\s\S]*?\r\n\r\n/g)) {
            count(answers, found[1] ?? '');
            for (const [, quota = ''] of found[0].matchAll(/^ratelimit-policy:.*?;q=(\d+)/gim))
              limit = Math.min(limit, Number(quota));
            unanswered -= 1;
            end = found.index + found[0].length;
          }
          rest = rest.slice(end);
          if (unanswered === 0) push();
        });
        signal.addEventListener('abort', () => socket.destroy(), { once: true });
      });
      if (unanswered > 0) answers.closed = (answers.closed ?? 0) + unanswered;
    }
  };
  await Promise.all(keys.flatMap((key) => origins.map((origin) => lane(origin, key))));
  const seconds = (performance.now() - started) / 1_000;
  const refused = (answers['429'] ?? 0) + (answers.closed ?? 0);
  const answered = Object.values(answers).reduce((sum, one) => sum + one, 0);
  return {
    answers,
    counts: { keys: keys.length, limit, accepted: answered - refused, sent, perSecond: answered / seconds },
  };
}

/** Inner addresses of this machine. Some notations of them are odd: what counts is where a connection goes. */
const loopbackHosts = [
  '127.0.0.1',
  '127.1.2.3',
  '127.255.255.254',
  '0.0.0.0',
  '[::1]',
  '[::]',
  '[0:0:0:0:0:0:0:1]',
  '[::ffff:127.0.0.1]',
  '[::ffff:7f00:1]',
  '[::127.0.0.1]',
  '[64:ff9b::7f00:1]',
  '[2002:7f00:1::]',
  '2130706433',
  '0x7f000001',
  '017700000001',
  '0177.0.0.1',
  '127.1',
];
/** Inner addresses elsewhere: no account connects to them, because this benchmark stays on loopback. */
const otherHosts = [
  '10.0.0.1',
  '172.16.0.1',
  '192.168.0.1',
  '100.64.0.1',
  '169.254.169.254',
  '168.63.129.16',
  '198.18.0.1',
  '255.255.255.255',
  '[fc00::1]',
  '[fe80::1]',
  '[fd00:ec2::254]',
];
/** Names of this machine. Only a connection shows where they lead. */
const loopbackNames = ['localhost', 'localhost.', 'LocalHost', 'inner.localhost'];

/**
 * Makes accounts with inner proxies, changes the proxy of an account, and connects what was accepted. Counts the connections
 * that arrive at a listener.
 *
 * @param {Context} context
 * @returns {Promise<Outcome>}
 */
async function tryProxies(context) {
  let arrived = 0;
  const listener = createServer((socket) => {
    arrived += 1;
    socket.on('error', () => undefined);
    socket.destroy();
  });
  await new Promise((resolve) => listener.listen(0, '127.0.0.1', () => resolve(undefined)));
  const { port } = /** @type {import('node:net').AddressInfo} */ (listener.address());
  /** @type {Answers} */
  const answers = {};
  /** @type {Set<string>} */
  const refusals = new Set();
  /** @type {Set<string>} */
  const reasons = new Set();
  let acceptedAddresses = 0;
  /** @type {string[]} */
  const accepted = [];
  const closedPort = await freePort();
  const hosts = [...loopbackNames, ...loopbackHosts, ...otherHosts];
  for (const [number, host] of hosts.entries()) {
    const scheme = number % 2 === 0 ? 'http' : 'socks5';
    for (const [url, kind] of /** @type {const} */ ([
      [`${scheme}://${host}:${port}`, 'POST'],
      [`${scheme}://user:secret@${host}:${closedPort}`, 'POST'],
      [`${scheme}://${host}:${port}`, 'PATCH'],
    ])) {
      const path = kind === 'POST' ? '/accounts' : `/accounts/${context.hostile.accountId}`;
      const body = { proxyUrl: url, ...(kind === 'POST' ? { name: host, environment: 'live' } : {}) };
      const { status, body: answer } = await need(context, {
        url: path,
        method: kind,
        body: JSON.stringify(body),
      });
      count(answers, status);
      if (Number(status) >= 400) refusals.add(`${status} ${String(answer.code)}`);
      else if (!loopbackNames.includes(host)) acceptedAddresses += 1;
      if (kind === 'POST' && status === 201 && !otherHosts.includes(host)) accepted.push(String(answer.id));
    }
  }
  const connected = accepted.slice(0, context.scale.connects);
  await Promise.all(
    connected.map(async (id) => {
      const { status, body } = await need(context, {
        url: `/accounts/${id}/connect`,
        method: 'POST',
        body: '{}',
      });
      if (Number(status) >= 400) {
        refusals.add(`${status} ${String(body.code)}`);
        return;
      }
      const reason = await firstReason(context, id);
      reasons.add(reason);
      await need(context, { url: `/accounts/${id}`, method: 'DELETE' });
    }),
  );
  listener.close();
  return {
    answers,
    counts: { kinds: hosts.length, acceptedAddresses, accountsConnected: connected.length, arrived },
    seen: { refusals: [...refusals].sort(), reasons: [...reasons].sort() },
  };
}

/** Why an account does not connect, as its owner sees it. @param {Context} context @param {string} id */
async function firstReason(context, id) {
  const giveUpAt = performance.now() + 90_000;
  while (performance.now() < giveUpAt) {
    const { body } = await need(context, { url: `/accounts/${id}`, method: 'GET' });
    if (['reconnecting', 'failed', 'disconnected'].includes(String(body.status)) && body.statusReason)
      return String(body.statusReason);
    await delay(100);
  }
  return 'none within 90 s';
}

/** A port that nothing listens on. @returns {Promise<number>} */
async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** @param {Context} context @param {AbortSignal} signal @returns {Promise<Outcome>} */
async function callSlowHosts(context, signal) {
  const { origins, scale, hostile, slowHost } = context;
  let called = 0;
  const server = createHttpServer(() => (called += 1));
  await new Promise((resolve) => server.listen(0, slowHost, () => resolve(undefined)));
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  const slowUrl = `http://${slowHost}:${port}`;
  /** @type {Answers} */
  const answers = {};
  /** @type {string[]} */
  const webhooks = [];
  for (let number = 0; number < scale.slow; number += 1) {
    const body = JSON.stringify({ url: `${slowUrl}/${number}`, events: ['*'] });
    const made = await need(context, { url: '/webhooks', method: 'POST', body });
    if (made.status === 201) webhooks.push(String(made.body.id));
  }
  const client = new Agent({ connections: 4 * scale.slow, pipelining: 1 });
  let number = 0;
  const send = async (/** @type {string} */ path, /** @type {object} */ body) => {
    const url = `${originOf(origins, (number += 1))}/api/v1${path}`;
    const { status } = await ask(client, signal, {
      url,
      method: 'POST',
      key: hostile.keys.owner,
      body: JSON.stringify(body),
    });
    count(answers, status);
    // Refused at once, it tries again a little later.
    if (Number(status) >= 400) await delay(20, undefined, { signal });
  };
  const message = { accountId: hostile.accountId, to };
  await Promise.all([
    repeat(scale.slow, signal, () =>
      send('/messages', {
        ...message,
        type: 'document',
        media: { url: `${slowUrl}/${number}.pdf`, mimetype: 'application/pdf' },
      }),
    ),
    repeat(scale.slow, signal, async () => {
      const id = webhooks[number % Math.max(1, webhooks.length)] ?? uuidv4();
      await send(`/webhooks/${id}/test`, {});
    }),
    repeat(2, signal, () => send('/messages', { ...message, text: 'an event for every webhook' })),
  ]);
  await client.destroy();
  server.closeAllConnections();
  server.close();
  return { answers, counts: { webhooks: webhooks.length, called } };
}

/** @param {Context} context @param {AbortSignal} signal @returns {Promise<Outcome>} */
async function tryForeignThings(context, signal) {
  const { origins, hostile, victim } = context;
  /** @type {Answers} */
  const answers = {};
  /** @type {string[]} */
  const allowed = [];
  if (victim.phone !== null) {
    const scanned = await scanWith(context, victim.phone);
    count(answers, scanned);
    if (Number(scanned) < 400) allowed.push("a scan with the victim's phone");
  }
  const things = new Map(victim.things);
  const client = new Agent({ connections, pipelining: 1 });
  for (const { method, path, body } of operations.filter((one) => one.path.includes('{'))) {
    for (const role of roles) {
      const filled = path.replace(/\{\w+\}/g, (_text, /** @type {number} */ index) =>
        encodeURIComponent(things.get(path.slice(0, index - 1)) ?? uuidv4()),
      );
      const { status } = await ask(client, undefined, {
        url: `${originOf(origins, 0)}${filled}`,
        method,
        key: hostile.keys[role],
        body: body ? '{}' : undefined,
      });
      count(answers, status);
      if (Number(status) < 400) allowed.push(`${method} ${path} as ${role}`);
    }
  }
  let number = 0;
  await repeat(2 * connections, signal, async () => {
    const url = `${originOf(origins, (number += 1))}/api/v1/messages/${uuidv4()}`;
    const { status } = await ask(client, signal, { url, method: 'GET', key: hostile.keys.viewer });
    count(answers, status);
  });
  await client.destroy();
  return { answers, counts: { foreign: allowed.length }, seen: { allowed } };
}

/** Shows a code of the hostile account to the victim's phone. @param {Context} context @param {string} phone */
async function scanWith(context, phone) {
  const body = JSON.stringify({ name: 'scan', environment: 'sandbox' });
  const { body: account } = await need(context, { url: '/accounts', method: 'POST', body });
  const id = String(account.id);
  await need(context, { url: `/accounts/${id}/connect`, method: 'POST', body: '{}' });
  const giveUpAt = performance.now() + 60_000;
  while ((await need(context, { url: `/accounts/${id}`, method: 'GET' })).body.status !== 'qr') {
    if (performance.now() > giveUpAt) throw new Error('the hostile account shows no code');
    await delay(100);
  }
  const scan = { url: `/accounts/${id}/sandbox-scan`, method: 'POST', body: JSON.stringify({ phone }) };
  const { status } = await need(context, scan);
  await need(context, { url: `/accounts/${id}`, method: 'DELETE' });
  return status;
}
