import { Inject, Injectable, type OnModuleDestroy } from '@nestjs/common';
import { cpus, freemem, totalmem } from 'node:os';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { StatsService } from './stats.service.js';

/** The sends that ended since the last reading. */
export interface SendCounts {
  ok: number;
  failed: number;
  /** The time of each send, successful or not. */
  durationsMs: number[];
}

/** The values of a sample that only the owner of the sessions knows. */
export interface InstanceReading {
  /** Accounts that the instance should drive. */
  accounts: number;
  /** Accounts that are ready. */
  connected: number;
  /** The memory of the process and its browsers. */
  memoryBytes: number;
  sends: SendCounts;
}

/** How many durations are kept between two readings: above that, the latest replace the oldest. */
const maxDurations = 10_000;

/** Counts sends between two readings. */
export class SendMeter {
  private counts: SendCounts = { ok: 0, failed: 0, durationsMs: [] };

  count(outcome: 'ok' | 'failed', durationMs: number): void {
    const { ok, failed, durationsMs } = this.counts;
    durationsMs[(ok + failed) % maxDurations] = durationMs;
    this.counts[outcome] += 1;
  }

  /** The counts since the last reading. */
  read(): SendCounts {
    const { counts } = this;
    this.counts = { ok: 0, failed: 0, durationsMs: [] };
    return counts;
  }
}

/** The load of the processors of this machine. */
export class MachineCpu {
  private last = totals();

  /** The load since the last call, in percent. */
  percent(): number {
    const now = totals();
    const all = now.all - this.last.all;
    const busy = all - (now.idle - this.last.idle);
    this.last = now;
    return all <= 0 ? 0 : Math.min(100, Math.max(0, (100 * busy) / all));
  }
}

function totals(): { all: number; idle: number } {
  const times = cpus().map((cpu) => cpu.times);
  const all = times.reduce((sum, { user, nice, sys, idle, irq }) => sum + user + nice + sys + idle + irq, 0);
  return { all, idle: times.reduce((sum, { idle }) => sum + idle, 0) };
}

/** How soon after the start the first sample comes, so that operators see a new instance early. */
const firstAfterMs = 5_000;

/** Writes a sample of this instance and its machine every `STATS_INTERVAL_MS`. */
@Injectable()
export class StatsSampler implements OnModuleDestroy {
  private readonly cpu = new MachineCpu();
  private timer: NodeJS.Timeout | undefined;
  private stopped = false;

  constructor(
    private readonly stats: StatsService,
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  /** @param read called for each sample; it must return the sends since its last call */
  start(read: () => InstanceReading | Promise<InstanceReading>): void {
    let last = performance.now();
    const sample = async () => {
      const now = performance.now();
      try {
        await this.stats.record(this.toSample(await read(), (now - last) / 60_000));
      } catch (error) {
        this.logger.warn({ err: error }, 'cannot write a sample; the next sample comes on time');
      }
      last = now;
      if (!this.stopped) this.timer = setTimeout(() => void sample(), this.config.statsIntervalMs).unref();
    };
    this.timer = setTimeout(() => void sample(), Math.min(firstAfterMs, this.config.statsIntervalMs)).unref();
  }

  onModuleDestroy(): void {
    this.stopped = true;
    clearTimeout(this.timer);
  }

  private toSample({ accounts, connected, memoryBytes, sends }: InstanceReading, minutes: number) {
    const ended = sends.ok + sends.failed;
    const sorted = sends.durationsMs.toSorted((a, b) => a - b);
    const mean = sorted.reduce((sum, duration) => sum + duration, 0) / sorted.length;
    return {
      serverId: this.config.server.id,
      instanceId: this.config.instance.id,
      cpu: round(this.cpu.percent()),
      memory: round(100 * (1 - freemem() / totalmem())),
      memoryBytes,
      accounts,
      connected,
      messagesPerMinute: round(ended / minutes),
      errorRate: ended === 0 ? 0 : sends.failed / ended,
      averageResponseTimeMs: sorted.length === 0 ? null : round(mean),
      p95ResponseTimeMs: percentile(sorted, 0.95),
      p99ResponseTimeMs: percentile(sorted, 0.99),
      uptimeSeconds: round(process.uptime()),
    };
  }
}

/** The smallest duration that at least this share of all durations does not exceed. */
function percentile(sorted: number[], share: number): number | null {
  const value = sorted[Math.ceil(share * sorted.length) - 1];
  return value === undefined ? null : round(value);
}

const round = (value: number) => Math.round(value * 10) / 10;
