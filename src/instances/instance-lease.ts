import { Inject, Injectable } from '@nestjs/common';
import { createHash, randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { ImpatientClient } from '../platform/database/impatient-client.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { poll } from '../platform/poll.js';
import { processIdentity, stillRuns } from './process-identity.js';

/** Another running process has the same instance id. */
export class InstanceAlreadyRuns extends Error {
  override name = 'InstanceAlreadyRuns';
  constructor(id: string, where: string) {
    super(
      `Instance ${id} already runs (${where}). Two processes with one id would both drive its accounts. Give each server its own SERVER_ID, and each instance of a server its own INSTANCE_NUMBER.`,
    );
  }
}

export interface InstanceLeaseEvents {
  /** The lease is valid (again): the process may drive accounts. */
  held: [];
  /** The lease ends soon: the process must close all sessions at once. */
  lost: [];
  /** Another process has taken this instance id after the lease ended: this process must exit. */
  replaced: [];
  /** PostgreSQL notifies that an account of this instance has changed. */
  changed: [];
}

/** The timeout of one connection or query, and the pause after a failed renewal. */
const attemptMs = 2_000;
const retryMs = 300;
/** How often the lease of a predecessor that cannot be seen from here is looked at. */
const lookAgainMs = 500;
const goodbyeMs = 500;
/** How often the clock is compared with the end of the lease. */
const watchMs = 100;
/** How long before the end of the lease all browsers must be gone. */
const browsersGoneMs = 1_000;

/**
 * This process's right to drive accounts. An instance owns its accounts only while its lease in PostgreSQL is valid, and must
 * stop before the lease ends. The process counts the lease from the moment before it asks for a renewal, so that its end is
 * never later than the end in PostgreSQL. It uses the monotonic clock, and also the wall clock, because the monotonic clock
 * stops while a machine sleeps.
 *
 * C. Gray, D. Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache consistency", 1989.
 */
@Injectable()
export class InstanceLease extends EventEmitter<InstanceLeaseEvents> {
  /** Identifies this run of the process. Every write carries it, so that late writes of a predecessor change nothing. */
  readonly incarnation = randomUUID();
  private endsAt = { monotonic: -Infinity, wall: -Infinity };
  private isHeld = false;
  private connection: ImpatientClient | null = null;
  private readonly timers: NodeJS.Timeout[] = [];
  private renewing = false;
  private stopped = false;

  /** The load of the process that each renewal reports: bytes, and percent of the machine's processors. */
  measure: () => { memoryBytes: number; cpu: number } = () => ({
    memoryBytes: process.memoryUsage().rss,
    cpu: 0,
  });

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {
    super();
  }

  /** Whether the process may drive accounts at this moment. */
  get held(): boolean {
    return this.isHeld && this.remainingMs() > this.config.instance.stopMarginMs;
  }

  /** When all browsers must be gone if the lease is not renewed: milliseconds of `performance.now()`. */
  get browsersGoneBy(): number {
    return performance.now() + this.remainingMs() - browsersGoneMs;
  }

  /**
   * Takes the lease of this instance id. If the predecessor is seen to be dead, it takes the lease at once, otherwise when
   * the predecessor's lease has ended.
   * @returns how many other instances of this server have started in the last 10 seconds: the place in the order of restoring
   * @throws InstanceAlreadyRuns
   */
  async acquire(): Promise<number> {
    const { id, leaseMs, takeoverMarginMs } = this.config.instance;
    let seen: string | null = null;
    const register = async (): Promise<number | null> => {
      const askedAt = now();
      const outcome = await this.tryToRegister();
      if ('rank' in outcome) {
        this.endsAt = after(askedAt, leaseMs);
        this.isHeld = true;
        this.watch();
        return outcome.rank;
      }
      const where = `process ${outcome.process}, lease until ${outcome.leaseExpiresAt}`;
      if (outcome.runs === true) throw new InstanceAlreadyRuns(id, where);
      if (seen !== null && seen !== outcome.leaseExpiresAt) throw new InstanceAlreadyRuns(id, where);
      if (seen === null) {
        this.logger.warn(
          { instanceId: id, leaseExpiresAt: outcome.leaseExpiresAt, takeoverMarginMs },
          'cannot tell whether the predecessor of this instance runs; waiting for the end of its lease',
        );
      }
      seen = outcome.leaseExpiresAt;
      return null;
    };
    // Without a limit it asks until there is a place.
    return (await poll(register, { pauseMs: lookAgainMs }))!;
  }

  /** Marks this instance as active: it takes accounts from now on. */
  async activate(): Promise<void> {
    await this.query(`update instances set status = 'active' where id = $1 and incarnation = $2`, [
      this.config.instance.id,
      this.incarnation,
    ]);
  }

  /** Gives the lease up, after all sessions are closed: this or another instance may drive the accounts at once. */
  async retire(): Promise<void> {
    this.stop();
    const { id } = this.config.instance;
    try {
      await this.query(
        `with released as (update accounts set held_by = null where held_by = $1
           and exists (select from instances where id = $1 and incarnation = $2))
         update instances set status = 'down', stopped_at = now(), lease_expires_at = now(), pid = null
         where id = $1 and incarnation = $2`,
        [id, this.incarnation],
      );
    } catch (error) {
      this.logger.warn({ err: error }, 'cannot give the lease up; it ends by itself');
    }
    if (this.connection) await this.forget(this.connection);
  }

  private stop(): void {
    this.stopped = true;
    this.isHeld = false;
    this.timers.forEach((timer) => clearInterval(timer));
  }

  private remainingMs(): number {
    return Math.min(this.endsAt.monotonic - performance.now(), this.endsAt.wall - Date.now());
  }

  /** Renews the lease on time, and detects its end even if the timers run late. */
  private watch(): void {
    this.timers.push(setInterval(() => void this.renew(), this.config.instance.renewMs));
    this.timers.push(
      setInterval(() => {
        if (!this.held) this.lose();
      }, watchMs),
    );
  }

  private lose(): void {
    if (!this.isHeld) return;
    this.isHeld = false;
    this.logger.error({ instanceId: this.config.instance.id }, 'the lease was not renewed in time');
    this.emit('lost');
  }

  private async renew(): Promise<void> {
    if (this.renewing) return;
    this.renewing = true;
    const { id, leaseMs } = this.config.instance;
    const { memoryBytes, cpu } = this.measure();
    try {
      const askedAt = now();
      const { rows } = await this.query(
        // If the scheduler has marked this instance as down, the renewal makes it active again, and its server healthy.
        `with before as (select id, server_id, status, lease_expires_at < now() as "wasOver" from instances
             where id = $1 and incarnation = $2 for update),
           healthy as (update servers set is_healthy = true
             where id = (select server_id from before where status = 'down')),
           renewed as (update instances i set lease_expires_at = now() + $3::int * interval '1 millisecond',
             memory_bytes = $4, cpu = $5, status = case when i.status = 'down' then 'active' else i.status end
             from before where i.id = before.id)
         select "wasOver" from before`,
        [id, this.incarnation, leaseMs, memoryBytes, cpu],
      );
      if (this.stopped) return;
      const [before] = rows as { wasOver: boolean }[];
      if (!before) {
        this.lose();
        this.stop();
        this.emit('replaced');
        return;
      }
      // The lease has ended by PostgreSQL's clock but not by ours, as after a pause of the machine: others may drive the accounts.
      if (before.wasOver) this.lose();
      this.endsAt = after(askedAt, leaseMs);
      // The renewal took so long that the new lease has ended too.
      if (this.remainingMs() <= this.config.instance.stopMarginMs) return this.lose();
      this.isHeld = true;
      this.emit('held');
    } catch (error) {
      this.logger.warn({ err: error }, 'cannot renew the lease; trying again');
      if (!this.stopped) setTimeout(() => void this.renew(), retryMs).unref();
    } finally {
      this.renewing = false;
    }
  }

  private async tryToRegister(): Promise<
    { rank: number } | { process: string; leaseExpiresAt: string; runs: boolean | undefined }
  > {
    const { server, instance } = this.config;
    await this.query('begin');
    try {
      await this.query(
        `insert into servers (id, name, max_capacity) values ($1, $1, $2) on conflict (id) do nothing`,
        [server.id, instance.count * instance.maxAccounts],
      );
      const { rows } = await this.query(
        `select process, lease_expires_at::text as "leaseExpiresAt",
           stopped_at is null and lease_expires_at + $2::int * interval '1 millisecond' > clock_timestamp() as "isLive"
         from instances where id = $1 for update`,
        [instance.id, instance.takeoverMarginMs],
      );
      const predecessor = rows[0] as
        { process: string | null; leaseExpiresAt: string; isLive: boolean } | undefined;
      if (predecessor?.isLive && predecessor.process !== null) {
        const runs = stillRuns(predecessor.process);
        if (runs !== false) {
          await this.query('rollback');
          return { process: predecessor.process, leaseExpiresAt: predecessor.leaseExpiresAt, runs };
        }
      }
      const { rows: registered } = await this.query(
        `insert into instances (id, server_id, url, pid, process, version, status, lease_expires_at, max_accounts,
           started_at, incarnation, turn)
         values ($1, $2, $3, $4, $5, $6, 'starting', clock_timestamp() + $7::int * interval '1 millisecond', $8, now(), $9,
           (select coalesce(max(turn), 0) from instances where status = 'active'))
         on conflict (id) do update set server_id = excluded.server_id, url = excluded.url, pid = excluded.pid,
           process = excluded.process, version = excluded.version, status = 'starting', stopped_at = null,
           lease_expires_at = excluded.lease_expires_at, max_accounts = excluded.max_accounts,
           started_at = excluded.started_at, incarnation = excluded.incarnation,
           turn = greatest(instances.turn, excluded.turn)
         returning (select count(*)::int from instances other where other.server_id = $2 and other.id <> $1
           and other.started_at > now() - interval '10 seconds' and other.lease_expires_at > now()) as rank`,
        [
          instance.id,
          server.id,
          instance.url,
          process.pid,
          processIdentity(),
          this.config.version,
          instance.leaseMs,
          instance.maxAccounts,
          this.incarnation,
        ],
      );
      await this.query('commit');
      return { rank: (registered[0] as { rank: number }).rank };
    } catch (error) {
      await this.query('rollback').catch(() => undefined);
      throw error;
    }
  }

  /** Uses a connection of its own, because a busy pool must not cost the lease. It abandons a connection that hangs. */
  private async query(text: string, values: unknown[] = []) {
    const connection = (this.connection ??= await this.connect());
    try {
      return await connection.query(text, values);
    } catch (error) {
      // An SQL error has a code of five characters, and the connection stays usable.
      const isSqlError = (error as { code?: string }).code?.length === 5;
      if (!isSqlError && this.connection === connection) void this.forget(connection);
      throw error;
    }
  }

  private async connect(): Promise<ImpatientClient> {
    const connection = new ImpatientClient({
      connectionString: this.config.database.url,
      application_name: `flotilla ${this.config.instance.id}`,
      connectionTimeoutMillis: attemptMs,
      query_timeout: attemptMs,
    });
    connection.on('error', (error) => {
      this.logger.warn({ err: error }, 'the connection of the lease broke');
      void this.forget(connection);
    });
    connection.on('notification', () => this.emit('changed'));
    try {
      await connection.connect();
      await connection.query(`listen instance_${md5(this.config.instance.id)}`);
    } catch (error) {
      void this.forget(connection);
      throw error;
    }
    return connection;
  }

  /** Ends a connection, and does not wait if it hangs. */
  private async forget(connection: ImpatientClient): Promise<void> {
    if (this.connection === connection) this.connection = null;
    await Promise.race([
      connection
        .end()
        .catch((error: unknown) => this.logger.debug({ err: error }, 'a connection did not end')),
      delay(goodbyeMs, undefined, { ref: false }),
    ]);
    connection.giveUp();
  }
}

interface Moment {
  monotonic: number;
  wall: number;
}

function md5(text: string): string {
  return createHash('md5').update(text).digest('hex');
}

function now(): Moment {
  return { monotonic: performance.now(), wall: Date.now() };
}

function after({ monotonic, wall }: Moment, ms: number): Moment {
  return { monotonic: monotonic + ms, wall: wall + ms };
}
