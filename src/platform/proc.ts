import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { endianness } from 'node:os';

/** A process in Linux's /proc. */
export interface ProcessStatus {
  pid: number;
  /** `Z` is a zombie: the process has ended, but its parent has not read its exit status. */
  state: string;
  parent: number;
  group: number;
  /** In clock ticks since the machine started. */
  startedAt: number;
}

const pageBytes = 4_096;

/**
 * One process. Null if it does not exist. The read is synchronous and takes about 20 µs: a file of /proc needs no disk and no
 * lock, so an asynchronous read would cost more.
 */
export function processStatus(pid: number): ProcessStatus | null {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    // The process has ended.
    return null;
  }
  // The name may contain any character, so parsing starts after its last bracket. In proc(5), state is field 3, parent 4, group 5, start 22.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state = '', parent, group] = fields;
  return { pid, state, parent: Number(parent), group: Number(group), startedAt: Number(fields[19]) };
}

/** The ids of all visible processes. */
export async function runningPids(): Promise<number[]> {
  return (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
}

/** All visible processes. */
export async function runningProcesses(): Promise<ProcessStatus[]> {
  return (await runningPids()).map(processStatus).filter((status) => status !== null);
}

/** The command line of a process. A list with one empty text if the process has ended. */
export async function argumentsOf(pid: number): Promise<string[]> {
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return commandLine.split('\0');
}

/** The memory of a process in bytes. Memory shared by n processes counts as 1/n. 0 if the process has ended. */
export async function proportionalSetSize(pid: number): Promise<number> {
  try {
    const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
    return Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1_024;
  } catch {
    // Chromium's sandbox hides its renderers from other processes of the same user. Their unshared memory is a close estimate.
    const statm = await readFile(`/proc/${pid}/statm`, 'utf8').catch(() => '0 0 0');
    const [, resident = 0, shared = 0] = statm.split(' ').map(Number);
    return (resident - shared) * pageBytes;
  }
}

/** 127.0.0.1 as the kernel prints it: a number in the byte order of the machine. */
const loopback = endianness() === 'LE' ? '0100007F' : '7F000001';

/**
 * The inode of the socket of the process that connected from 127.0.0.1:`from` to 127.0.0.1:`to`. Null if that process has closed it.
 * @throws Error without /proc/net/tcp
 */
export async function loopbackSocket(from: number, to: number): Promise<string | null> {
  const address = (port: number) => `${loopback}:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const ends = ` ${address(from)} ${address(to)} `;
  const line = (await readFile('/proc/net/tcp', 'utf8')).split('\n').find((text) => text.includes(ends));
  // The inode is column 10. A socket without a process has the inode 0.
  const inode = line?.trim().split(/\s+/)[9];
  return inode === undefined || inode === '0' ? null : inode;
}

/** Whether a process has this socket open. False if the process has ended or may not be read. Synchronous, as {@link processStatus}. */
export function hasSocket(pid: number, inode: string): boolean {
  const wanted = `socket:[${inode}]`;
  try {
    return readdirSync(`/proc/${pid}/fd`).some((name) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${name}`) === wanted;
      } catch {
        // The process has closed this descriptor meanwhile.
        return false;
      }
    });
  } catch {
    return false;
  }
}

/** The uptime of the machine in seconds: a clock that all its processes share. @throws Error without /proc */
export function uptime(): number {
  return Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
}

/** An id that changes at every boot of the machine. @throws Error without /proc */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** The number of the pid namespace of this process: pids are unique within it. @throws Error without /proc */
export function pidNamespace(): string {
  return /\[(\d+)\]/.exec(readlinkSync('/proc/self/ns/pid'))?.[1] ?? '';
}
