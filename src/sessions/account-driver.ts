import { EventEmitter } from 'node:events';
import { backoffAfter, type Jitter } from '../platform/backoff.js';
import type { Logger } from '../platform/logging/logger.js';
import { pause } from '../platform/pause.js';
import { deleteProfile, profileDir } from '../whatsapp/browser/profile.js';
import type { Network } from '../whatsapp/browser/launch.js';
import type { CloseReason, SessionOptions, StopOptions } from '../whatsapp/session-events.js';
import type { WhatsAppSession } from '../whatsapp/whatsapp-session.js';
import type { Account, AccountStatus } from '../accounts/account.entity.js';
import type { SessionSnapshots, SnapshotSchedule } from './session-snapshots.js';

/** What a driver says of its account; it is written to the account's row under the driver's epoch. */
export interface AccountObservation {
  status: AccountStatus;
  statusReason: string | null;
  desiredState?: 'disconnected';
  phoneNumber?: string | null;
  lid?: string | null;
  qr?: { value: string; expiresInMs: number };
  pairingCode?: { value: string; expiresInMs: number };
  connected?: true;
}

export interface AccountDriverOptions {
  account: Account;
  sessionsDir: string;
  chromiumPath: string;
  deadlines: SessionOptions['deadlines'];
  qrTimeoutMs: number;
  network: () => Promise<Network>;
  /** A browser, or what stands for one in a simulated fleet. */
  openSession: (options: SessionOptions) => WhatsAppSession;
  snapshots: SessionSnapshots;
  /** Whether this process may drive accounts at this moment. */
  mayDrive: () => boolean;
  /** Bounds how many sessions start at once. */
  startSlot: <Result>(start: () => Promise<Result>) => Promise<Result>;
  /** Writes what is seen. @returns false when this process no longer owns the account */
  report: (observation: AccountObservation) => Promise<boolean>;
  logger: Logger;
}

export interface AccountDriverEvents {
  ready: [];
  /** It runs nothing any more, and starts nothing by itself. */
  ended: [];
}

/** Why a session is over. */
interface SessionEnd {
  reason: CloseReason | 'stopped' | 'qr_expired' | 'restart';
  detail: string;
}

/** Equal jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"). */
const backoffMs = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000];
const backoffJitter: Jitter = [0.5, 1];

/** Keeps one account connected: starts its session, follows it, and starts it again with growing pauses when it breaks. */
export class AccountDriver extends EventEmitter<AccountDriverEvents> {
  private session: WhatsAppSession | null = null;
  private readonly stopped = new AbortController();
  private pauseEnd: AbortController | null = null;
  /** Gives up when nobody links the account: runs from the first code that is shown. */
  private linkTimer: NodeJS.Timeout | undefined;
  private failures = 0;
  private isPrepared = false;
  /** The session was linked in this life of the driver: what it came to is kept when it ends. */
  private isWorthACopy = false;
  private stopOptions: StopOptions & { isFence?: boolean } = {};
  /** Why the next session is started, when that is not the first. */
  private startReason: string | null = null;
  private snapshotSchedule: SnapshotSchedule | null = null;
  private finished: Promise<void> | null = null;
  private endSession: ((end: SessionEnd) => void) | null = null;

  constructor(private readonly options: AccountDriverOptions) {
    super();
  }

  get account(): Account {
    return this.options.account;
  }

  get ready(): boolean {
    return this.session?.ready ?? false;
  }

  /** Whether the driver has given up: after a logout, a conflict, or a QR code that nobody scanned. */
  hasEnded = false;

  /** The running session. @throws when there is none */
  get current(): WhatsAppSession {
    if (!this.session) throw new Error('The session of this account is not running.');
    return this.session;
  }

  get isStopping(): boolean {
    return this.stopped.signal.aborted;
  }

  start(): void {
    this.finished = this.run().catch((error: unknown) => {
      this.options.logger.error(
        { err: error, accountId: this.account.id },
        'the driver of an account ended unexpectedly',
      );
      this.hasEnded = true;
      this.emit('ended');
    });
  }

  /**
   * Closes the browser and keeps a copy of the session; the account's row is left to the caller.
   * @param options a fence leaves out everything that takes time, the copy too
   */
  async stop(options: StopOptions & { isFence?: boolean } = {}): Promise<void> {
    this.stopOptions = options;
    this.stopped.abort();
    if (options.isFence) {
      this.isWorthACopy = false;
      // A stop in good order that is under way already must not take the time that it may otherwise.
      void this.session?.stop(options);
    }
    this.endSession?.({ reason: 'stopped', detail: '' });
    await this.finished;
  }

  /** Closes the browser and starts it again at once. */
  restart(reason = 'restart'): void {
    this.failures = 0;
    this.pauseEnd?.abort();
    this.endSession?.({ reason: 'restart', detail: reason });
  }

  /** Unlinks the account; deletes its credentials when WhatsApp confirmed that. @returns whether it did */
  async logout(): Promise<boolean> {
    const confirmed = await this.current.logout();
    if (confirmed) this.endSession?.({ reason: 'logged_out', detail: 'logged out by request' });
    else this.restart();
    return confirmed;
  }

  private async run(): Promise<void> {
    try {
      while (!this.stopped.signal.aborted) {
        const end = await this.runSession();
        if (this.stopped.signal.aborted || !(await this.handleEnd(end))) break;
      }
    } finally {
      // The browser is closed now: this copy is whole, and what another server starts from.
      if (this.isWorthACopy) await this.saveSession();
    }
    this.hasEnded = true;
    this.emit('ended');
  }

  /** Runs one session from its start to its end, and says why it ended. */
  private async runSession(): Promise<SessionEnd> {
    let isOver = this.stopped.signal.aborted;
    const ended = new Promise<SessionEnd>((resolve) => {
      this.endSession = (end) => {
        isOver = true;
        resolve(end);
      };
    });
    if (isOver) return { reason: 'stopped', detail: '' };
    try {
      // The first thing that is waited for: accounts are started in the order in which they were asked for.
      const started = this.options.startSlot(() => this.startSession(() => isOver));
      await Promise.race([started, ended]);
      return await ended;
    } catch (error) {
      this.options.logger.warn({ err: error, accountId: this.account.id }, 'the session did not start');
      return { reason: 'crashed', detail: error instanceof Error ? error.message : String(error) };
    } finally {
      isOver = true;
      clearTimeout(this.linkTimer);
      this.linkTimer = undefined;
      this.endSession = null;
      const copying = this.snapshotSchedule?.stop();
      this.snapshotSchedule = null;
      await this.session?.stop(this.stopOptions);
      this.session = null;
      if (!this.stopOptions.isFence) await copying;
    }
  }

  /** @param isOver whether the session was ended meanwhile: nothing may be opened then */
  private async startSession(isOver: () => boolean): Promise<void> {
    const { account, sessionsDir, chromiumPath, deadlines, mayDrive, snapshots } = this.options;
    const end = this.endSession;
    if (isOver()) return;
    if (!mayDrive()) return end?.({ reason: 'stopped', detail: 'the lease of this instance is over' });
    const statusReason = this.failures ? 'reconnecting' : this.startReason;
    if (!(await this.options.report({ status: 'starting', statusReason }))) {
      return end?.({ reason: 'stopped', detail: 'owned by another instance' });
    }
    if (isOver()) return;
    const [network] = await Promise.all([
      this.options.network(),
      this.isPrepared ? undefined : snapshots.prepare(account),
    ]);
    this.isPrepared = true;
    if (isOver()) return;
    const session = this.options.openSession({
      accountId: account.id,
      profileDir: profileDir(sessionsDir, account.id),
      chromiumPath,
      network,
      pairWithPhoneNumber: account.linkMethod === 'code' ? account.linkPhoneNumber : null,
      deadlines,
      canStart: mayDrive,
      onWarning: (message, error) => this.options.logger.warn({ err: error, accountId: account.id }, message),
    });
    this.session = session;
    this.follow(session);
    await session.start();
  }

  /** Reports what a session tells, and ends it when it says so. */
  private follow(session: WhatsAppSession): void {
    const end = this.endSession!;
    const report = (observation: AccountObservation) => {
      this.options.report(observation).then(
        (owned) => owned || end({ reason: 'stopped', detail: 'owned by another instance' }),
        (error: unknown) =>
          this.options.logger.error(
            { err: error, accountId: this.account.id, status: observation.status },
            'a status could not be written',
          ),
      );
    };
    const awaitLink = () => {
      this.linkTimer ??= setTimeout(
        () => end({ reason: 'qr_expired', detail: 'nobody linked the account in time' }),
        this.options.qrTimeoutMs,
      );
    };
    const linked = () => {
      clearTimeout(this.linkTimer);
      this.linkTimer = undefined;
    };
    session.on('qr', (value, expiresInMs) => {
      awaitLink();
      report({ status: 'qr', statusReason: null, qr: { value, expiresInMs } });
    });
    session.on('code', (value, expiresInMs) => {
      awaitLink();
      report({ status: 'pairing', statusReason: null, pairingCode: { value, expiresInMs } });
    });
    session.on('syncing', () => {
      linked();
      this.isWorthACopy = true;
      report({ status: 'syncing', statusReason: null });
    });
    session.on('ready', ({ phoneNumber, lid }) => {
      linked();
      this.failures = 0;
      this.startReason = null;
      this.isWorthACopy = true;
      const observation = { status: 'ready', statusReason: null, phoneNumber, lid, connected: true } as const;
      this.options.report(observation).then(
        (owned) => {
          if (!owned) return end({ reason: 'stopped', detail: 'owned by another instance' });
          this.snapshotSchedule ??= this.options.snapshots.schedule(this.account);
          this.emit('ready');
        },
        (error: unknown) =>
          end({ reason: 'crashed', detail: `ready, but that could not be written: ${String(error)}` }),
      );
    });
    session.on('action_required', (text) => {
      const status = session.ready ? 'ready' : 'syncing';
      report({ status, statusReason: text === null ? null : `action_required: ${text}` });
    });
    session.on('closed', (reason, detail) => end({ reason, detail }));
  }

  /** @returns whether a new session is to be started */
  private async handleEnd({ reason, detail }: SessionEnd): Promise<boolean> {
    const { report, logger, account, sessionsDir, snapshots } = this.options;
    logger.info({ accountId: account.id, reason, detail }, 'session ended');
    switch (reason) {
      case 'stopped':
        return false;
      case 'restart':
        this.startReason = detail;
        return true;
      case 'logged_out':
        this.isWorthACopy = false;
        // Said first: a session that is not linked any more is of no use, but one whose end nobody knows would be started.
        await report({ status: 'logged_out', statusReason: detail, desiredState: 'disconnected' });
        await deleteProfile(sessionsDir, account.id);
        await snapshots.drop(account);
        return false;
      case 'qr_expired':
        await report({ status: 'disconnected', statusReason: 'qr_expired', desiredState: 'disconnected' });
        return false;
      case 'conflict':
        // Taking over blindly is how two owners fight for ever: a person decides.
        await report({ status: 'conflict', statusReason: detail });
        return false;
      case 'unpaired':
      case 'crashed':
      case 'launch_timeout':
      case 'load_timeout':
      case 'sync_timeout':
        await report({ status: 'reconnecting', statusReason: `${reason}: ${detail}`.slice(0, 500) });
        await this.pause();
        return true;
    }
  }

  private async saveSession(): Promise<void> {
    try {
      await this.options.snapshots.save(this.account, false);
    } catch (error) {
      this.options.logger.error(
        { err: error, accountId: this.account.id },
        'the session could not be copied; the last copy stays',
      );
    }
  }

  private async pause(): Promise<void> {
    this.failures += 1;
    this.pauseEnd = new AbortController();
    await pause(backoffAfter(this.failures, backoffMs, backoffJitter), {
      signal: AbortSignal.any([this.stopped.signal, this.pauseEnd.signal]),
    });
  }
}
