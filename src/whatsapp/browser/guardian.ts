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

/** What the helper exits with when it has killed browsers. */
const killedCode = 3;
const closeMs = 2_000;

/**
 * Ends this process's browsers when this process no longer can: they are processes of their own, which stay connected to
 * WhatsApp while this one is stopped, hangs or is dead, and another instance takes their accounts over meanwhile. A small
 * helper outside of this process (guardian.sh) knows until when they may live, and kills them then.
 *
 * The helper ends once it has killed; the next {@link extend} or {@link watch} starts another one.
 */
export class BrowserGuardian {
  private readonly accounts = new Set<string>();
  private helper: ChildProcess | null = null;
  /** One word after the other: of two that find the helper dead only one may start another. */
  private telling: Promise<void> = Promise.resolve();
  /** In milliseconds of `performance.now()`; null until there is one. */
  private deadline: number | null = null;
  private isClosed = false;

  constructor(private readonly options: BrowserGuardianOptions) {}

  /**
   * Guards the browser of an account. Resolves when the helper has been told: launch the browser after that. Without a
   * deadline, so before the first {@link extend}, there is nothing to tell yet.
   */
  async watch(accountId: string): Promise<void> {
    this.accounts.add(accountId);
    await this.tell(`watch ${accountId}`);
  }

  /** Guards it no longer: its browser is gone. From now on another instance of this server may run it. */
  unwatch(accountId: string): void {
    if (this.accounts.delete(accountId)) void this.tell(`unwatch ${accountId}`);
  }

  /** Sets when the browsers must be gone unless this is called again: milliseconds of `performance.now()`. */
  extend(deadline: number): void {
    this.deadline = deadline;
    void this.tell(`until ${uptimeAt(deadline)}`);
  }

  /** Ends the helper. It kills nothing: the browsers are the caller's again. */
  async close(): Promise<void> {
    await this.tell([...this.accounts].map((id) => `unwatch ${id}`).join('\n'));
    this.accounts.clear();
    this.isClosed = true;
    const { helper } = this;
    if (!helper || helper.exitCode !== null) return;
    const ended = new Promise((resolve) => helper.once('exit', resolve));
    helper.stdin?.end();
    await Promise.race([ended, delay(closeMs, undefined, { ref: false })]);
  }

  /** Tells the helper what has changed; one that has ended meanwhile is replaced, once, and told everything. */
  private tell(change: string): Promise<void> {
    this.telling = this.telling.then(() => this.tellNow(change));
    return this.telling;
  }

  private async tellNow(change: string): Promise<void> {
    if (this.deadline === null || this.isClosed) return;
    try {
      if (this.helper && (await this.write(change))) return;
      this.helper = this.start();
      const all = [`until ${uptimeAt(this.deadline)}`, ...[...this.accounts].map((id) => `watch ${id}`)];
      await this.write(all.join('\n'));
    } catch (error) {
      this.options.onWarning('the browser guardian could not be told', error);
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
      // A session of its own: what stops or kills this process's group does not reach it.
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
        ? gone('the browser guardian killed the browsers of this instance: it was not heard of in time', null)
        : gone('the browser guardian ended', { code, signal }),
    );
    // The callback of each write tells.
    helper.stdin?.on('error', () => undefined);
    // It may outlive this process, and this process need not live for it.
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
