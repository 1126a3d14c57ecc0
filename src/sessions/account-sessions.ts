import { Inject, Injectable, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import { EventEmitter } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pLimit, { type LimitFunction } from 'p-limit';
import { InstanceLease } from '../instances/instance-lease.js';
import { MachineCpu } from '../instances/stats-sampler.js';
import { ServersService } from '../instances/servers.service.js';
import { type Config, projectRoot } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { BrowserGuardian } from '../whatsapp/browser/guardian.js';
import { checkBrowserSandbox } from '../whatsapp/browser/launch.js';
import { endBrowsersOn } from '../whatsapp/browser/processes.js';
import { ProxyForwarder } from '../whatsapp/browser/proxy-forwarder.js';
import { profileDir } from '../whatsapp/browser/profile.js';
import { pruneCaches } from '../whatsapp/browser/archive.js';
import type { SessionOptions, WebState } from '../whatsapp/session-events.js';
import type { WhatsAppSession } from '../whatsapp/whatsapp-session.js';
import { AccountDriver } from './account-driver.js';
import { AccountNotDrivenHere, SessionNotReady, WebIncompatible } from '../accounts/account-errors.js';
import { type Account, drivenStatuses } from '../accounts/account.entity.js';
import { AccountProxies } from '../accounts/account-proxies.js';
import { MemoryWatch } from './memory-watch.js';
import { OwnAccounts } from './own-accounts.js';
import { SendCounts } from './send-counts.js';
import { SessionSnapshots } from './session-snapshots.js';
import { WebVersionsService } from '../accounts/web-versions.service.js';
import { SandboxClient } from '../accounts/sandbox-client.js';

/** Reads the rows this often, in case a notification was lost. */
const pollMs = 2_000;
const memoryCheckMs = 30_000;
/** How long a browser may take to close after the lease is over. Then its process group is killed. */
const fenceCloseMs = 1_000;
/** How long to wait for the end of a killed browser before it is killed again. */
const browserEndMs = 5_000;

/** The events of this instance's sessions. Listeners follow each session from its start. */
export interface AccountSessionEvents {
  /** A session starts. Its own events follow; see SessionEvents. */
  session: [account: Account, session: WhatsAppSession];
  ready: [account: Account];
}

/** Opens the session of an account: in a browser, or as a stand-in in a simulated fleet. */
export const OPEN_SESSION = Symbol('OPEN_SESSION');
export type OpenSession = (options: SessionOptions) => WhatsAppSession;

/**
 * Drives the accounts that are assigned to this instance. It compares their rows with the running drivers at every notification
 * of PostgreSQL, and also every few seconds. Nothing runs without a valid lease, and no account is driven before its last holder
 * has released it.
 */
@Injectable()
export class AccountSessions
  extends EventEmitter<AccountSessionEvents>
  implements OnApplicationBootstrap, OnModuleDestroy
{
  private readonly drivers = new Map<string, AccountDriver>();
  private readonly timers: NodeJS.Timeout[] = [];
  private readonly guardian: BrowserGuardian;
  private reconciling: Promise<void> = Promise.resolve();
  private reconcileQueued = false;
  /** True since the lease was lost. `fencing` resolves when every browser is closed. */
  private isFenced = false;
  private fencing: Promise<void> = Promise.resolve();
  private fences = 0;
  /** The orderly stops of drivers that are running. */
  private readonly leaving = new Set<Promise<void>>();
  private stopping = false;
  private readonly startSlots: LimitFunction;
  /** Resolves when accounts that were connected before may start: instances of a server that start together take turns. */
  private restoreAt: Promise<void> = Promise.resolve();
  private readonly memory: MemoryWatch;
  readonly sendCounts = new SendCounts();

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
    private readonly own: OwnAccounts,
    private readonly lease: InstanceLease,
    private readonly servers: ServersService,
    private readonly snapshots: SessionSnapshots,
    private readonly sandbox: SandboxClient,
    private readonly webVersions: WebVersionsService,
    private readonly proxies: AccountProxies,
    @Inject(OPEN_SESSION) private readonly openSession: OpenSession,
  ) {
    super();
    this.memory = new MemoryWatch(config.sessions.memoryBudgetBytes, logger);
    this.startSlots = pLimit(config.sessions.startConcurrency);
    this.guardian = new BrowserGuardian({
      sessionsDir: config.sessions.dir,
      // The build puts it there; this program itself is one file, dist/instance.mjs.
      script: join(projectRoot, 'dist/src/whatsapp/browser/guardian.sh'),
      onWarning: (message, error) => logger.warn({ err: error }, message),
    });
  }

  /** How many sessions are ready, and how many drivers there are. */
  get counts(): { ready: number; total: number } {
    const drivers = [...this.drivers.values()];
    return { ready: drivers.filter((driver) => driver.ready).length, total: drivers.length };
  }

  /** The memory of this process and its browsers in bytes, as last measured. */
  get memoryBytes(): number {
    return this.memory.bytes + process.memoryUsage().rss;
  }

  /** @throws InstanceAlreadyRuns */
  async onApplicationBootstrap(): Promise<void> {
    const cpu = new MachineCpu();
    // Fails at once if no browser is installed, or may run: otherwise every account would wait for ever.
    this.chromiumPath();
    checkBrowserSandbox(this.config.sessions.browserSandbox);
    const rank = await this.lease.acquire();
    await this.servers.register();
    // Nothing runs yet: the statuses that a dead predecessor wrote are no longer true.
    await this.own.setStatuses([...drivenStatuses, 'reconnecting'], 'starting');
    this.restoreAt = delay(rank * this.config.instance.staggerMs, undefined, { ref: false });
    this.lease.measure = () => ({ memoryBytes: this.memoryBytes, cpu: cpu.percent() });
    this.guardian.extend(this.lease.browsersGoneBy);
    this.lease.on('held', () => {
      this.guardian.extend(this.lease.browsersGoneBy);
      // After a fence nothing runs: start the accounts that this instance still owns.
      if (this.isFenced) this.reconcile();
      this.isFenced = false;
    });
    this.lease.on('lost', () => this.fence());
    this.lease.on('replaced', () => this.exit());
    this.lease.on('changed', () => this.reconcile());
    this.timers.push(setInterval(() => this.reconcile(), pollMs));
    this.timers.push(setInterval(() => void this.checkMemory(), memoryCheckMs));
    await this.lease.activate();
    this.reconcile();
  }

  /**
   * Lets running sends finish, closes every browser, so that the profiles are complete, and records that this instance is gone.
   * This is the first phase of the shutdown. The next phase writes the last reports of the sessions.
   */
  async onModuleDestroy(): Promise<void> {
    this.stopping = true;
    this.timers.forEach((timer) => clearInterval(timer));
    await this.reconciling;
    await Promise.all([...this.drivers.values()].map((driver) => driver.stop()));
    await this.own.setStatuses(drivenStatuses, 'reconnecting');
    await this.lease.retire();
    await this.guardian.close();
  }

  /**
   * The driver of an account.
   * @param epoch if given, this instance must own the account under this epoch
   * @throws AccountNotDrivenHere
   */
  driver(id: string, epoch?: number): AccountDriver {
    const driver = this.lease.held ? this.drivers.get(id) : undefined;
    if (!driver || (epoch !== undefined && driver.account.epoch !== epoch))
      throw new AccountNotDrivenHere(id, epoch);
    return driver;
  }

  /** The drivers of all accounts. */
  get all(): AccountDriver[] {
    return this.lease.held ? [...this.drivers.values()] : [];
  }

  /** Counts a send for the version of WhatsApp Web that the account has. @param isOk whether WhatsApp acknowledged it */
  countSend(driver: AccountDriver, isOk: boolean): void {
    this.sendCounts.count(driver.account.environment, driver.webVersion, isOk);
  }

  /** The driver of an account whose session is ready. @throws AccountNotDrivenHere, SessionNotReady */
  readyDriver(id: string, epoch?: number): AccountDriver {
    const driver = this.driver(id, epoch);
    if (!driver.ready) throw new SessionNotReady(id);
    return driver;
  }

  /** The driver of an account that may send. @throws AccountNotDrivenHere, SessionNotReady, WebIncompatible */
  sendingDriver(id: string, epoch?: number): AccountDriver {
    const driver = this.readyDriver(id, epoch);
    if (driver.holdReason !== null) throw new WebIncompatible(driver.holdReason);
    return driver;
  }

  private reconcile(): void {
    if (this.reconcileQueued || this.stopping) return;
    this.reconcileQueued = true;
    this.reconciling = this.reconciling.then(async () => {
      this.reconcileQueued = false;
      try {
        await this.fencing;
        if (!this.stopping && this.lease.held) await this.reconcileNow();
      } catch (error) {
        this.logger.error({ err: error }, 'the accounts of this instance could not be read; trying again');
      }
    });
  }

  private async reconcileNow(): Promise<void> {
    const { fences } = this;
    const wanted = await this.own.wanted();
    const byId = new Map(wanted.map((account) => [account.id, account]));
    for (const driver of this.drivers.values()) {
      const account = byId.get(driver.account.id);
      if (!account || driver.hasEnded || this.isOutdated(driver, account)) void this.stopDriver(driver);
    }
    await this.own.release([...this.drivers.keys()]);
    for (const account of wanted) {
      // A fence has closed everything meanwhile: the rows are outdated.
      if (fences !== this.fences) return;
      const driver = this.drivers.get(account.id);
      // A driver that is being stopped starts again after its end.
      if (!driver) await this.drive(account);
      // The row is wrong: this instance was declared dead, or a request to connect came while the account became ready.
      else if (driver.ready && account.status !== 'ready' && !driver.isStopping)
        await this.own.correctToReady(account, driver.readyReason);
    }
  }

  /** Stops a driver in an orderly way. The next reconciliation decides what follows. */
  private async stopDriver(driver: AccountDriver): Promise<void> {
    if (driver.isStopping) return;
    const leaving = this.closeDriver(driver).finally(() => this.leaving.delete(leaving));
    this.leaving.add(leaving);
    await leaving;
    this.reconcile();
  }

  private async closeDriver(driver: AccountDriver): Promise<void> {
    const { id } = driver.account;
    const profile = profileDir(this.config.sessions.dir, id);
    try {
      await driver.stop();
      // This instance holds the account until its browser is certainly gone, however long a busy machine needs.
      while (!(await endBrowsersOn(profile, browserEndMs)))
        this.logger.warn({ accountId: id }, 'a browser does not end; still trying');
      // The account may not come back for a long time, and its caches use disk space.
      await pruneCaches(profile);
    } catch (error) {
      this.logger.warn({ err: error, accountId: id }, 'an account was not released in an orderly way');
    } finally {
      this.forget(driver);
    }
  }

  private forget(driver: AccountDriver): void {
    const { id } = driver.account;
    if (this.drivers.get(id) !== driver) return;
    this.drivers.delete(id);
    this.memory.forget(id);
    this.guardian.unwatch(id);
  }

  /** Closes every browser at once: this process may drive nothing until it has a lease again. */
  private fence(): void {
    const drivers = [...this.drivers.values()];
    this.isFenced = true;
    this.fences += 1;
    this.logger.error({ accounts: drivers.length }, 'the lease is over: closing every session');
    this.fencing = Promise.all([
      ...drivers.map((driver) => driver.stop({ isFence: true, finishSendsMs: 0, closeMs: fenceCloseMs })),
      ...this.leaving,
    ]).then(() => drivers.forEach((driver) => this.forget(driver)));
  }

  /** Another process uses this instance's id now: this process ends. */
  private exit(): void {
    this.logger.fatal({ instanceId: this.config.instance.id }, 'another process runs under this instance id');
    void this.fencing.finally(() => process.exit(1));
  }

  /** Measures the browsers, and restarts those over their memory budget. */
  checkMemory(): Promise<void> {
    return this.memory.check(this.drivers);
  }

  private async drive(account: Account): Promise<void> {
    const { sessions, sandbox } = this.config;
    if (!(await this.own.claim(account)) || !this.lease.held || this.stopping) return;
    await this.guardian.watch(account.id);
    // One report after the other: two parallel reports could be written in the wrong order.
    let reported: Promise<unknown> = Promise.resolve();
    const driver = new AccountDriver({
      account,
      sessionsDir: sessions.dir,
      chromiumPath: this.chromiumPath(),
      deadlines: {
        launchMs: sessions.launchTimeoutMs,
        loadMs: sessions.loadTimeoutMs,
        syncMs: sessions.syncTimeoutMs,
      },
      web: { recheckMs: sessions.webRecheckMs, ignored: sessions.webIgnored },
      openSession: (options) => {
        const session = this.openSession({ ...options, browserSandbox: sessions.browserSandbox });
        session.on('web', (state) => this.keepPage(account, state, session.takeServedPage()));
        this.emit('session', account, session);
        return session;
      },
      snapshots: this.snapshots,
      mayDrive: () => this.lease.held,
      qrTimeoutMs: sessions.qrTimeoutMs,
      forwarder: (browserGroup) => {
        const proxy = account.environment === 'live' ? this.proxies.open(account) : null;
        return (
          proxy &&
          new ProxyForwarder({
            proxy,
            allowPrivate: this.config.allowedPrivateAddresses,
            browserGroup,
            tunnelMs: sessions.proxyTimeoutMs,
            onWarning: (message, error) => this.logger.warn({ err: error, accountId: account.id }, message),
          })
        );
      },
      network: async (proxyPort) => {
        if (account.environment === 'live') return { kind: 'live', proxyPort };
        return { kind: 'sandbox', host: sandbox.host, ...(await this.sandbox.certificate()) };
      },
      webPage: () => this.webVersions.pageFor(account.id),
      admit: (own) => this.own.admit(account, own),
      startSlot: (start) => this.inStartSlot(account, start),
      report: (observation) => {
        const report = reported.then(() => this.own.report(account, observation));
        reported = report.catch(() => undefined);
        return report;
      },
      logger: this.logger,
    });
    driver.on('ready', () => {
      this.emit('ready', { ...account });
      // The next catch-up starts from here.
      account.lastConnectedAt = new Date();
    });
    driver.on('ended', () => this.reconcile());
    this.drivers.set(account.id, driver);
    driver.start();
  }

  /** Keeps the page of a version that an account has loaded, so that other accounts can get it. */
  private keepPage({ environment, id }: Account, { version, contract }: WebState, html: string | null): void {
    if (html === null || version === null || contract !== 'ok') return;
    this.webVersions
      .keep(environment, version, html)
      .catch((error: unknown) =>
        this.logger.warn({ err: error, accountId: id, version }, 'the page of a version was not kept'),
      );
  }

  /** Whether the assignment has changed, or the account now needs another proxy or another way of linking. */
  private isOutdated(driver: AccountDriver, account: Account): boolean {
    return (
      account.epoch !== driver.account.epoch ||
      !this.proxies.areSame(account, driver.account) ||
      hasOtherLinkMethod(account, driver)
    );
  }

  private chromiumPath(): string {
    const path = this.config.sessions.chromiumPath;
    if (path === null)
      throw new Error('No browser was found. Install chromium-headless-shell, or set CHROMIUM_PATH.');
    return path;
  }

  /** Limits how many sessions start at the same time: a start is the most expensive work of an instance. */
  private async inStartSlot<Result>(account: Account, start: () => Promise<Result>): Promise<Result> {
    if (account.lastConnectedAt !== null) await this.restoreAt;
    return this.startSlots(start);
  }
}

function hasOtherLinkMethod(account: Account, driver: AccountDriver): boolean {
  if (driver.ready) return false;
  return (
    account.linkMethod !== driver.account.linkMethod ||
    account.linkPhoneNumber !== driver.account.linkPhoneNumber
  );
}
