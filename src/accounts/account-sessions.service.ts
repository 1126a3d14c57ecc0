import { Inject, Injectable, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { EventEmitter } from 'node:events';
import { Client as PgClient } from 'pg';
import { In, Not, Repository } from 'typeorm';
import { InstancesService } from '../instances/instances.service.js';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import type { PageMessage } from '../whatsapp/page-functions.js';
import { AccountDriver, type AccountObservation } from './account-driver.js';
import { Account, drivenStatuses } from './account.entity.js';
import { SandboxClient } from './sandbox-client.js';

/** Covers a notification that was lost. */
const pollMs = 3_000;
const leaseRenewalMs = 2_000;

export class AccountNotDrivenHere extends Problem {
  constructor(id: string, epoch?: number) {
    super(
      409,
      'account.not_driven_here',
      `This instance does not drive account ${id}${epoch === undefined ? '' : ` at epoch ${epoch}`}.`,
    );
  }
}

export class SessionNotReady extends Problem {
  constructor(id: string) {
    super(503, 'account.session_not_ready', `The session of account ${id} is not ready on its instance yet.`);
  }
}

/** What the sessions of this instance tell; the listeners of `messages/` write it down. */
export interface AccountSessionEvents {
  ready: [account: Account];
  ack: [account: Account, ack: { whatsappId: string; ack: number }];
  message: [account: Account, message: PageMessage];
}

/**
 * Drives the accounts that are assigned to this instance: what their rows want is compared with what runs here, whenever
 * PostgreSQL notifies and every few seconds besides.
 */
@Injectable()
export class AccountSessions
  extends EventEmitter<AccountSessionEvents>
  implements OnApplicationBootstrap, OnModuleDestroy
{
  private readonly drivers = new Map<string, AccountDriver>();
  private readonly timers: NodeJS.Timeout[] = [];
  private listener: PgClient | null = null;
  private reconciling: Promise<void> = Promise.resolve();
  private reconcileQueued = false;
  private stopping = false;
  private startsRunning = 0;
  private readonly startQueue: (() => void)[] = [];

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
    @InjectRepository(Account) private readonly accounts: Repository<Account>,
    private readonly instances: InstancesService,
    private readonly sandbox: SandboxClient,
  ) {
    super();
  }

  /** How many sessions are ready, and how many are run. */
  get counts(): { ready: number; total: number } {
    const drivers = [...this.drivers.values()];
    return { ready: drivers.filter((driver) => driver.ready).length, total: drivers.length };
  }

  async onApplicationBootstrap(): Promise<void> {
    await this.instances.register();
    // Nothing runs yet: what the row says of a session that a dead predecessor had is no longer so.
    await this.accounts.update(
      {
        instanceId: this.config.instance.id,
        desiredState: 'connected',
        status: In([...drivenStatuses, 'reconnecting']),
      },
      { status: 'starting', statusReason: 'instance_restart', qr: null, pairingCode: null },
    );
    await this.listen();
    this.timers.push(setInterval(() => this.reconcile(), pollMs));
    this.timers.push(
      setInterval(() => {
        this.instances
          .renewLease(process.memoryUsage().rss)
          .catch((error: unknown) => this.logger.error({ err: error }, 'the lease could not be renewed'));
      }, leaseRenewalMs),
    );
    this.reconcile();
  }

  /**
   * Lets running sends finish, closes every browser, so that the profiles are whole, and says that this instance is gone.
   * In the first phase of the shutdown: what the sessions told last is written down in the next one.
   */
  async onModuleDestroy(): Promise<void> {
    this.stopping = true;
    this.timers.forEach((timer) => clearInterval(timer));
    await this.listener
      ?.end()
      .catch((error: unknown) => this.logger.debug({ err: error }, 'listener did not end'));
    await this.reconciling;
    await Promise.all([...this.drivers.values()].map((driver) => driver.stop()));
    await this.accounts.update(
      { instanceId: this.config.instance.id, desiredState: 'connected', status: In(drivenStatuses) },
      { status: 'reconnecting', statusReason: 'instance_restart', qr: null, pairingCode: null },
    );
    await this.instances.retire();
  }

  /**
   * The driver of an account, for a caller that knows at which epoch this instance owns it.
   * @throws AccountNotDrivenHere
   */
  driver(id: string, epoch?: number): AccountDriver {
    const driver = this.drivers.get(id);
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
        if (!this.stopping) await this.reconcileNow();
      } catch (error) {
        this.logger.error({ err: error }, 'the accounts of this instance could not be read; trying again');
      }
    });
  }

  private async reconcileNow(): Promise<void> {
    const wanted = await this.accounts.find({
      where: {
        instanceId: this.config.instance.id,
        desiredState: 'connected',
        status: Not(In(['waiting', 'conflict', 'failed', 'logged_out', 'disconnected'])),
      },
      order: { id: 'ASC' },
    });
    const byId = new Map(wanted.map((account) => [account.id, account]));
    const outdated = [...this.drivers.values()].filter((driver) => {
      const account = byId.get(driver.account.id);
      return (
        !account ||
        driver.hasEnded ||
        account.epoch !== driver.account.epoch ||
        linksOtherwise(account, driver)
      );
    });
    await Promise.all(
      outdated.map(async (driver) => {
        await driver.stop();
        this.drivers.delete(driver.account.id);
      }),
    );
    for (const account of wanted) {
      const driver = this.drivers.get(account.id);
      if (!driver) this.drive(account);
      // Somebody took this instance for dead, or asked to connect at the moment in which the account became ready.
      else if (driver.ready && account.status !== 'ready') await this.sayReady(account);
    }
  }

  private async sayReady({ id, epoch, status }: Account): Promise<void> {
    await this.accounts.update(
      { id, instanceId: this.config.instance.id, epoch, status, desiredState: 'connected' },
      { status: 'ready', statusReason: null },
    );
  }

  private drive(account: Account): void {
    const { sessions, sandbox } = this.config;
    // One report after the other: two at once could be written in the wrong order.
    let reported: Promise<unknown> = Promise.resolve();
    const driver = new AccountDriver({
      account,
      sessionsDir: sessions.dir,
      chromiumPath: this.chromiumPath(),
      startTimeoutMs: sessions.startTimeoutMs,
      qrTimeoutMs: sessions.qrTimeoutMs,
      network: async () => {
        if (account.environment === 'live') return { kind: 'live', proxyUrl: account.proxyUrl };
        return { kind: 'sandbox', host: sandbox.host, ...(await this.sandbox.certificate()) };
      },
      startSlot: (start) => this.inStartSlot(start),
      report: (observation) => {
        const report = reported.then(() => this.report(account, observation));
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
    driver.on('ack', (ack) => this.emit('ack', account, ack));
    driver.on('message', (message) => this.emit('message', account, message));
    this.drivers.set(account.id, driver);
    driver.start();
  }

  private chromiumPath(): string {
    const path = this.config.sessions.chromiumPath;
    if (path === null)
      throw new Error('No browser was found. Install chromium-headless-shell, or set CHROMIUM_PATH.');
    return path;
  }

  /** Writes what is seen of an account, if this instance still owns it at this epoch. */
  private async report(account: Account, seen: AccountObservation): Promise<boolean> {
    const inMs = (ms: number) => new Date(Date.now() + ms);
    const result = await this.accounts.update(
      {
        id: account.id,
        instanceId: this.config.instance.id,
        epoch: account.epoch,
        desiredState: 'connected',
      },
      {
        status: seen.status,
        statusReason: seen.statusReason,
        qr: seen.qr?.value ?? null,
        qrExpiresAt: seen.qr ? inMs(seen.qr.expiresInMs) : null,
        pairingCode: seen.pairingCode?.value ?? null,
        pairingCodeExpiresAt: seen.pairingCode ? inMs(seen.pairingCode.expiresInMs) : null,
        ...(seen.desiredState ? { desiredState: seen.desiredState } : {}),
        // Without credentials there is nothing to own: the next connect may place the account anywhere.
        ...(seen.status === 'logged_out' ? { instanceId: null } : {}),
        ...(seen.phoneNumber ? { phoneNumber: seen.phoneNumber } : {}),
        ...(seen.lid ? { lid: seen.lid } : {}),
        ...(seen.connected ? { lastConnectedAt: new Date() } : {}),
      },
    );
    return (result.affected ?? 0) > 0;
  }

  /** At most so many sessions start at once: a start is the most expensive thing that an instance does. */
  private async inStartSlot<Result>(start: () => Promise<Result>): Promise<Result> {
    if (this.startsRunning >= this.config.sessions.startConcurrency) {
      await new Promise<void>((resolve) => this.startQueue.push(resolve));
    }
    this.startsRunning += 1;
    try {
      return await start();
    } finally {
      this.startsRunning -= 1;
      this.startQueue.shift()?.();
    }
  }

  /** Hears of changed accounts as they are committed; the poll covers the time in which it cannot. */
  private async listen(): Promise<void> {
    const listener = new PgClient({
      connectionString: this.config.database.url,
      connectionTimeoutMillis: 10_000,
    });
    listener.on('notification', ({ payload }) => {
      if (payload === this.config.instance.id) this.reconcile();
    });
    listener.on('error', (error) => this.logger.warn({ err: error }, 'the listening connection broke'));
    listener.on('end', () => {
      if (this.stopping || this.listener !== listener) return;
      setTimeout(
        () =>
          void this.listen().catch((error: unknown) =>
            this.logger.warn({ err: error }, 'listening failed; polling'),
          ),
        1_000,
      );
    });
    this.listener = listener;
    await listener.connect();
    await listener.query('listen flotilla_accounts');
  }
}

function linksOtherwise(account: Account, driver: AccountDriver): boolean {
  if (driver.ready) return false;
  return (
    account.linkMethod !== driver.account.linkMethod ||
    account.linkPhoneNumber !== driver.account.linkPhoneNumber
  );
}
