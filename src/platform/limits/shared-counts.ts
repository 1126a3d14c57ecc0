import { type BeforeApplicationShutdown, Inject, Injectable, Optional } from '@nestjs/common';
import type { Redis } from 'ioredis';
import { randomUUID } from 'node:crypto';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.module.js';
import { asPlatform } from '../context.js';
import type { Logger } from '../logging/logger.js';
import { LOGGER } from '../logging/logging.module.js';
import { pause } from '../pause.js';
import { REDIS } from '../queues/redis.js';

/** How often this process exchanges its counts with the others. */
const intervalMs = 1_000;
/** The shortest pause between two exchanges. */
const urgentMs = 25;
/** A count that has changed by this share of its limit is exchanged at once. */
const urgentShare = 0.05;
/** How long Redis keeps the present count of a process that died. */
const presentTtlMs = 3 * intervalMs;
/** After this time without an answer, the log says that Redis is away. */
const silenceMs = 2 * intervalMs;
/** A window that ends within this time is not exchanged any more. */
const endingMs = 50;
/** How many counts one script exchanges, so that it does not hold up Redis. */
const batchSize = 250;

/** A count of this process, and the sum of the counts that all other processes have under the same id. */
export interface SharedCount {
  readonly id: string;
  /** `window`: what happened since the window began. `present`: what is there now. */
  readonly kind: 'window' | 'present';
  readonly limit: number;
  own: number;
  others: number;
  /** When the window ends, on the clock of `performance.now()`. The first process that counts decides it for all. */
  endsAt: number;
  /** The value of `own` that the other processes know. */
  known: number;
}

/**
 * Shares counts between processes, through Redis but not in the path of a request: a process counts in its memory. About once a
 * second it writes its own counts and reads the sums, in one round trip for all counts. A count that runs towards its limit is
 * exchanged earlier. So a limit may be exceeded by what happens between two exchanges. While Redis is away, each process counts
 * alone. Each process writes its total, not the increase, so a repeated write and a flushed Redis do no harm.
 */
@Injectable()
export class SharedCounts implements BeforeApplicationShutdown {
  private readonly process = randomUUID();
  private readonly prefix: string;
  /** Counts that have changed since the last exchange. */
  private readonly changed = new Set<SharedCount>();
  /** Present counts above 0: Redis forgets them if they are not written again. */
  private readonly present = new Set<SharedCount>();
  private timer: NodeJS.Timeout | null = null;
  /** When the timer fires; Infinity without a timer. */
  private dueAt = Infinity;
  private exchangedAt = -Infinity;
  /** When Redis last answered. */
  private answeredAt = performance.now();
  private exchange: Promise<void> | null = null;
  private isAlone = false;
  private isStopped = false;

  constructor(
    @Inject(CONFIG) { database }: Pick<Config, 'database'>,
    @Inject(LOGGER) private readonly logger: Logger,
    @Optional() @Inject(REDIS) private readonly redis?: Redis,
  ) {
    // Two systems with databases of their own do not share counts, even if they share a Redis.
    const name = URL.canParse(database.url) ? new URL(database.url).pathname.slice(1) : '';
    this.prefix = `flotilla:counts:${name}:`;
  }

  /** Tells the other processes about a changed count. */
  touch(count: SharedCount): void {
    if (!this.redis || this.isStopped) return;
    this.changed.add(count);
    if (count.kind === 'present') {
      if (count.own > 0) this.present.add(count);
      else this.present.delete(count);
    }
    this.plan(isUrgent(count));
  }

  /** Takes the present counts of this process back, so that the next process does not meet them. */
  async beforeApplicationShutdown(): Promise<void> {
    this.isStopped = true;
    if (this.timer) clearTimeout(this.timer);
    const finish = async () => {
      await this.exchange;
      for (const count of this.present) {
        count.own = 0;
        this.changed.add(count);
      }
      this.present.clear();
      if (this.changed.size > 0) await this.exchangeOnce();
    };
    await Promise.race([finish(), pause(silenceMs, { ref: false })]);
  }

  /** Sets the timer of the next exchange. */
  private plan(isSoon: boolean): void {
    if (this.exchange || this.isStopped || (this.changed.size === 0 && this.present.size === 0)) return;
    const dueAt = this.exchangedAt + (isSoon && !this.isAlone ? urgentMs : intervalMs);
    if (dueAt >= this.dueAt) return;
    if (this.timer) clearTimeout(this.timer);
    this.dueAt = dueAt;
    // The exchange serves every request, not the one that sets the timer.
    this.timer = asPlatform(() => setTimeout(() => this.begin(), Math.max(0, dueAt - performance.now())));
    this.timer.unref();
  }

  private begin(): void {
    this.timer = null;
    this.dueAt = Infinity;
    this.exchange = this.exchangeOnce().finally(() => {
      this.exchange = null;
      this.exchangedAt = performance.now();
      this.plan([...this.changed].some(isUrgent));
    });
  }

  private async exchangeOnce(): Promise<void> {
    const redis = this.redis!;
    const now = performance.now();
    // A window that ends before Redis reads this would count in the next window.
    for (const count of this.changed) if (count.endsAt - now < endingMs) this.changed.delete(count);
    if (redis.status !== 'ready') {
      // A program that has just started may still be connecting.
      if (now - this.answeredAt > silenceMs) this.tellAlone('there is no connection');
      return;
    }
    const counts = [...new Set([...this.changed, ...this.present])];
    this.changed.clear();
    if (counts.length === 0) return;
    const slow = setTimeout(() => this.tellAlone('there is no answer'), silenceMs);
    slow.unref();
    const written = counts.map(({ own }) => own);
    try {
      const pipeline = redis.pipeline();
      for (let start = 0; start < counts.length; start += batchSize) {
        const batch = counts.slice(start, start + batchSize);
        pipeline.eval(
          script,
          batch.length,
          ...batch.map(({ id }) => this.prefix + id),
          this.process,
          ...batch.flatMap(({ kind, own, endsAt }) => [
            kind,
            own,
            Math.max(1, Math.ceil(kind === 'window' ? endsAt - now : presentTtlMs)),
          ]),
        );
      }
      const answers = (await pipeline.exec()) ?? [];
      const sums = answers.flatMap(([error, sum]) => {
        if (error) throw error;
        return sum as number[];
      });
      const answeredAt = (this.answeredAt = performance.now());
      counts.forEach((count, index) => {
        count.known = written[index]!;
        count.others = Math.max(0, sums[2 * index]! - count.known);
        if (count.kind === 'window') count.endsAt = answeredAt + sums[2 * index + 1]!;
      });
      if (this.isAlone) this.logger.info('limits are counted for all API processes together again');
      this.isAlone = false;
    } catch (error) {
      for (const count of counts) this.changed.add(count);
      this.tellAlone((error as Error).message);
    } finally {
      clearTimeout(slow);
    }
  }

  private tellAlone(reason: string): void {
    if (!this.isAlone)
      this.logger.warn({ err: reason }, 'Redis does not answer; this process counts limits alone');
    this.isAlone = true;
  }
}

function isUrgent({ own, known, limit }: SharedCount): boolean {
  return Math.abs(own - known) >= limit * urgentShare;
}

/**
 * Each id is a hash: process → its count. A present count also has the time after which it no longer counts.
 * KEYS: the ids. ARGV: the process, and for each id: kind, count, time to live in milliseconds.
 * Returns for each id: the sum of all processes, and the milliseconds until the id expires.
 */
const script = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answers = {}
for index, id in ipairs(KEYS) do
  local kind, own, ttl = ARGV[3 * index - 1], ARGV[3 * index], tonumber(ARGV[3 * index + 1])
  local sum = 0
  if kind == 'window' then
    redis.call('HSET', id, ARGV[1], own)
    if redis.call('PTTL', id) < 0 then redis.call('PEXPIRE', id, ttl) end
    for _, count in ipairs(redis.call('HVALS', id)) do sum = sum + tonumber(count) end
  else
    if own == '0' then redis.call('HDEL', id, ARGV[1])
    else redis.call('HSET', id, ARGV[1], own .. ' ' .. string.format('%.0f', now + ttl)) end
    local entries = redis.call('HGETALL', id)
    for entry = 1, #entries, 2 do
      local count, ends = string.match(entries[entry + 1], '^(%d+) (%d+)$')
      if tonumber(ends) > now then sum = sum + tonumber(count)
      else redis.call('HDEL', id, entries[entry]) end
    end
    redis.call('PEXPIRE', id, ttl)
  end
  answers[2 * index - 1], answers[2 * index] = sum, redis.call('PTTL', id)
end
return answers`;
