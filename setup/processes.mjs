/**
 * Runs commands, and reads running processes from /proc.
 */
import { spawn } from 'node:child_process';
import {
  accessSync,
  constants,
  createWriteStream,
  readFileSync,
  readdirSync,
  readlinkSync,
  statSync,
} from 'node:fs';
import { delimiter, join } from 'node:path';
import { SetupError } from './console.mjs';

/** The running commands of `tryRun`. @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set();

/** Ends the running commands; used on Ctrl-C. */
export async function endRunningCommands() {
  for (const child of running) child.kill('SIGTERM');
  await waitFor(() => running.size === 0, { timeoutMs: 30_000 });
}

/**
 * @typedef {object} RunOptions
 * @property {string} [cwd]
 * @property {NodeJS.ProcessEnv} [env]
 * @property {string} [input] given to the command's standard input
 * @property {string} [log] file that the output is appended to
 * @property {number} [uid]
 * @property {number} [gid]
 * @property {number} [timeout] milliseconds after which the command is ended
 * @property {(line: string) => void} [onLine] called for each line of output
 */

/**
 * Runs a command and returns its exit code and the last 256 kB of its output.
 *
 * @param {readonly string[]} command
 * @param {RunOptions} [options]
 * @returns {Promise<{ code: number, output: string, stdout: string }>}
 */
export function tryRun([program = '', ...args], { input, log, onLine, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      ...options,
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    });
    running.add(child);
    const file = log ? createWriteStream(log, { flags: 'a', mode: 0o600 }).on('error', () => {}) : undefined;
    file?.write(`\n$ ${program} ${args.join(' ')}\n`);
    let output = '';
    let stdout = '';
    const take = (/** @type {string} */ text) => {
      output = (output + text).slice(-262_144);
      file?.write(text);
      if (onLine) for (const line of text.split('\n')) if (line.trim()) onLine(line.trim());
    };
    child.stdout?.setEncoding('utf8').on('data', (/** @type {string} */ text) => {
      stdout = (stdout + text).slice(-262_144);
      take(text);
    });
    child.stderr?.setEncoding('utf8').on('data', take);
    child.stdin?.on('error', () => {}).end(input);
    child.once('error', (error) => {
      running.delete(child);
      file?.end();
      reject(error);
    });
    child.once('close', (code, signal) => {
      running.delete(child);
      file?.end();
      resolve({ code: code ?? 128 + (signal === 'SIGINT' ? 2 : 15), output, stdout });
    });
  });
}

/**
 * Like `tryRun`, but throws an error with the last lines of output when the command fails.
 *
 * @param {readonly string[]} command
 * @param {RunOptions & { failure: string }} options
 * @returns {Promise<string>} its standard output
 */
export async function run(command, { failure, ...options }) {
  const { code, output, stdout } = await tryRun(command, options);
  if (code !== 0) {
    if (/ENOSPC|no space left on device/i.test(output)) {
      throw Object.assign(new Error(failure), { code: 'ENOSPC', path: options.cwd });
    }
    throw new SetupError(failure, { detail: output.trimEnd().split('\n').slice(-20).join('\n') });
  }
  return stdout;
}

/**
 * Finds the first of these programs on the PATH or in the `extra` directories.
 *
 * @param {readonly string[]} names
 * @param {readonly string[]} [extra]
 * @returns {string | undefined} its full path
 */
export function which(names, extra = []) {
  const directories = [
    ...(process.env.PATH ?? '').split(delimiter),
    '/usr/local/bin',
    '/usr/bin',
    '/usr/sbin',
    ...extra,
  ];
  for (const name of names) {
    for (const directory of directories) {
      if (directory && isExecutable(join(directory, name))) return join(directory, name);
    }
  }
  return undefined;
}

/** @param {string} path */
export function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** @param {number} ms @returns {Promise<void>} */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Polls until `condition` returns something truthy.
 *
 * @template T
 * @param {() => T | Promise<T>} condition
 * @param {{ timeoutMs: number, everyMs?: number }} options
 * @returns {Promise<T | undefined>} undefined when the time is over
 */
export async function waitFor(condition, { timeoutMs, everyMs = 100 }) {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() >= deadline) return undefined;
    await sleep(everyMs);
  }
}

/**
 * A file of a process in /proc.
 *
 * @param {number} pid
 * @param {string} file
 * @returns {string} empty when the process has ended or belongs to another user
 */
function readProc(pid, file) {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}

/**
 * The fields of /proc/PID/stat after the process name: the state is number 0, see proc(5).
 *
 * @param {number} pid
 */
function statOf(pid) {
  const stat = readProc(pid, 'stat');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

/** @param {number} pid */
export function isAlive(pid) {
  const [state] = statOf(pid);
  return state !== '' && state !== 'Z';
}

/**
 * The start time of a process in clock ticks since the boot. Pid and start time together identify a process.
 *
 * @param {number} pid
 * @returns {string | undefined} undefined when there is no such process
 */
export const processStart = (pid) => statOf(pid)[19];

/** @param {number} pid */
export const processName = (pid) => readProc(pid, 'comm').trim() || 'unknown';

/** @param {number} pid */
export const commandLine = (pid) => readProc(pid, 'cmdline').split('\0').filter(Boolean);

/** @param {number} pid @returns {number} 0 when the process has ended */
export const parentOf = (pid) => Number(statOf(pid)[1] ?? 0);

/**
 * The processor time that a process and its ended children have used, in milliseconds.
 *
 * @param {number} pid
 */
export function cpuTimeOf(pid) {
  // utime, stime, cutime and cstime, in clock ticks of 10 ms.
  return statOf(pid)
    .slice(11, 15)
    .reduce((sum, ticks) => sum + Number(ticks) * 10, 0);
}

/** The resident memory of a process, in bytes. @param {number} pid */
export const memoryOf = (pid) => kilobytes(readProc(pid, 'status'), 'VmRSS');

/**
 * The memory of a process in bytes. `pss` is its proportional set size: memory shared by n processes counts 1/n in each. `own` leaves
 * out the pages of files, which all browsers of a machine share.
 * @param {number} pid
 */
export function proportionalMemoryOf(pid) {
  const text = readProc(pid, 'smaps_rollup');
  return {
    pss: kilobytes(text, 'Pss'),
    own: kilobytes(text, 'Pss_Anon') + kilobytes(text, 'Pss_Shmem'),
  };
}

/** @param {string} text @param {string} field */
const kilobytes = (text, field) =>
  Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * 1024;

/** @param {number} pid */
function workingDirectory(pid) {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return undefined;
  }
}

export const allPids = () =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);

/**
 * The processes with this environment variable and value. Descendants inherit it.
 *
 * @param {string} name
 * @param {string} value
 */
export function pidsWithEnvironment(name, value) {
  return allPids().filter(
    (pid) =>
      pid !== process.pid &&
      readProc(pid, 'environ').split('\0').includes(`${name}=${value}`) &&
      isAlive(pid),
  );
}

/**
 * The processes with this working directory. Servers work in their data directory.
 *
 * @param {string} directory
 */
export const pidsWorkingIn = (directory) =>
  allPids().filter((pid) => pid !== process.pid && workingDirectory(pid) === directory && isAlive(pid));

/**
 * The process that listens on a TCP port of this machine.
 *
 * @param {number} port
 * @returns {number | undefined} its pid; undefined without such a process, or when it belongs to another user
 */
export function pidListeningOn(port) {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  const sockets = new Set();
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    let lines;
    try {
      lines = readFileSync(table, 'utf8').split('\n').slice(1);
    } catch {
      continue;
    }
    for (const line of lines) {
      const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
      if (state === '0A' && local?.endsWith(`:${hex}`)) sockets.add(`socket:[${inode}]`);
    }
  }
  if (sockets.size === 0) return undefined;
  return allPids().find((pid) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).some((fd) => {
        try {
          return sockets.has(readlinkSync(`/proc/${pid}/fd/${fd}`));
        } catch {
          return false;
        }
      });
    } catch {
      return false;
    }
  });
}

/**
 * Sends a signal. Does nothing when the process has ended.
 *
 * @param {number} pid
 * @param {NodeJS.Signals} signal
 */
export function signal(pid, signal) {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}

/**
 * Ends processes with TERM (or `first`), and with KILL when they still run after `graceMs`.
 *
 * @param {readonly number[]} pids
 * @param {{ first?: NodeJS.Signals, graceMs?: number }} [options]
 */
export async function endProcesses(pids, { first = 'SIGTERM', graceMs = 5000 } = {}) {
  for (const pid of pids) signal(pid, first);
  await waitFor(() => !pids.some(isAlive), { timeoutMs: graceMs });
  for (const pid of pids.filter(isAlive)) signal(pid, 'SIGKILL');
  await waitFor(() => !pids.some(isAlive), { timeoutMs: 5000 });
}

/**
 * Wraps a command with setpriv of util-linux, so that the kernel sends TERM to it when this process dies. Returns the command
 * unchanged where setpriv cannot do that.
 *
 * @param {readonly string[]} command
 */
export async function tiedToThisProcess(command) {
  const setpriv = '/usr/bin/setpriv';
  const tie = [setpriv, '--pdeathsig', 'TERM'];
  const works = isExecutable(setpriv) && (await tryRun([...tie, 'true'])).code === 0;
  return works ? [...tie, ...command] : command;
}
