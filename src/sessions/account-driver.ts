import { EventEmitter } from 'node:events';
import { backoffAfter, type Jitter } from '../platform/backoff.js';
import type { Logger } from '../platform/logging/logger.js';
import { pause } from '../platform/pause.js';
import { deleteProfile, profileDir } from '../whatsapp/browser/profile.js';
import type { WebPage } from '../whatsapp/web-page.js';
import type { Network } from '../whatsapp/browser/launch.js';
import { type ProxyForwarder, ProxyUnreachable } from '../whatsapp/browser/proxy-forwarder.js';
import type { OwnIds } from '../whatsapp/in-page/page-state.js';
import type { Admission, SessionOptions, StopOptions, WebState } from '../whatsapp/session-events.js';
import type { WhatsAppSession } from '../whatsapp/whatsapp-session.js';
import type { Account, AccountStatus } from '../accounts/account.entity.js';
import { failedStart, type SessionEnd, statusReasonOf } from './session-end.js';
import type { SessionSnapshots, SnapshotSchedule } from './session-snapshots.js';

/** What a driver observes of its account. It is written to the account's row under the driver's epoch. */
export interface AccountObservation {
  status: AccountStatus;
  statusReason: string | null;
  desiredState?: 'disconnected';
  phoneNumber?: string | null;
  lid?: string | null;
  qr?: { value: string; expiresInMs: number };
  pairingCode?: { value: string; expiresInMs: number };
  connected?: true;
  /** What the page was found to be. */
  web?: WebState;
}

export interface AccountDriverOptions {
  account: Account;
  sessionsDir: string;
  chromiumPath: string;
  deadlines: SessionOptions['deadlines'];
  web: SessionOptions['web'];
  qrTimeoutMs: number;
  /**
   * Makes the forwarder to the account's proxy; null if the account has no proxy.
   * @param browserGroup the process group of the browser that may use it
   * @throws if the stored proxy cannot be read
   */
  forwarder: (browserGroup: () => number | undefined) => ProxyForwarder | null;
  /** @param proxyPort the port of the forwarder; null without a proxy */
  network: (proxyPort: number | null) => Promise<Network>;
  /** The page that the policy gives the account. Null: the page that WhatsApp serves. */
  webPage: () => Promise<WebPage | null>;
  /** Decides whether a linked page may be the account. */
  admit: (own: OwnIds) => Promise<Admission>;
  /** Opens a browser, or its stand-in in a simulated fleet. */
  openSession: (options: SessionOptions) => WhatsAppSession;
  snapshots: SessionSnapshots;
  /** Whether this process may drive accounts now. */
  mayDrive: () => boolean;
  /** Limits how many sessions start at the same time. */
  startSlot: <Result>(start: () => Promise<Result>) => Promise<Result>;
  /** Writes an observation. @returns false if this process no longer owns the account */
  report: (observation: AccountObservation) => Promise<boolean>;
  logger: Logger;
}

export interface AccountDriverEvents {
  ready: [];
  /** The driver runs no session any more, and starts none by itself. */
  ended: [];
}

const maxReasonLength = 500;
/** The ends that a proxy may cause. */
const networkEnds = new Set<SessionEnd['reason']>([
  'crashed',
  'not_started',
  'unreachable',
  'load_timeout',
  'sync_timeout',
]);
const webWarning = 'this page of WhatsApp Web lacks what sending needs: messages wait';
/** Equal jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"). */
const backoffMs = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000];
const backoffJitter: Jitter = [0.5, 1];
/** WhatsApp will refuse the same page again. A changed policy ends this pause. */
const refusedPauseMs = 10 * 60_000;

/** Keeps one account connected: starts its session, follows it, and restarts it with growing pauses when it breaks. */
export class AccountDriver extends EventEmitter<AccountDriverEvents> {
  private session: WhatsAppSession | null = null;
  private readonly stopped = new AbortController();
  private pauseEnd: AbortController | null = null;
  /** Ends the session if nobody links the account. It runs from the first code that is shown. */
  private linkTimer: NodeJS.Timeout | undefined;
  private failures = 0;
  private isPrepared = false;
  /** Whether the session was linked during this driver's life: then it is saved when the driver ends. */
  private needsSave = false;
  /** Whether a phone must link the account, or has linked it and was not admitted yet: its session may be that of another number. */
  private isLinking: boolean;
  private stopOptions: StopOptions & { isFence?: boolean } = {};
  /** Why the next session starts; null for the first. */
  private startReason: string | null = null;
  /** The version that the session was given, and the version at its start. Null: the page that WhatsApp serves. */
  private given: { version: string | null; atStart: string | null } | null = null;
  private snapshotSchedule: SnapshotSchedule | null = null;
  private finished: Promise<void> | null = null;
  private endSession: ((end: SessionEnd) => void) | null = null;
  private forwarder: ProxyForwarder | null = null;
  /** What the page of the running session was found to be. */
  private web: WebState | null = null;
  /** The text of a dialog that a person must answer. */
  private dialog: string | null = null;

  constructor(private readonly options: AccountDriverOptions) {
    super();
    this.isLinking = options.account.linkedAt === null;
  }

  get account(): Account {
    return this.options.account;
  }

  get ready(): boolean {
    return this.session?.ready ?? false;
  }

  /** Whether the driver has ended: after a stop, a logout, a conflict, or a code that nobody used. */
  hasEnded = false;

  /** The running session. @throws Error if no session runs */
  get current(): WhatsAppSession {
    if (!this.session) throw new Error('The session of this account is not running.');
    return this.session;
  }

  /** Whether the driver waits before the next start, because a session has failed. */
  isPausing = false;

  /** The version of WhatsApp Web that the session has. Null without a ready session. */
  get webVersion(): string | null {
    return this.session?.webVersion ?? null;
  }

  /**
   * Whether the account must restart to get the page that it must have. A page that it got at its start is not given twice.
   * @param isBroken the page that it has cannot send, so the same version may help: WhatsApp can change a version
   */
  needsPage(version: string | null, isBroken: boolean): boolean {
    if (!this.given || this.given.atStart === version) return false;
    if (this.isPausing) return true;
    if (!this.session) return false;
    if (isBroken) return true;
    return version === null
      ? this.session.hasGivenPage
      : this.webVersion !== null && this.webVersion !== version;
  }

  /** Whether a running session would get another page than this at its next load. */
  isGivenOther(version: string | null): boolean {
    return this.session !== null && this.given !== null && this.given.version !== version;
  }

  /** Gives the running session the page of its next load. */
  async give(webPage: WebPage | null): Promise<void> {
    if (!this.session || !this.given) return;
    await this.session.give(webPage);
    this.given = { ...this.given, version: webPage?.version ?? null };
  }

  /** Why nothing may be sent although the session is ready: the page lacks what sending needs. Null if it may be sent. */
  get holdReason(): string | null {
    return this.web?.contract === 'broken' ? this.web.missing.join(', ') : null;
  }

  /** The reason that the account shows while it is ready. */
  get readyReason(): string | null {
    const { holdReason, dialog } = this;
    if (holdReason !== null) return `web_incompatible: ${holdReason}`.slice(0, maxReasonLength);
    return dialog === null ? null : `action_required: ${dialog}`;
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
   * Closes the browser and saves the session. The caller writes the account's row.
   * @param options a fence leaves out everything that takes time, also the save
   */
  async stop(options: StopOptions & { isFence?: boolean } = {}): Promise<void> {
    this.stopOptions = options;
    this.stopped.abort();
    if (options.isFence) {
      this.needsSave = false;
      // An orderly stop may already run: this shortens it.
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

  /** Unlinks the account. Deletes its credentials if WhatsApp confirms. @returns whether WhatsApp confirmed */
  async logout(): Promise<boolean> {
    const confirmed = await this.current.logout();
    if (confirmed) this.endSession?.({ reason: 'logout', detail: 'WhatsApp confirmed it' });
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
      // The browser is closed now, so this copy is complete. Another server starts from it.
      if (this.needsSave) await this.saveSession();
    }
    this.hasEnded = true;
    this.emit('ended');
  }

  /** Runs one session from its start to its end. @returns why it ended */
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
      this.forwarder = this.openForwarder();
      const start = () => this.options.startSlot(() => this.startSession(() => isOver));
      // No `await` comes before this: accounts start in the order in which their drivers were started. An account with a proxy
      // waits for its proxy first: a proxy without an answer holds no start slot, and no browser starts for it.
      const started = this.forwarder ? this.forwarder.check().then(start) : start();
      await Promise.race([started, ended]);
      return this.blameProxy(await ended);
    } catch (error) {
      if (error instanceof ProxyUnreachable) return { reason: 'proxy_unreachable', detail: error.message };
      this.options.logger.warn({ err: error, accountId: this.account.id }, 'the session did not start');
      return this.blameProxy(failedStart(error));
    } finally {
      isOver = true;
      clearTimeout(this.linkTimer);
      this.linkTimer = undefined;
      this.endSession = null;
      const copying = this.snapshotSchedule?.stop();
      this.snapshotSchedule = null;
      await this.session?.stop(this.stopOptions);
      this.session = null;
      this.forwarder?.close();
      this.forwarder = null;
      if (!this.stopOptions.isFence) await copying;
    }
  }

  /** @throws ProxyUnreachable if the stored proxy cannot be read */
  private openForwarder(): ProxyForwarder | null {
    try {
      return this.options.forwarder(() => this.session?.browserGroup);
    } catch (error) {
      this.options.logger.error(
        { err: error, accountId: this.account.id },
        'the proxy of an account cannot be read',
      );
      throw new ProxyUnreachable();
    }
  }

  /** A page whose proxy fails ends in many ways. The account shows one reason for all of them. */
  private blameProxy(end: SessionEnd): SessionEnd {
    const { forwarder } = this;
    const isOfNetwork = networkEnds.has(end.reason);
    if (!forwarder || !isOfNetwork || !(forwarder.isFailing || /net::ERR_/.test(end.detail))) return end;
    this.options.logger.warn({ accountId: this.account.id, ...end }, 'a session failed behind its proxy');
    return { reason: 'proxy_unreachable', detail: new ProxyUnreachable().message };
  }

  /** @param isOver whether the session was ended meanwhile: then nothing may be opened */
  private async startSession(isOver: () => boolean): Promise<void> {
    const { account, sessionsDir, chromiumPath, deadlines, web, mayDrive, snapshots } = this.options;
    const end = this.endSession;
    if (isOver()) return;
    if (!mayDrive()) return end?.({ reason: 'stopped', detail: 'the lease of this instance is over' });
    const statusReason = this.failures ? 'reconnecting' : this.startReason;
    if (!(await this.options.report({ status: 'starting', statusReason }))) {
      return end?.({ reason: 'stopped', detail: 'owned by another instance' });
    }
    if (isOver()) return;
    const [network, webPage] = await Promise.all([
      this.openNetwork(),
      this.options.webPage(),
      this.isPrepared ? undefined : snapshots.prepare(account),
    ]);
    this.isPrepared = true;
    if (isOver()) return;
    this.given = { version: webPage?.version ?? null, atStart: webPage?.version ?? null };
    const session = this.options.openSession({
      accountId: account.id,
      profileDir: profileDir(sessionsDir, account.id),
      chromiumPath,
      network,
      webPage,
      admit: this.options.admit,
      pairWithPhoneNumber: account.linkMethod === 'code' ? account.linkPhoneNumber : null,
      deadlines,
      web,
      canStart: mayDrive,
      onWarning: (message, error) => this.options.logger.warn({ err: error, accountId: account.id }, message),
    });
    this.session = session;
    this.web = null;
    this.dialog = null;
    this.follow(session);
    await session.start();
  }

  private async openNetwork(): Promise<Network> {
    return this.options.network(this.forwarder ? await this.forwarder.listen() : null);
  }

  /** Reports the events of a session, and ends the session when it closes. */
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
    const startLinkTimer = () => {
      this.isLinking = true;
      this.linkTimer ??= setTimeout(
        () => end({ reason: 'qr_expired', detail: 'nobody linked the account in time' }),
        this.options.qrTimeoutMs,
      );
    };
    const stopLinkTimer = () => {
      clearTimeout(this.linkTimer);
      this.linkTimer = undefined;
    };
    session.on('qr', (value, expiresInMs) => {
      startLinkTimer();
      report({ status: 'qr', statusReason: null, qr: { value, expiresInMs } });
    });
    session.on('code', (value, expiresInMs) => {
      startLinkTimer();
      report({ status: 'pairing', statusReason: null, pairingCode: { value, expiresInMs } });
    });
    session.on('syncing', () => {
      stopLinkTimer();
      // A copy of a session that is refused afterwards must not replace a good one.
      this.needsSave ||= !this.isLinking || this.account.phoneNumber === null;
      report({ status: 'syncing', statusReason: null });
    });
    session.on('ready', ({ phoneNumber, lid }) => {
      stopLinkTimer();
      this.failures = 0;
      this.startReason = null;
      this.isLinking = false;
      this.needsSave = true;
      const observation: AccountObservation = {
        status: 'ready',
        statusReason: this.readyReason,
        phoneNumber,
        lid,
        connected: true,
        ...(this.web ? { web: this.web } : {}),
      };
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
      this.dialog = text;
      report({ status: session.ready ? 'ready' : 'syncing', statusReason: this.readyReason });
    });
    session.on('web', (web) => {
      this.web = web;
      if (web.contract === 'broken')
        this.options.logger.warn({ accountId: this.account.id, ...web }, webWarning);
      // The report of a session that becomes ready brings it too.
      if (session.ready || session.isIncompatible)
        report({ status: session.ready ? 'ready' : 'syncing', statusReason: this.readyReason, web });
    });
    session.on('closed', (reason, detail) => end({ reason, detail }));
  }

  /** @returns whether to start a new session */
  private async handleEnd(end: SessionEnd): Promise<boolean> {
    const { report, logger, account, sessionsDir, snapshots } = this.options;
    logger.info({ accountId: account.id, ...end }, 'session ended');
    // The last owner of the account unlinked the phone that it refused, and ended before it could write that.
    const isRefused = end.reason === 'logged_out' && account.refusedNumber !== null;
    const reason = isRefused ? 'other_number' : end.reason;
    switch (reason) {
      case 'stopped':
        return false;
      case 'restart':
        this.startReason = end.detail;
        return true;
      case 'logout':
      case 'logged_out':
        this.needsSave = false;
        // The report comes first: if the process dies before it, the account would be started again without a session.
        await report({
          status: 'logged_out',
          statusReason: statusReasonOf(reason),
          desiredState: 'disconnected',
        });
        await deleteProfile(sessionsDir, account.id);
        await snapshots.drop(account);
        return false;
      case 'other_number':
        // The credentials are those of another number. An earlier copy of the account's own session stays.
        this.needsSave = false;
        await report({
          status: 'disconnected',
          statusReason: statusReasonOf(reason),
          desiredState: 'disconnected',
        });
        await deleteProfile(sessionsDir, account.id);
        return false;
      case 'number_changed':
        await report({
          status: 'disconnected',
          statusReason: statusReasonOf(reason),
          desiredState: 'disconnected',
        });
        return false;
      case 'qr_expired':
        await report({ status: 'disconnected', statusReason: 'qr_expired', desiredState: 'disconnected' });
        return false;
      case 'conflict':
        // Two owners that take over automatically would fight for ever: a person decides.
        await report({ status: 'conflict', statusReason: statusReasonOf(reason) });
        return false;
      case 'proxy_unreachable':
        // No page was given yet.
        await report({ status: 'reconnecting', statusReason: statusReasonOf(reason) });
        await this.pause(0);
        return true;
      case 'not_unlinked':
      case 'unpaired':
      case 'crashed':
      case 'not_started':
      case 'unreachable':
      case 'sandbox_off':
      case 'sandbox_unreachable':
      case 'snapshot_unusable':
      case 'launch_timeout':
      case 'load_timeout':
      case 'sync_timeout':
      case 'version_refused':
        await report({ status: 'reconnecting', statusReason: statusReasonOf(reason, this.given?.version) });
        await this.pause(reason === 'version_refused' && this.given?.version ? refusedPauseMs : 0);
        return true;
    }
  }

  private async saveSession(): Promise<void> {
    try {
      await this.options.snapshots.save(this.account, false);
    } catch (error) {
      this.options.logger.error(
        { err: error, accountId: this.account.id },
        'no snapshot of a session was taken; the last one stays',
      );
    }
  }

  private async pause(leastMs: number): Promise<void> {
    this.failures += 1;
    this.pauseEnd = new AbortController();
    this.isPausing = true;
    await pause(Math.max(leastMs, backoffAfter(this.failures, backoffMs, backoffJitter)), {
      signal: AbortSignal.any([this.stopped.signal, this.pauseEnd.signal]),
    });
    this.isPausing = false;
  }
}
