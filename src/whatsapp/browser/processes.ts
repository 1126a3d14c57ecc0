import { resolve } from 'node:path';
import { poll } from '../../platform/poll.js';
import {
  argumentsOf,
  type ProcessStatus,
  processStatus,
  proportionalSetSize,
  runningPids,
  runningProcesses,
} from '../../platform/proc.js';

const pauseMs = 20;

/**
 * The processes that were started with exactly this profile: a browser, and the shell script that Debian starts it from.
 * Their helpers are in the same process group: puppeteer makes each browser the leader of its own.
 */
export async function browsersOn(profileDir: string): Promise<ProcessStatus[]> {
  const argument = `--user-data-dir=${resolve(profileDir)}`;
  const found = await Promise.all(
    (await runningPids()).map(async (pid) =>
      (await argumentsOf(pid)).includes(argument) ? processStatus(pid) : null,
    ),
  );
  return found.filter((status) => status !== null);
}

/**
 * Kills all browsers of this profile and waits until they are gone.
 * @returns whether they were gone within `limitMs`
 */
export function endBrowsersOn(profileDir: string, limitMs: number): Promise<boolean> {
  const end = async () => {
    const browsers = await browsersOn(profileDir);
    for (const { pid, group } of browsers) {
      // The group includes the helpers. `kill` gives 0 and -1 other meanings.
      if (group > 1) kill(-group);
      kill(pid);
    }
    return browsers.length === 0;
  };
  return poll(end, { pauseMs, limitMs });
}

/** Waits until no browser runs with this profile. @returns whether that happened within `limitMs` */
export function browsersEnded(profileDir: string, limitMs: number): Promise<boolean> {
  return poll(async () => (await browsersOn(profileDir)).length === 0, { pauseMs, limitMs });
}

/** Waits until no process of a group is left. @returns whether that happened within `limitMs` */
export function groupEnded(group: number, limitMs: number): Promise<boolean> {
  const hasEnded = async () => {
    if (!isRunning(-group)) return true;
    // A helper without a waiting parent stays in its group as a zombie. It has ended.
    const members = (await runningProcesses()).filter((status) => status.group === group);
    return members.every(({ state }) => state === 'Z');
  };
  return poll(hasEnded, { pauseMs, limitMs });
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
