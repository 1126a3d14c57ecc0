import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import type { NextFunction, Request, Response } from 'express';
import type { Redis } from 'ioredis';
import { DataSource } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { REDIS } from '../platform/queues/redis.js';

/** How many of the latest requests the response times are taken from. */
const sampleSize = 1_000;
const databaseTimeoutMs = 3_000;
/** How old the counts of accounts may be: anybody may ask for them, as often as they like. */
const countedForMs = 1_000;

interface AccountCounts {
  total: number;
  connected: number;
  connecting: number;
}

export class NotReady extends Problem {
  constructor(reason: string) {
    super(503, 'service.not_ready', `PostgreSQL cannot be used: ${reason}. Has "./flotilla migrate" run?`);
  }
}

/** What the health routes tell. */
@Injectable()
export class HealthService {
  private readonly samples: number[] = [];
  private next = 0;
  private counted: { at: number; counts: Promise<AccountCounts> } | null = null;

  constructor(
    @InjectDataSource() private readonly database: DataSource,
    @Inject(REDIS) private readonly redis: Redis,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  get version(): string {
    return this.config.version;
  }

  /** Express middleware that measures how long requests take. */
  readonly measure = (_request: Request, response: Response, next: NextFunction): void => {
    const started = performance.now();
    response.once('finish', () => {
      this.samples[this.next] = performance.now() - started;
      this.next = (this.next + 1) % sampleSize;
    });
    next();
  };

  /** The accounts of all workspaces, as they were a second ago at the most. */
  accounts(): Promise<AccountCounts> {
    const now = performance.now();
    if (!this.counted || now - this.counted.at > countedForMs)
      this.counted = { at: now, counts: this.countAccounts() };
    return this.counted.counts;
  }

  private async countAccounts(): Promise<AccountCounts> {
    const [row] = await this.database.query(
      `select count(*)::int as total, count(*) filter (where status = 'ready')::int as connected,
         count(*) filter (where status in ('starting', 'qr', 'pairing', 'syncing', 'reconnecting'))::int as connecting
       from accounts`,
    );
    return row;
  }

  /** @throws NotReady naming what is missing */
  async assertReady(): Promise<void> {
    const timeout = AbortSignal.timeout(databaseTimeoutMs);
    const late = new Promise<never>((_resolve, reject) =>
      timeout.addEventListener('abort', () => reject(new Error(`no answer within ${databaseTimeoutMs} ms`)), {
        once: true,
      }),
    );
    try {
      await Promise.race([this.database.query('select 1 from workspaces limit 1'), late]);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new NotReady(reason);
    }
  }

  redisStatus(): string {
    return this.redis.status === 'ready' ? 'ok' : 'unreachable';
  }

  /** Milliseconds over the latest requests of this process. */
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
