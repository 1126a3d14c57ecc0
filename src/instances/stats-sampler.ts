import { Inject, Injectable, type OnModuleDestroy } from '@nestjs/common';
import { cpus, freemem, totalmem } from 'node:os';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { StatsService } from './stats.service.js';

/** The sends that ended since they were last read. */
export interface SendCounts {
  ok: number;
  failed: number;
  /** How long each took, successful or not. */
  durationsMs: number[];
}

/** What only the owner of the sessions knows. */
export interface InstanceReading {
  /** Accounts that it is to drive. */
  accounts: number;
  /** Accounts that are ready. */
  connected: number;
  /** Of the process with its browsers. */
  memoryBytes: number;
  sends: SendCounts;
}

/** More durations than this between two readings are not kept: the latest replace the oldest. */
const durationsAtMost = 10_000;

/** Counts sends between two readings. */
export class SendMeter {
  private counts: SendCounts = { ok: 0, failed: 0, durationsMs: [] };

  count(outcome: 'ok' | 'failed', durationMs: number): void {
    const { ok, failed, durationsMs } = this.counts;
    durationsMs[(ok + failed) % durationsAtMost] = durationMs;
    this.counts[outcome] += 1;
  }

  /** What was counted since the last reading. */
  read(): SendCounts {
    const { counts } = this;
    this.counts = { ok: 0, failed: 0, durationsMs: [] };
    return counts;
  }
}

/** How busy the processors of this machine are. */
export class MachineCpu {
  private last = totals();

  /** Percent, since it was last asked. */
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

/** The first sample comes this soon after the start, so that a new instance is seen at once. */
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

  /** @param read asked for each sample; the sends that it tells must be those since it was asked before */
  start(read: () => InstanceReading | Promise<InstanceReading>): void {
    let last = performance.now();
    const sample = async () => {
      const now = performance.now();
      try {
        await this.stats.record(this.toSample(await read(), (now - last) / 60_000));
      } catch (error) {
        this.logger.warn({ err: error }, 'a sample could not be written; the next one is due as usual');
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

/** The smallest duration that at least this share of all does not exceed. */
function percentile(sorted: number[], share: number): number | null {
  const value = sorted[Math.ceil(share * sorted.length) - 1];
  return value === undefined ? null : round(value);
}

const round = (value: number) => Math.round(value * 10) / 10;
