import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import {
  argumentsOf,
  bootId,
  pidNamespace,
  processStatus,
  proportionalSetSize,
  runningProcesses,
  uptime,
} from '../../src/platform/proc.js';

it('describes a process while it runs', async () => {
  // The name of a process is the name of its program, and may look like the fields that follow it.
  const folder = await mkdtemp(join(tmpdir(), 'proc-'));
  const program = join(folder, 'a) Z 1 (b');
  await symlink('/bin/sleep', program);
  const child = spawn(program, ['600'], { detached: true, stdio: 'ignore' });
  const pid = child.pid!;
  try {
    await once(child, 'spawn');
    const status = processStatus(pid);
    expect(status).toMatchObject({ pid, parent: process.pid, group: pid });
    expect(status!.startedAt).toBeGreaterThanOrEqual(processStatus(process.pid)!.startedAt);
    // Linux counts 100 ticks a second.
    expect(status!.startedAt / 100).toBeLessThanOrEqual(uptime() + 1);
    expect((await runningProcesses()).map((running) => running.pid)).toContain(pid);
    expect(await argumentsOf(pid)).toContain('600');
    expect(await proportionalSetSize(pid)).toBeGreaterThan(1_000);
  } finally {
    child.kill('SIGKILL');
    await once(child, 'exit');
    await rm(folder, { recursive: true });
  }
  expect(processStatus(pid)).toBeNull();
  expect(await argumentsOf(pid)).not.toContain('600');
  expect(await proportionalSetSize(pid)).toBe(0);
});

it('names the boot of this machine and the pid namespace', () => {
  expect(bootId()).toMatch(/^[\da-f-]{36}$/);
  expect(pidNamespace()).toMatch(/^\d+$/);
});
