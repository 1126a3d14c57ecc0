/** What the benchmarks share: a running Flotilla with linked accounts, bare whatsapp-web.js clients, and their memory. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Agent, request } from 'undici';
import whatsapp from 'whatsapp-web.js';
import { parseJson } from '../setup/json.mjs';
import {
  allPids,
  commandLine,
  cpuTimeOf,
  parentOf,
  proportionalMemoryOf,
  waitFor,
} from '../setup/processes.mjs';
import { createStack } from '../setup/stack.mjs';

/** @typedef {import('../clients/typescript/src/types.js').Account} Account */
/** @typedef {import('../clients/typescript/src/types.js').Schemas} Schemas */
/** @typedef {import('../setup/stack.mjs').Stack} Stack */
/** @typedef {Awaited<ReturnType<typeof startFleet>>} Fleet */

/** A line of a benchmark's table. @typedef {{ what: string, value: string, target?: string }} Row */

/** What the sandbox counts. @typedef {{ accepted: number, duplicates: number, conflicts: number, maxInFlight: number }} SandboxStats */

/** A line of the sandbox's ledger. @typedef {{ seq: number, at: string, from: string, to: string, text: string, duplicate: boolean }} LedgerLine */

/** For workspaces of benchmarks: they measure Flotilla, not its limits. */
export const noLimits = { maxAccounts: null, messagesPerMinute: null, maxStorageBytes: null };

/** A browser needs seconds to start: looking every 20 ms would cost the API as much as the start costs the instance. */
const linkMs = 120_000;
const linkLookMs = 100;

const agent = new Agent({ connections: 32, pipelining: 1 });

/**
 * Polls until `probe` returns something truthy.
 *
 * @template Value
 * @param {string} what named in the error
 * @param {() => Value | Promise<Value>} probe
 * @returns {Promise<NonNullable<Exclude<Value, false | '' | 0>>>}
 */
export async function eventually(what, probe, timeoutMs = 120_000, everyMs = 20) {
  const value = await waitFor(probe, { timeoutMs, everyMs });
  if (!value) throw new Error(`${what}: not within ${timeoutMs} ms`);
  return /** @type {NonNullable<Exclude<Value, false | '' | 0>>} */ (value);
}

/**
 * Calls a JSON API. The caller says what it expects as body.
 *
 * @template [Body=unknown]
 * @param {string} method
 * @param {string} url
 * @param {object} [body]
 * @param {string} [key]
 * @param {Record<string, string>} [headers]
 * @param {number} [timeoutMs] how long the whole answer may take; a few minutes by default
 * @returns {Promise<{ status: number, body: Body }>}
 */
export async function call(method, url, body, key, headers = {}, timeoutMs) {
  const response = await request(url, {
    method,
    dispatcher: agent,
    signal: timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs),
    headers: {
      'content-type': 'application/json',
      ...(key ? { authorization: `Bearer ${key}` } : {}),
      ...headers,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.body.text();
  return { status: response.statusCode, body: /** @type {Body} */ (text ? parseJson(text) : undefined) };
}

/** A new phone in the sandbox. @param {string} sandboxUrl @returns its number */
export async function newPhone(sandboxUrl) {
  /** @type {{ body: { phone: string } }} */
  const { body } = await call('POST', `${sandboxUrl}/phones`, {});
  return body.phone;
}

/** @param {string} sandboxUrl @returns {Promise<SandboxStats>} */
export async function sandboxStats(sandboxUrl) {
  /** @type {{ status: number, body: SandboxStats }} */
  const { status, body } = await call('GET', `${sandboxUrl}/stats`, undefined, undefined, {}, 10_000);
  if (status !== 200) throw new Error(`the sandbox answered ${status}`);
  return body;
}

/** What the sandbox accepted, in order. @param {string} sandboxUrl @param {number} [since] the number of a line */
export async function readLedger(sandboxUrl, since = 0) {
  const response = await fetch(`${sandboxUrl}/ledger?since=${since}`);
  const lines = (await response.text()).split('\n').filter(Boolean);
  return lines.map((line) => /** @type {LedgerLine} */ (parseJson(line)));
}

/** The configuration of a stack. @param {Stack} stack @returns {Promise<import('#dist/src/platform/config/config.js').Config>} */
export async function configOf(stack) {
  const { stdout } = await stack.cli('config:show', '--json');
  return /** @type {import('#dist/src/platform/config/config.js').Config} */ (parseJson(stdout));
}

/**
 * Starts the same system as `npm start` and links accounts.
 * @param {{ accounts: number, instances?: number, workers?: number, env?: Record<string, string>, instanceId?: string }} options
 *   `instanceId`: the instance that gets all accounts
 */
export async function startFleet({ accounts, instances = 4, workers = 1, env = {}, instanceId }) {
  // A PostgreSQL of its own, so that its processor time is counted with the rest.
  const stack = await createStack({ instances, workers, postgres: 'own', env });
  await stack.start();
  // The bare library, which benchmarks compare with, works on builds up to june only.
  await call('PUT', `${stack.urls.sandbox}/build`, { version: 'june' });
  const api = `${stack.urls.api}/api/v1`;
  /** @type {{ body: Schemas['WorkspaceResponse'] }} */
  const { body: workspace } = await call(
    'POST',
    `${api}/workspaces`,
    { name: 'bench', limits: noLimits },
    stack.env.ADMIN_API_KEY,
  );
  /** @type {{ body: { key: string } }} */
  const { body: made } = await call(
    'POST',
    `${api}/workspaces/${workspace.id}/api-keys`,
    { name: 'bench', role: 'owner' },
    stack.env.ADMIN_API_KEY,
  );
  const key = made.key;
  /** @type {Account[]} */
  const linked = [];
  for (let number = 0; number < accounts; number += 1) {
    /** @type {{ body: Account }} */
    const { body: account } = await call(
      'POST',
      `${api}/accounts`,
      { name: `bench ${number}`, environment: 'sandbox', ...(instanceId ? { instanceId } : {}) },
      key,
    );
    await call('POST', `${api}/accounts/${account.id}/connect`, {}, key);
    await eventually(
      'scanned',
      async () => (await call('POST', `${api}/accounts/${account.id}/sandbox-scan`, {}, key)).status === 200,
      linkMs,
      linkLookMs,
    );
    linked.push(
      await eventually(
        'ready',
        async () => {
          /** @type {{ body: Account }} */
          const { body } = await call('GET', `${api}/accounts/${account.id}`, undefined, key);
          return body.status === 'ready' && body;
        },
        linkMs,
        linkLookMs,
      ),
    );
  }
  return { stack, api, key, accounts: linked };
}

/**
 * The options of a whatsapp-web.js client as a user of the bare library makes it, on the sandbox.
 * @param {{ sandboxUrl: string, profile: string, puppeteer: import('puppeteer').LaunchOptions }} options
 * @returns {Promise<import('whatsapp-web.js').ClientOptions>}
 */
export async function bareOptions({ sandboxUrl, profile, puppeteer }) {
  /** @type {{ body: { spki: string, port: number } }} */
  const { body: certificate } = await call('GET', `${sandboxUrl}/certificate`);
  const { spki, port } = certificate;
  return {
    webVersionCache: { type: 'none' },
    puppeteer: {
      ...puppeteer,
      userDataDir: profile,
      args: [
        ...(puppeteer.args ?? []),
        `--host-resolver-rules=MAP web.whatsapp.com:443 127.0.0.1:${port}`,
        `--ignore-certificate-errors-spki-list=${spki}`,
      ],
    },
  };
}

/**
 * Links whatsapp-web.js clients in this process to the sandbox, as a user of the bare library does.
 * @param {{ sandboxUrl: string, count: number, puppeteer: import('puppeteer').LaunchOptions }} options
 */
export async function startBareClients({ sandboxUrl, count, puppeteer }) {
  const folder = mkdtempSync(join(tmpdir(), 'flotilla-bench-'));
  /** @type {import('whatsapp-web.js').Client[]} */
  const clients = [];
  for (let number = 0; number < count; number += 1) {
    const options = await bareOptions({ sandboxUrl, profile: join(folder, String(number)), puppeteer });
    const client = new whatsapp.Client(options);
    const ready = new Promise((resolve) => client.once('ready', () => resolve(undefined)));
    /** @type {Promise<string>} */
    const shown = new Promise((resolve) => client.once('qr', (/** @type {string} */ qr) => resolve(qr)));
    await Promise.all([client.initialize(), shown.then((qr) => scan(sandboxUrl, qr)), ready]);
    clients.push(client);
  }
  return {
    clients,
    folder,
    async stop() {
      await Promise.all(clients.map((client) => client.destroy()));
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** Scans a QR code with a new phone of the sandbox. @param {string} sandboxUrl @param {string} qr */
async function scan(sandboxUrl, qr) {
  const phone = await newPhone(sandboxUrl);
  await call('POST', `${sandboxUrl}/phones/${phone}/scan`, { qr });
}

/** The browser processes with a profile in a folder, with their helpers. @param {string} folder */
export function browsersIn(folder) {
  const processes = readProcesses();
  const isOurs = (/** @type {number} */ pid) => {
    for (let at = pid; at > 1; at = processes.get(at)?.parent ?? 0) {
      if (processes.get(at)?.commandLine.includes(`--user-data-dir=${folder}`)) return true;
    }
    return false;
  };
  return [...processes.keys()].filter(isOurs);
}

/**
 * The memory of all browser processes with a profile in a folder, in bytes: their proportional set size, and the part of it
 * that they share with no other browser.
 * @param {string} folder
 * @returns {{ bytes: number, own: number, processes: number }}
 */
export function browserMemory(folder) {
  const pids = browsersIn(folder);
  const memory = pids.map(proportionalMemoryOf);
  return {
    bytes: memory.reduce((sum, { pss }) => sum + pss, 0),
    own: memory.reduce((sum, { own }) => sum + own, 0),
    processes: pids.length,
  };
}

/**
 * The processor time that the parts of a run have used so far, in milliseconds: the programs of a stack, its databases,
 * the browsers below two folders, and this process with its load generator.
 * @param {Stack} stack
 * @param {string} [bareFolder]
 * @returns {Promise<Record<string, number>>}
 */
export async function cpuTimes(stack, bareFolder) {
  const programs = new Map(
    [...(await stack.status())].map(([name, { pid }]) => [
      pid,
      name.replace(/^.*:/, '').replace(/_\d+$/, ''),
    ]),
  );
  programs.set(process.pid, 'bench client');
  const processes = readProcesses();
  const partOf = (/** @type {number} */ pid) => {
    for (let at = pid; at > 1; at = processes.get(at)?.parent ?? 0) {
      const commandLine = processes.get(at)?.commandLine ?? '';
      if (bareFolder && commandLine.includes(`--user-data-dir=${bareFolder}`)) return 'bare browsers';
      if (commandLine.includes(`--user-data-dir=${join(stack.varDir, 'sessions')}`)) return 'browsers';
      const program = programs.get(at);
      if (program) return program;
    }
    return null;
  };
  /** @type {Record<string, number>} */
  const times = {};
  for (const pid of processes.keys()) {
    const part = partOf(pid);
    if (part) times[part] = (times[part] ?? 0) + cpuTimeOf(pid);
  }
  return times;
}

/** All descendants of a process. @param {number} ancestor */
export function descendantsOf(ancestor) {
  const processes = readProcesses();
  return [...processes.keys()].filter((pid) => {
    for (let at = processes.get(pid)?.parent ?? 0; at > 1; at = processes.get(at)?.parent ?? 0) {
      if (at === ancestor) return true;
    }
    return false;
  });
}

/** The main processes of the browsers that these processes started. @param {number[]} instances */
export function browsersBelow(instances) {
  const processes = readProcesses();
  return [...processes].flatMap(([pid, { parent, commandLine }]) =>
    instances.includes(parent) && commandLine.includes('--user-data-dir=') ? [pid] : [],
  );
}

function readProcesses() {
  /** @type {Map<number, { parent: number, commandLine: string }>} */
  const processes = new Map();
  for (const pid of allPids()) {
    processes.set(pid, { parent: parentOf(pid), commandLine: commandLine(pid).join(' ') });
  }
  return processes;
}
