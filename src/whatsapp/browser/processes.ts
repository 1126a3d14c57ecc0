import { readFileSync } from 'node:fs';
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
 * The processes that were started with exactly this profile: a browser, and the shell script that Debian starts it from.
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
 * Kills all browsers of this profile and waits until they are gone.
 * @returns whether they were gone within `limitMs`
 */
export function endBrowsersOn(profileDir: string, limitMs: number): Promise<boolean> {
  return within(limitMs, async () => {
    const browsers = await browsersOn(profileDir);
    for (const { pid, group } of browsers) {
      // The group includes the helpers. `kill` gives 0 and -1 other meanings.
      if (group > 1) kill(-group);
      kill(pid);
    }
    return browsers.length === 0;
  });
}

/** Waits until no browser runs with this profile. @returns whether that happened within `limitMs` */
export function browsersEnded(profileDir: string, limitMs: number): Promise<boolean> {
  return within(limitMs, async () => (await browsersOn(profileDir)).length === 0);
}

/** Waits until no process of a group is left. @returns whether that happened within `limitMs` */
export function groupEnded(group: number, limitMs: number): Promise<boolean> {
  return within(limitMs, async () => {
    if (!isRunning(-group)) return true;
    // A helper without a waiting parent stays in its group as a zombie. It has ended.
    const members = (await runningProcesses()).filter((status) => status.group === group);
    return members.every(({ state }) => state === 'Z');
  });
}

/**
 * The memory of a browser in bytes: the proportional set size (memory shared by n processes counts 1/n in each) of the
 * process group `group` and of all its descendants.
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

async function runningProcesses(): Promise<ProcessStatus[]> {
  return (await runningPids()).map(statusOf).filter((status) => status !== null);
}

async function runningPids(): Promise<number[]> {
  return (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
}

/** Read at once, in some 20 µs: a file of /proc that needs no disk and no lock costs more to wait for than to read. */
function statusOf(pid: number): ProcessStatus | null {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    // It has ended.
    return null;
  }
  // After the name, which may hold anything: state, parent, process group.
  const [state = '', parent, group] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { pid, state, parent: Number(parent), group: Number(group) };
}

/** Asks again and again. @returns whether the answer was yes within `limitMs` */
async function within(limitMs: number, ask: () => Promise<boolean>): Promise<boolean> {
  const deadline = performance.now() + limitMs;
  while (!(await ask())) {
    if (performance.now() > deadline) return false;
    await delay(pollMs);
  }
  return true;
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
