import { readdir, readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** A process as Linux shows it in /proc. */
interface ProcessStatus {
  pid: number;
  /** `Z` is a zombie: it has ended, and its parent has not asked how. */
  state: string;
  parent: number;
  /** The process group; puppeteer makes each browser the leader of its own. */
  group: number;
}

const pollMs = 20;
const pageBytes = 4_096;

/**
 * The processes that were started with this very profile: a browser, and the shell script that Debian starts it from.
 * Their helpers are in the same process group.
 */
export async function browsersOn(profileDir: string): Promise<ProcessStatus[]> {
  const argument = `--user-data-dir=${resolve(profileDir)}`;
  const found = await Promise.all(
    (await runningPids()).map(async (pid) => {
      const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      return commandLine.split('\0').includes(argument) ? statusOf(pid) : null;
    }),
  );
  return found.filter((status) => status !== null);
}

/**
 * Kills whatever runs with this profile and waits until it is gone.
 * @returns whether it is, within `limitMs`
 */
export async function endBrowsersOn(profileDir: string, limitMs: number): Promise<boolean> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    const browsers = await browsersOn(profileDir);
    if (browsers.length === 0) return true;
    for (const { pid, group } of browsers) {
      killGroup(group);
      kill(pid);
    }
    if (performance.now() > deadline) return false;
    await delay(pollMs);
  }
}

/** Kills a browser, by the id of its process group, with all of its helpers. */
export function killGroup(group: number): void {
  if (group > 1) kill(-group);
}

/** Waits until no process of a group is left. @returns whether that came within `limitMs` */
export async function groupEnded(group: number, limitMs: number): Promise<boolean> {
  const deadline = performance.now() + limitMs;
  // A helper that nobody waits for stays in its group as a zombie: it runs no more.
  while (isRunning(-group) && (await membersOf(group)).some(({ state }) => state !== 'Z')) {
    if (performance.now() > deadline) return false;
    await delay(pollMs);
  }
  return true;
}

/**
 * The memory of a browser in bytes: the proportional set size (memory shared by n processes counts 1/n in each) of the
 * process group `group` and of everything that descends from it.
 */
export async function memoryOf(group: number): Promise<number> {
  const running = await runningProcesses();
  const members = new Set(running.filter((status) => status.group === group).map(({ pid }) => pid));
  for (let size = -1; size !== members.size;) {
    size = members.size;
    for (const { pid, parent } of running) if (members.has(parent)) members.add(pid);
  }
  const sizes = await Promise.all([...members].map(proportionalSetSize));
  return sizes.reduce((sum, size) => sum + size, 0);
}

async function proportionalSetSize(pid: number): Promise<number> {
  try {
    const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
    return Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1_024;
  } catch {
    // Chromium's sandbox hides its renderers from other processes of the same user: what they do not share is close.
    const statm = await readFile(`/proc/${pid}/statm`, 'utf8').catch(() => '0 0 0');
    const [, resident = 0, shared = 0] = statm.split(' ').map(Number);
    return (resident - shared) * pageBytes;
  }
}

async function membersOf(group: number): Promise<ProcessStatus[]> {
  return (await runningProcesses()).filter((status) => status.group === group);
}

async function runningProcesses(): Promise<ProcessStatus[]> {
  const all = await Promise.all((await runningPids()).map(statusOf));
  return all.filter((status) => status !== null);
}

async function runningPids(): Promise<number[]> {
  return (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
}

async function statusOf(pid: number): Promise<ProcessStatus | null> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  // After the name, which may hold anything: state, parent, process group.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields ? { pid, state: fields[0]!, parent: Number(fields[1]), group: Number(fields[2]) } : null;
}

function kill(target: number): void {
  try {
    process.kill(target, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function isRunning(target: number): boolean {
  try {
    process.kill(target, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
