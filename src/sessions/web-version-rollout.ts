import { randomBytes } from 'node:crypto';
import { Inject, Injectable, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { type WantedPage, WebVersionsService } from '../accounts/web-versions.service.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import type { AccountDriver } from './account-driver.js';
import { AccountSessions } from './account-sessions.js';

const everyMs = 2_000;
/** The next account moves when the last one is ready, or after this time. */
const moveMs = 2 * 60_000;
/** How long WhatsApp may take for a message of a canary to itself, and the pause before the next one. */
const selfTestMs = 30_000;
const selfTestPauseMs = 60_000;

/**
 * Applies the policy of WhatsApp Web versions to the accounts of this instance. A page is given to a running browser without a
 * restart, for its next load. An account that has another version restarts: one healthy account at a time, and accounts that cannot
 * send anyway at once.
 */
@Injectable()
export class WebVersionRollout implements OnApplicationBootstrap, OnModuleDestroy {
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> = Promise.resolve();
  private isStopped = false;
  private moving: { driver: AccountDriver; since: number } | null = null;
  private readonly selfTests = new LRUCache<string, true>({ max: 1_000, ttl: selfTestPauseMs });

  constructor(
    private readonly sessions: AccountSessions,
    private readonly versions: WebVersionsService,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  onApplicationBootstrap(): void {
    this.schedule();
  }

  /** Writes the last counts. */
  async onModuleDestroy(): Promise<void> {
    this.isStopped = true;
    clearTimeout(this.timer);
    await this.running;
    await this.writeCounts();
  }

  private schedule(): void {
    if (this.isStopped) return;
    this.timer = setTimeout(() => {
      this.running = this.run()
        .catch((error: unknown) =>
          this.logger.warn({ err: error }, 'the policy of versions was not applied; trying again'),
        )
        .then(() => this.schedule());
    }, everyMs).unref();
  }

  /** One round. @throws if PostgreSQL or a page does not answer */
  async run(): Promise<void> {
    await this.writeCounts();
    const drivers = new Map(this.sessions.all.map((driver) => [driver.account.id, driver]));
    if (drivers.size === 0) return;
    const wanted = await this.versions.wanted([...drivers.keys()]);
    for (const want of wanted) {
      const driver = drivers.get(want.id)!;
      await this.apply(driver, want);
      if (want.needsSelfTest && driver.ready) void this.testOnItself(driver, want);
    }
    this.moveNext(drivers, wanted);
  }

  /** Gives the page for the next load, and restarts an account that cannot send with its present page. */
  private async apply(driver: AccountDriver, { environment, version }: WantedPage): Promise<void> {
    if (driver.isGivenOther(version))
      await driver.give(version === null ? null : await this.versions.page(environment, version));
    const isBroken = driver.holdReason !== null;
    if ((driver.isPausing || isBroken) && driver.needsPage(version, isBroken)) driver.restart('web_version');
  }

  /** Restarts the next healthy account that has another version, if the last one is healthy again. */
  private moveNext(drivers: ReadonlyMap<string, AccountDriver>, wanted: WantedPage[]): void {
    // An account that has left this instance holds no others back.
    if (this.moving && drivers.get(this.moving.driver.account.id) !== this.moving.driver) this.moving = null;
    const { moving } = this;
    if (moving && !moving.driver.ready && performance.now() < moving.since + moveMs) return;
    // The version is no better for the other accounts.
    if (moving && moving.driver.holdReason !== null) return;
    this.moving = null;
    for (const { id, version } of wanted) {
      const driver = drivers.get(id)!;
      if (!driver.ready || !driver.needsPage(version, false)) continue;
      this.logger.info({ accountId: id, version, from: driver.webVersion }, 'restarting for another version');
      this.moving = { driver, since: performance.now() };
      driver.restart('web_version');
      return;
    }
  }

  /** Sends a message of a canary to itself: a new version must prove that it can send. */
  private async testOnItself(driver: AccountDriver, { id, environment }: WantedPage): Promise<void> {
    const version = driver.webVersion;
    const key = `${id} ${version}`;
    if (version === null || this.selfTests.has(key)) return;
    this.selfTests.set(key, true);
    try {
      const whatsappId = `3EB0${randomBytes(9).toString('hex').toUpperCase()}`;
      await this.versions.useId(id, whatsappId);
      const result = await driver.current.sendToItself(
        `Flotilla checks version ${version} of WhatsApp Web.`,
        whatsappId,
        selfTestMs,
      );
      const isProven = result.outcome === 'known' && result.ack > 0 && !result.isUnfound;
      if (isProven) await this.versions.selfSent(environment, version);
      else this.logger.warn({ accountId: id, version, result }, 'a canary could not write to itself');
    } catch (error) {
      this.logger.warn({ err: error, accountId: id, version }, 'a canary could not write to itself');
    }
  }

  private async writeCounts(): Promise<void> {
    const counts = this.sessions.sendCounts.take();
    while (counts.length > 0) {
      const { environment, version, sends, failures } = counts[0]!;
      try {
        await this.versions.count(environment, version, sends, failures);
      } catch (error) {
        this.sessions.sendCounts.putBack(counts);
        throw error;
      }
      counts.shift();
    }
  }
}
