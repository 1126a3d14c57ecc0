import { bootId, pidNamespace, processStatus } from '../platform/proc.js';

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

/** In clock ticks since the machine started; undefined if the process does not exist or is a zombie. */
function startTime(pid: number): number | undefined {
  const status = processStatus(pid);
  return status?.state === 'Z' ? undefined : status?.startedAt;
}
