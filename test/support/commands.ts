import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { vi } from 'vitest';
import { projectRoot } from '../../src/platform/config/config.js';
import { runCommandLine } from '../../src/roles/cli.main.js';

/** How a command ended. */
export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** A command of `./flotilla` as a process of its own: what signals, exit codes and output really do. */
export class Cli {
  stdout = '';
  stderr = '';
  readonly ended: Promise<Ended>;
  private readonly child: ChildProcess;

  constructor(args: string[], env: NodeJS.ProcessEnv) {
    this.child = spawn(process.execPath, [join(projectRoot, 'dist/programs/cli.mjs'), ...args], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child.stdout!.on('data', (chunk: Buffer) => (this.stdout += chunk.toString()));
    this.child.stderr!.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
    this.ended = new Promise((resolve) =>
      this.child.once('close', (code, signal) =>
        resolve({ code, signal, stdout: this.stdout, stderr: this.stderr }),
      ),
    );
  }

  get pid(): number {
    return this.child.pid!;
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }
}

/** Runs a command in a process of its own, to its end. */
export function runCli(args: string[], env: NodeJS.ProcessEnv): Promise<Ended> {
  return new Cli(args, env).ended;
}

/**
 * Runs a command in this process, which costs a tenth of starting one: the same program, from its arguments to its exit
 * code. One at a time, since its output and its environment are this process's. A worker wants a process of its own.
 */
export async function runCommand(args: string[], env: NodeJS.ProcessEnv): Promise<Ended> {
  const ended: Ended = { code: 0, signal: null, stdout: '', stderr: '' };
  const capture = (stream: 'stdout' | 'stderr') =>
    vi.spyOn(process[stream], 'write').mockImplementation((chunk) => {
      ended[stream] += String(chunk);
      return true;
    });
  const [stdout, stderr] = [capture('stdout'), capture('stderr')];
  const before = { env: process.env, exitCode: process.exitCode };
  process.env = env;
  process.exitCode = undefined;
  try {
    await runCommandLine(args);
    ended.code = Number(process.exitCode ?? 0);
  } finally {
    process.env = before.env;
    process.exitCode = before.exitCode;
    stdout.mockRestore();
    stderr.mockRestore();
  }
  return ended;
}
