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
import { endBrowsersOn } from '../whatsapp/browser/processes.js';
import { profileDir } from '../whatsapp/browser/profile.js';
import { pruneCaches } from '../whatsapp/browser/archive.js';
import type { SessionOptions } from '../whatsapp/session-events.js';
import type { WhatsAppSession } from '../whatsapp/whatsapp-session.js';
import { AccountDriver } from './account-driver.js';
import { AccountNotDrivenHere, SessionNotReady } from '../accounts/account-errors.js';
import { type Account, drivenStatuses } from '../accounts/account.entity.js';
import { OwnAccounts } from './own-accounts.js';
import { SessionSnapshots } from './session-snapshots.js';
import { SandboxClient } from '../accounts/sandbox-client.js';

/** Covers a notification that was lost. */
const pollMs = 2_000;
const memoryCheckMs = 30_000;
/** How long a browser may take to close when the lease is over, before its process group is killed. */
const fenceCloseMs = 1_000;
/** How long a browser that was told to end is waited for before it is killed again. */
const goneMs = 5_000;

/** What the sessions of this instance do. Listeners follow each session from its start. */
export interface AccountSessionEvents {
  /** A session starts. Its own events follow; see SessionEvents. */
  session: [account: Account, session: WhatsAppSession];
  ready: [account: Account];
}

/** How an account's session is opened: in a browser, unless a simulated fleet says otherwise. */
export const OPEN_SESSION = Symbol('OPEN_SESSION');
export type OpenSession = (options: SessionOptions) => WhatsAppSession;

/**
 * Drives the accounts that are assigned to this instance: what their rows want is compared with what runs here, whenever
 * PostgreSQL notifies and every few seconds besides. Nothing runs without a good lease, and no account is driven before its
 * last holder has let go of it.
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
  /** Since the lease was lost; `fencing` ends when every browser is closed. */
  private isFenced = false;
  private fencing: Promise<void> = Promise.resolve();
  private fences = 0;
  /** Drivers that are being stopped in good order. */
  private readonly leaving = new Set<Promise<void>>();
  private stopping = false;
  private readonly startSlots: LimitFunction;
  /** When restored sessions may start: instances of a server that start together take turns. */
  private restoreAt: Promise<void> = Promise.resolve();
  private readonly memory = new Map<string, { bytes: number; isOverBudget: boolean }>();

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
    private readonly own: OwnAccounts,
    private readonly lease: InstanceLease,
    private readonly servers: ServersService,
    private readonly snapshots: SessionSnapshots,
    private readonly sandbox: SandboxClient,
    @Inject(OPEN_SESSION) private readonly openSession: OpenSession,
  ) {
    super();
    this.startSlots = pLimit(config.sessions.startConcurrency);
    this.guardian = new BrowserGuardian({
      sessionsDir: config.sessions.dir,
      // The build puts it there; this program itself is one file, dist/instance.mjs.
      script: join(projectRoot, 'dist/src/whatsapp/browser/guardian.sh'),
      onWarning: (message, error) => logger.warn({ err: error }, message),
    });
  }

  /** How many sessions are ready, and how many are run. */
  get counts(): { ready: number; total: number } {
    const drivers = [...this.drivers.values()];
    return { ready: drivers.filter((driver) => driver.ready).length, total: drivers.length };
  }

  /** What this process and its browsers use, in bytes: the latest measurement. */
  get memoryBytes(): number {
    return [...this.memory.values()].reduce((sum, { bytes }) => sum + bytes, process.memoryUsage().rss);
  }

  /** @throws InstanceAlreadyRuns */
  async onApplicationBootstrap(): Promise<void> {
    const cpu = new MachineCpu();
    // Without a browser every account would wait for one for ever.
    this.chromiumPath();
    const rank = await this.lease.acquire();
    await this.servers.register();
    // Nothing runs yet: what the row says of a session that a dead predecessor had is no longer so.
    await this.own.setAll([...drivenStatuses, 'reconnecting'], 'starting');
    this.restoreAt = delay(rank * this.config.instance.staggerMs, undefined, { ref: false });
    this.lease.measure = () => ({ memoryBytes: this.memoryBytes, cpu: cpu.percent() });
    this.guardian.extend(this.lease.browsersGoneBy);
    this.lease.on('held', () => {
      this.guardian.extend(this.lease.browsersGoneBy);
      // After a fence nothing runs: start again what is still ours.
      if (this.isFenced) this.reconcile();
      this.isFenced = false;
    });
    this.lease.on('lost', () => this.fence());
    this.lease.on('replaced', () => this.end());
    this.lease.on('changed', () => this.reconcile());
    this.timers.push(setInterval(() => this.reconcile(), pollMs));
    this.timers.push(setInterval(() => void this.checkMemory(), memoryCheckMs));
    await this.lease.activate();
    this.reconcile();
  }

  /**
   * Lets running sends finish, closes every browser, so that the profiles are whole, and says that this instance is gone.
   * In the first phase of the shutdown: what the sessions told last is written down in the next one.
   */
  async onModuleDestroy(): Promise<void> {
    this.stopping = true;
    this.timers.forEach((timer) => clearInterval(timer));
    await this.reconciling;
    await Promise.all([...this.drivers.values()].map((driver) => driver.stop()));
    await this.own.setAll(drivenStatuses, 'reconnecting');
    await this.lease.retire();
    await this.guardian.close();
  }

  /**
   * The driver of an account, for a caller that knows at which epoch this instance owns it.
   * @throws AccountNotDrivenHere
   */
  driver(id: string, epoch?: number): AccountDriver {
    const driver = this.lease.held ? this.drivers.get(id) : undefined;
    if (!driver || (epoch !== undefined && driver.account.epoch !== epoch))
      throw new AccountNotDrivenHere(id, epoch);
    return driver;
  }

  /** The driver of an account whose session is ready. @throws AccountNotDrivenHere, SessionNotReady */
  readyDriver(id: string, epoch?: number): AccountDriver {
    const driver = this.driver(id, epoch);
    if (!driver.ready) throw new SessionNotReady(id);
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
      if (!account || driver.hasEnded || isOutdated(driver, account)) void this.letGo(driver);
    }
    await this.own.release([...this.drivers.keys()]);
    for (const account of wanted) {
      // Everything was closed meanwhile: what was read is of before.
      if (fences !== this.fences) return;
      const driver = this.drivers.get(account.id);
      // One that is being stopped is started again when it has ended.
      if (!driver) await this.drive(account);
      // Somebody took this instance for dead, or asked to connect at the moment in which the account became ready.
      else if (driver.ready && account.status !== 'ready' && !driver.isStopping)
        await this.own.sayReady(account);
    }
  }

  /** Stops a driver in good order; what follows is up to the next look at the rows. */
  private async letGo(driver: AccountDriver): Promise<void> {
    if (driver.isStopping) return;
    const leaving = this.close(driver).finally(() => this.leaving.delete(leaving));
    this.leaving.add(leaving);
    await leaving;
    this.reconcile();
  }

  private async close(driver: AccountDriver): Promise<void> {
    const { id } = driver.account;
    const profile = profileDir(this.config.sessions.dir, id);
    try {
      await driver.stop();
      // The account stays held until its browser is certainly gone, however long a busy machine takes for that.
      while (!(await endBrowsersOn(profile, goneMs)))
        this.logger.warn({ accountId: id }, 'a browser does not end; still trying');
      // It may not come back here for long, and its caches are somebody's disk.
      await pruneCaches(profile);
    } catch (error) {
      this.logger.warn({ err: error, accountId: id }, 'an account was not let go of in good order');
    } finally {
      this.forget(driver);
    }
  }

  private forget(driver: AccountDriver): void {
    const { id } = driver.account;
    if (this.drivers.get(id) !== driver) return;
    this.drivers.delete(id);
    this.memory.delete(id);
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

  /** Another process has this instance's id now. */
  private end(): void {
    this.logger.fatal({ instanceId: this.config.instance.id }, 'another process runs under this instance id');
    void this.fencing.finally(() => process.exit(1));
  }

  /** Starts the sessions anew whose browsers have grown beyond their budget, once that has been seen twice. */
  async checkMemory(): Promise<void> {
    for (const [id, driver] of this.drivers) {
      if (!driver.ready) continue;
      const bytes = await driver.current.memoryBytes().catch((error: unknown) => {
        this.logger.debug({ err: error, accountId: id }, 'the memory of a browser could not be read');
        return null;
      });
      if (bytes === null || !this.drivers.has(id)) continue;
      const isOverBudget = bytes > this.config.sessions.memoryBudgetBytes;
      if (isOverBudget && this.memory.get(id)?.isOverBudget) {
        this.logger.warn({ accountId: id, bytes }, 'the browser has outgrown its budget: starting it anew');
        this.memory.delete(id);
        driver.restart('memory_budget');
      } else {
        this.memory.set(id, { bytes, isOverBudget });
      }
    }
  }

  private async drive(account: Account): Promise<void> {
    const { sessions, sandbox } = this.config;
    if (!(await this.own.claim(account)) || !this.lease.held || this.stopping) return;
    await this.guardian.watch(account.id);
    // One report after the other: two at once could be written in the wrong order.
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
      openSession: (options) => {
        const session = this.openSession(options);
        this.emit('session', account, session);
        return session;
      },
      snapshots: this.snapshots,
      mayDrive: () => this.lease.held,
      qrTimeoutMs: sessions.qrTimeoutMs,
      network: async () => {
        if (account.environment === 'live') return { kind: 'live', proxyUrl: account.proxyUrl };
        return { kind: 'sandbox', host: sandbox.host, ...(await this.sandbox.certificate()) };
      },
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
      // What comes from now on and is missed is caught up from here.
      account.lastConnectedAt = new Date();
    });
    driver.on('ended', () => this.reconcile());
    this.drivers.set(account.id, driver);
    driver.start();
  }

  private chromiumPath(): string {
    const path = this.config.sessions.chromiumPath;
    if (path === null)
      throw new Error('No browser was found. Install chromium-headless-shell, or set CHROMIUM_PATH.');
    return path;
  }

  /** At most so many sessions start at once: a start is the most expensive thing that an instance does. */
  private async inStartSlot<Result>(account: Account, start: () => Promise<Result>): Promise<Result> {
    if (account.lastConnectedAt !== null) await this.restoreAt;
    return this.startSlots(start);
  }
}

/** Whether the account is another's by now, or is to be reached in another way than this driver does. */
function isOutdated(driver: AccountDriver, account: Account): boolean {
  return (
    account.epoch !== driver.account.epoch ||
    account.proxyUrl !== driver.account.proxyUrl ||
    linksOtherwise(account, driver)
  );
}

function linksOtherwise(account: Account, driver: AccountDriver): boolean {
  if (driver.ready) return false;
  return (
    account.linkMethod !== driver.account.linkMethod ||
    account.linkPhoneNumber !== driver.account.linkPhoneNumber
  );
}
