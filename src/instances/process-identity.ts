import { readFileSync, readlinkSync } from 'node:fs';

/**
 * Identifies a process of a machine: boot id, pid namespace, pid and start time. Unlike a pid, this combination is never
 * reused, and it tells whether another process can look for this process.
 */
export function processIdentity(pid = process.pid): string {
  return [bootId(), pidNamespace(), pid, startTime(pid) ?? 0].join('/');
}

/** Whether a process still runs; undefined if this process cannot see it: another machine, an earlier boot, another pid namespace. */
export function stillRuns(identity: string): boolean | undefined {
  const [boot, namespace, pid, started] = identity.split('/');
  if (boot !== bootId() || namespace !== pidNamespace()) return undefined;
  return startTime(Number(pid)) === Number(started);
}

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

function pidNamespace(): string {
  return /\[(\d+)\]/.exec(readlinkSync('/proc/self/ns/pid'))?.[1] ?? '';
}

/** In clock ticks since the machine started; undefined if the process does not exist or is a zombie. */
function startTime(pid: number): number | undefined {
  try {
    // After the name, which may hold spaces and brackets: state is the 3rd field of proc(5), starttime the 22nd.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ');
    return fields[0] === 'Z' ? undefined : Number(fields[19]);
  } catch {
    return undefined;
  }
}
