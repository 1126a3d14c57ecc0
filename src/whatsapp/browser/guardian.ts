import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { uptime } from '../../platform/proc.js';

export interface BrowserGuardianOptions {
  /** The directory of the profiles; see `profileDir`. */
  sessionsDir: string;
  /** Where guardian.sh is. */
  script: string;
  onWarning: (message: string, error: unknown) => void;
}

/** The helper's exit code after it has killed browsers. */
const killedCode = 3;
const closeMs = 2_000;

/**
 * Ends the browsers of this process when this process no longer can. Browsers are separate processes: they stay connected to
 * WhatsApp while this process is stopped, hangs or is dead, and during that time another instance takes over their accounts.
 * A small helper outside this process (guardian.sh) knows the deadline of the browsers, and kills them at the deadline.
 *
 * The helper ends after it has killed. The next {@link extend} or {@link watch} starts a new helper.
 */
export class BrowserGuardian {
  private readonly accounts = new Set<string>();
  private helper: ChildProcess | null = null;
  /** Writes run one after the other, so that only one of them restarts a dead helper. */
  private pendingWrites: Promise<void> = Promise.resolve();
  /** In milliseconds of `performance.now()`; null before the first {@link extend}. */
  private deadline: number | null = null;
  private isClosed = false;

  constructor(private readonly options: BrowserGuardianOptions) {}

  /**
   * Guards the browser of an account. Resolves when the helper has the account: launch the browser after that. Before the
   * first {@link extend} there is no deadline, so the helper gets nothing yet.
   */
  async watch(accountId: string): Promise<void> {
    this.accounts.add(accountId);
    await this.enqueue(`watch ${accountId}`);
  }

  /** Stops guarding an account whose browser is gone. From now on another instance of this server may run the account. */
  unwatch(accountId: string): void {
    if (this.accounts.delete(accountId)) void this.enqueue(`unwatch ${accountId}`);
  }

  /** Sets the deadline of the browsers, in milliseconds of `performance.now()`. The next call replaces it. */
  extend(deadline: number): void {
    this.deadline = deadline;
    void this.enqueue(`until ${uptimeAt(deadline)}`);
  }

  /** Ends the helper without killing anything. The caller must end the browsers itself from now on. */
  async close(): Promise<void> {
    await this.enqueue([...this.accounts].map((id) => `unwatch ${id}`).join('\n'));
    this.accounts.clear();
    this.isClosed = true;
    const { helper } = this;
    if (!helper || helper.exitCode !== null) return;
    const ended = new Promise((resolve) => helper.once('exit', resolve));
    helper.stdin?.end();
    await Promise.race([ended, delay(closeMs, undefined, { ref: false })]);
  }

  /** Writes a change to the helper. If the helper has ended, starts a new one, once, and writes everything to it. */
  private enqueue(change: string): Promise<void> {
    this.pendingWrites = this.pendingWrites.then(() => this.writeNow(change));
    return this.pendingWrites;
  }

  private async writeNow(change: string): Promise<void> {
    if (this.deadline === null || this.isClosed) return;
    try {
      if (this.helper && (await this.write(change))) return;
      this.helper = this.start();
      const all = [`until ${uptimeAt(this.deadline)}`, ...[...this.accounts].map((id) => `watch ${id}`)];
      await this.write(all.join('\n'));
    } catch (error) {
      this.options.onWarning('could not write to the browser guardian', error);
    }
  }

  /** @returns whether the lines reached the helper's input, where they stay even if this process is stopped */
  private write(lines: string): Promise<boolean> {
    const stdin = this.helper?.stdin;
    return new Promise((done) => {
      if (stdin) stdin.write(`${lines}\n`, (error) => done(!error));
      else done(false);
    });
  }

  private start(): ChildProcess {
    const { sessionsDir, script, onWarning } = this.options;
    const helper = spawn('bash', [script, resolve(sessionsDir)], {
      // The helper gets its own session, so that a signal to the process group of this process does not reach it.
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
      cwd: '/',
      env: { PATH: process.env.PATH, LC_ALL: 'C' },
    });
    const gone = (message: string, error: unknown) => {
      if (this.helper === helper) this.helper = null;
      if (!this.isClosed) onWarning(message, error);
    };
    helper.once('error', (error) => gone('the browser guardian does not start', error));
    helper.once('exit', (code, signal) =>
      code === killedCode
        ? gone(
            'the browser guardian killed the browsers of this instance: the deadline was not extended in time',
            null,
          )
        : gone('the browser guardian ended', { code, signal }),
    );
    // The callback of each write gets the error too.
    helper.stdin?.on('error', () => undefined);
    // The helper may outlive this process, and must not keep this process alive.
    helper.unref();
    (helper.stdin as Socket | null)?.unref();
    return helper;
  }
}

/**
 * A moment of `performance.now()` as hundredths of a second of the machine's uptime, a clock that both processes can read. It is
 * read before the other one: if this process is stopped in between, the result is too early, never too late.
 */
function uptimeAt(moment: number): number {
  const seconds = uptime();
  return Math.max(0, Math.floor(seconds * 100 + (moment - performance.now()) / 10));
}
