/** What benchmarks share: a running Flotilla with linked accounts, bare whatsapp-web.js clients, and their memory. */
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Agent, request } from 'undici';
import whatsapp from 'whatsapp-web.js';
import { createStack } from '../setup/stack.mjs';

const agent = new Agent({ connections: 32, pipelining: 1 });

/** @param {() => Promise<any>} probe @param {string} what */
export async function eventually(what, probe, timeoutMs = 120_000, everyMs = 20) {
  const deadline = Date.now() + timeoutMs;
  while (Date.now() < deadline) {
    const value = await probe();
    if (value) return value;
    await delay(everyMs);
  }
  throw new Error(`${what}: not within ${timeoutMs} ms`);
}

/**
 * Calls a JSON API.
 * @param {string} method @param {string} url @param {any} [body] @param {string} [key]
 * @param {Record<string, string>} [headers]
 * @param {number} [timeoutMs] how long the whole answer may take; a few minutes without it
 * @returns {Promise<{ status: number, body: any }>}
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
  return { status: response.statusCode, body: text ? JSON.parse(text) : undefined };
}

/**
 * Starts the system of `npm start` and links accounts.
 * @param {{ accounts: number, instances?: number, workers?: number, env?: Record<string, string>, instanceId?: string }} options
 *   `instanceId`: the instance that all accounts are to be on
 */
export async function startFleet({ accounts, instances = 4, workers = 1, env = {}, instanceId }) {
  // A PostgreSQL of its own, so that its processor time is counted with the rest.
  const stack = await createStack({ instances, workers, postgres: 'own', env });
  await stack.start();
  const api = `${stack.urls.api}/api/v1`;
  const { body: workspace } = await call(
    'POST',
    `${api}/workspaces`,
    { name: 'bench' },
    stack.env.ADMIN_API_KEY,
  );
  const { body: made } = await call(
    'POST',
    `${api}/workspaces/${workspace.id}/api-keys`,
    { name: 'bench', role: 'owner' },
    stack.env.ADMIN_API_KEY,
  );
  const key = made.key;
  /** @type {{ id: string }[]} */
  const linked = [];
  for (let number = 0; number < accounts; number += 1) {
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
    );
    linked.push(
      await eventually('ready', async () => {
        const { body } = await call('GET', `${api}/accounts/${account.id}`, undefined, key);
        return body.status === 'ready' && body;
      }),
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
  const { spki, port } = (await call('GET', `${sandboxUrl}/certificate`)).body;
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
 * Links whatsapp-web.js clients of their own to the sandbox, in this process: what a user of the bare library has.
 * @param {{ sandboxUrl: string, count: number, puppeteer: import('puppeteer').LaunchOptions }} options
 */
export async function startBareClients({ sandboxUrl, count, puppeteer }) {
  const folder = mkdtempSync(join(tmpdir(), 'flotilla-bench-'));
  /** @type {import('whatsapp-web.js').Client[]} */
  const clients = [];
  for (let number = 0; number < count; number += 1) {
    const options = await bareOptions({ sandboxUrl, profile: join(folder, String(number)), puppeteer });
    const client = new whatsapp.Client(options);
    const ready = new Promise((resolve) => client.once('ready', resolve));
    client.once('qr', async (qr) => {
      const { phone } = (await call('POST', `${sandboxUrl}/phones`, {})).body;
      await call('POST', `${sandboxUrl}/phones/${phone}/scan`, { qr });
    });
    await client.initialize();
    await ready;
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

/** The browser processes whose profile lies in a folder, their helpers included. @param {string} folder */
export function browsersIn(folder) {
  const processes = readProcesses();
  const isOurs = (pid) => {
    for (let at = pid; at > 1; at = processes.get(at)?.parent ?? 0) {
      if (processes.get(at)?.commandLine.includes(`--user-data-dir=${folder}`)) return true;
    }
    return false;
  };
  return [...processes.keys()].filter(isOurs);
}

/**
 * The proportional set size of all browser processes whose profile lies in a folder.
 * @param {string} folder
 * @returns {{ bytes: number, processes: number }}
 */
export function browserMemory(folder) {
  const pids = browsersIn(folder);
  const bytes = pids.reduce((sum, pid) => {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
    return sum + Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1]) * 1024;
  }, 0);
  return { bytes, processes: pids.length };
}

/**
 * The processor time that the parts of a run have used so far, in milliseconds: the programs of a stack, its databases,
 * the browsers below two folders, and this process with its load generator.
 * @param {import('../setup/stack.mjs').Stack} stack
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
  const partOf = (pid) => {
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
    if (!part) continue;
    try {
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
      // utime and stime, its own and those of its children that have ended (PostgreSQL has a process for each connection),
      // in clock ticks of 10 ms.
      const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
      times[part] = (times[part] ?? 0) + ticks * 10;
    } catch {
      // The process ended while we looked.
    }
  }
  return times;
}

/** The processes that a process started, with those that they started. @param {number} ancestor */
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
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const commandLine = readFileSync(`/proc/${name}/cmdline`, 'utf8');
      const parent = Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${name}/status`, 'utf8'))?.[1]);
      processes.set(Number(name), { parent, commandLine });
    } catch {
      // The process ended while we looked.
    }
  }
  return processes;
}

/** @param {number[]} values */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.ceil((sorted.length - 1) / 2)]) / 2;
}
