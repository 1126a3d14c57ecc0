/**
 * Checks that TCP ports are free, and says who uses them.
 */
import { createServer } from 'node:net';
import { SetupError } from './console.mjs';
import { pidListeningOn, processName, waitFor } from './processes.mjs';

/** @typedef {{ name: string, setting: string, host: string, port: number }} PortUse */

/**
 * Every port that the programs of these settings will listen on.
 *
 * @param {import('./settings.mjs').Settings} settings
 * @param {{ programs?: boolean }} [options]
 * @returns {PortUse[]}
 */
export function portsOf(settings, { programs = true } = {}) {
  const loopback = '127.0.0.1';
  /** @type {PortUse[]} */
  const uses = [];
  const runs = (/** @type {string} */ name) => programs && settings.programs.includes(name);
  if (runs('api')) uses.push({ name: 'API', setting: 'PORT', host: settings.host, port: settings.port });
  if (runs('instance')) {
    for (let n = 0; n < settings.instances; n++) {
      uses.push({
        name: `instance ${n}`,
        setting: 'INSTANCE_BASE_PORT',
        host: loopback,
        port: settings.instanceBasePort + n,
      });
    }
  }
  if (runs('sandbox')) {
    uses.push({ name: 'sandbox', setting: 'SANDBOX_PORT', host: loopback, port: settings.sandboxPort });
    uses.push({
      name: 'sandbox control',
      setting: 'SANDBOX_CONTROL_PORT',
      host: loopback,
      port: settings.sandboxControlPort,
    });
  }
  if (!settings.databaseUrl) {
    uses.push({
      name: 'embedded PostgreSQL',
      setting: 'EMBEDDED_POSTGRES_PORT',
      host: loopback,
      port: settings.embeddedPostgresPort,
    });
  }
  if (!settings.redisUrl) {
    uses.push({
      name: 'embedded Redis',
      setting: 'EMBEDDED_REDIS_PORT',
      host: loopback,
      port: settings.embeddedRedisPort,
    });
  }
  return uses;
}

/**
 * Fails with one sentence when a port is taken or named twice.
 *
 * @param {readonly PortUse[]} uses
 */
export async function checkPorts(uses) {
  /** @type {Map<number, PortUse>} */
  const seen = new Map();
  for (const use of uses) {
    const other = seen.get(use.port);
    if (other) {
      throw new SetupError(
        `Port ${use.port} is set for both the ${other.name} and the ${use.name}. Change ${other.setting} or ${use.setting} in .env.`,
      );
    }
    seen.set(use.port, use);
  }
  for (const use of uses) {
    const problem = await tryListen(use);
    if (problem) throw new SetupError(problem);
  }
}

/**
 * @param {PortUse} use
 * @returns {Promise<string | undefined>} what is wrong with the port
 */
async function tryListen({ name, setting, host, port }) {
  /** @type {string | undefined} */
  let code;
  // A port without a visible owner: the threads of a killed process need a moment to end.
  await waitFor(
    async () => {
      code = await listenError(host, port);
      return code !== 'EADDRINUSE' || pidListeningOn(port) !== undefined;
    },
    { timeoutMs: 2_000 },
  );
  if (!code) return undefined;
  if (code === 'EADDRINUSE') {
    const pid = pidListeningOn(port);
    const who = pid ? `pid ${pid} (${processName(pid)})` : "another user's process";
    return `Port ${port} (${name}) is in use by ${who}. Stop it or set ${setting} in .env.`;
  }
  if (code === 'EACCES')
    return `Port ${port} (${name}) needs root. Set ${setting} in .env to a port above 1023.`;
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
    return `This machine has no address ${host}. Correct HOST in .env.`;
  return `Port ${port} (${name}) cannot be used (${code}). Set ${setting} in .env to another one.`;
}

/**
 * @param {string} host
 * @param {number} port
 * @returns {Promise<string | undefined>} the error code, undefined when the port is free
 */
function listenError(host, port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (/** @type {NodeJS.ErrnoException} */ error) =>
      resolve(error.code ?? error.message),
    );
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}

/**
 * The first free port on 127.0.0.1 from `first` on.
 *
 * @param {number} first
 */
export async function firstFreePort(first) {
  for (let port = first; port < first + 100; port++) {
    if (!(await listenError('127.0.0.1', port))) return port;
  }
  throw new SetupError(
    `All ports from ${first} to ${first + 99} are in use. Stop some programs and try again.`,
  );
}

/** The ports that this process has handed out. @type {Set<number>} */
const handedOut = new Set();

/**
 * Finds `count` free consecutive ports, below the range of outgoing connections.
 *
 * @param {number} [count]
 * @returns {Promise<number>} the first of them
 */
export async function findFreePorts(count = 1) {
  for (let attempt = 0; attempt < 200; attempt++) {
    const first = 15_000 + Math.floor(Math.random() * (17_000 - count));
    const ports = Array.from({ length: count }, (_, n) => first + n);
    if (ports.some((port) => handedOut.has(port))) continue;
    const errors = await Promise.all(ports.map((port) => listenError('127.0.0.1', port)));
    if (errors.some(Boolean)) continue;
    for (const port of ports) handedOut.add(port);
    return first;
  }
  throw new SetupError(
    `No ${count} free consecutive ports between 15000 and 32000 on 127.0.0.1. Stop some programs and try again.`,
  );
}
