import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import type { NextFunction, Request, Response } from 'express';
import type { Redis } from 'ioredis';
import { DataSource } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { REDIS } from '../platform/queues/redis.js';

/** The response times are taken from this number of latest requests. */
const sampleSize = 1_000;
const databaseTimeoutMs = 3_000;
/** The maximum age of the counts of accounts. A cache is needed because everybody may ask for them at any rate. */
const countsCacheMs = 1_000;

interface AccountCounts {
  total: number;
  connected: number;
  connecting: number;
  /** Connected accounts whose page of WhatsApp Web lacks what sending needs. */
  webIncompatible: number;
}

export class NotReady extends Problem {
  constructor(cause?: unknown) {
    super(
      503,
      'service.not_ready',
      'PostgreSQL cannot be used. Check that PostgreSQL is running, and run "./flotilla migrate". The log has the reason.',
    );
    this.cause = cause;
  }
}

/** The data of the health routes. */
@Injectable()
export class HealthService {
  private readonly samples: number[] = [];
  private next = 0;
  private cached: { at: number; counts: Promise<AccountCounts> } | null = null;

  constructor(
    @InjectDataSource() private readonly database: DataSource,
    @Inject(REDIS) private readonly redis: Redis,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  get version(): string {
    return this.config.version;
  }

  /** Express middleware that measures response times. */
  readonly measure = (_request: Request, response: Response, next: NextFunction): void => {
    const started = performance.now();
    response.once('finish', () => {
      this.samples[this.next] = performance.now() - started;
      this.next = (this.next + 1) % sampleSize;
    });
    next();
  };

  /** The number of accounts of all workspaces. It is at most a second old. */
  accounts(): Promise<AccountCounts> {
    const now = performance.now();
    if (!this.cached || now - this.cached.at > countsCacheMs)
      this.cached = { at: now, counts: this.countAccounts() };
    return this.cached.counts;
  }

  private async countAccounts(): Promise<AccountCounts> {
    const [row]: [AccountCounts] = await this.database.query(
      `select count(*)::int as total, count(*) filter (where status = 'ready')::int as connected,
         count(*) filter (where status in ('starting', 'qr', 'pairing', 'syncing', 'reconnecting'))::int as connecting,
         count(*) filter (where web_contract = 'broken' and status in ('syncing', 'ready'))::int as "webIncompatible"
       from accounts`,
    );
    return row;
  }

  /** @returns the counts of accounts. @throws NotReady with the reason */
  async assertReady(): Promise<AccountCounts> {
    const timeout = AbortSignal.timeout(databaseTimeoutMs);
    const late = new Promise<never>((_resolve, reject) =>
      timeout.addEventListener('abort', () => reject(new Error(`no answer within ${databaseTimeoutMs} ms`)), {
        once: true,
      }),
    );
    try {
      const counted = this.database.query('select 1 from workspaces limit 1').then(() => this.accounts());
      return await Promise.race([counted, late]);
    } catch (error) {
      throw new NotReady(error);
    }
  }

  redisStatus(): string {
    return this.redis.status === 'ready' ? 'ok' : 'unreachable';
  }

  /** Response times of the latest requests of this process, in milliseconds. */
  responseTimes(): { avgResponseTime: number; p95ResponseTime: number; p99ResponseTime: number } {
    const sorted = [...this.samples].sort((a, b) => a - b);
    const at = (share: number) =>
      Math.round((sorted[Math.floor(share * (sorted.length - 1))] ?? 0) * 10) / 10;
    const mean = sorted.reduce((sum, value) => sum + value, 0) / (sorted.length || 1);
    return {
      avgResponseTime: Math.round(mean * 10) / 10,
      p95ResponseTime: at(0.95),
      p99ResponseTime: at(0.99),
    };
  }
}
