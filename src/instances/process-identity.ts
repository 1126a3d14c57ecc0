import { readFileSync, readlinkSync } from 'node:fs';

/**
 * Which process of which machine this is: boot id, pid namespace, pid and start time. Together they are never used again,
 * unlike a pid, and tell whether another process may look for this one.
 */
export function processIdentity(pid = process.pid): string {
  return [bootId(), pidNamespace(), pid, startTime(pid) ?? 0].join('/');
}

/** Whether that process still runs: undefined when it lives where this one cannot see it. */
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

/** In clock ticks since the machine started; undefined when there is no such process, or only its zombie. */
function startTime(pid: number): number | undefined {
  try {
    // After the name, which may hold spaces and brackets: state is the 3rd field of proc(5), starttime the 22nd.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ');
    return fields[0] === 'Z' ? undefined : Number(fields[19]);
  } catch {
    return undefined;
  }
}
