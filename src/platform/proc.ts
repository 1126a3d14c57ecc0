import { readFileSync, readlinkSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';

/** A process as Linux shows it in /proc. */
export interface ProcessStatus {
  pid: number;
  /** `Z` is a zombie: it has ended, and its parent has not asked how. */
  state: string;
  parent: number;
  group: number;
  /** In clock ticks since the machine started. */
  startedAt: number;
}

const pageBytes = 4_096;

/**
 * One process; null when it does not exist. Read at once, in some 20 µs: a file of /proc that needs no disk and no lock
 * costs more to wait for than to read.
 */
export function processStatus(pid: number): ProcessStatus | null {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    // It has ended.
    return null;
  }
  // After the name, which may hold anything: state is the 3rd field of proc(5), then come parent and group; start is the 22nd.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state = '', parent, group] = fields;
  return { pid, state, parent: Number(parent), group: Number(group), startedAt: Number(fields[19]) };
}

/** The ids of all processes that this one can see. */
export async function runningPids(): Promise<number[]> {
  return (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
}

/** All processes that this one can see. */
export async function runningProcesses(): Promise<ProcessStatus[]> {
  return (await runningPids()).map(processStatus).filter((status) => status !== null);
}

/** The arguments that a process was started with; empty when it has ended. */
export async function argumentsOf(pid: number): Promise<string[]> {
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return commandLine.split('\0');
}

/** The memory of a process in bytes, with 1/n of what it shares with n processes; 0 when it has ended. */
export async function proportionalSetSize(pid: number): Promise<number> {
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

/** How long the machine runs, in seconds: a clock that all its processes share. @throws Error without /proc */
export function uptime(): number {
  return Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
}

/** A name for this run of the machine. @throws Error without /proc */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** The number of the pid namespace of this process: pids are unique within it. @throws Error without /proc */
export function pidNamespace(): string {
  return /\[(\d+)\]/.exec(readlinkSync('/proc/self/ns/pid'))?.[1] ?? '';
}
