import { bootId, pidNamespace, processStatus } from '../platform/proc.js';

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

/** In clock ticks since the machine started; undefined when there is no such process, or only its zombie. */
function startTime(pid: number): number | undefined {
  const status = processStatus(pid);
  return status?.state === 'Z' ? undefined : status?.startedAt;
}
