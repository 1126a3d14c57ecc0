import { Inject, Injectable, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.module.js';
import { ImpatientClient } from '../database/impatient-client.js';
import type { Logger } from '../logging/logger.js';
import { LOGGER } from '../logging/logging.module.js';
import { pause } from '../pause.js';

/** A task that the leading scheduler repeats. Two runs at the same time must be harmless. */
export interface ScheduledTask {
  readonly name: string;
  /** The time from the start of one run to the start of the next. */
  readonly everyMs: number;
  run(): Promise<unknown>;
}

/** Injection token of the {@link ScheduledTask}s of this process. */
export const SCHEDULED_TASKS = Symbol('SCHEDULED_TASKS');

/** An arbitrary number. No other advisory lock in this database may use it. */
const leaderLock = 3_310_947_265;
const candidacyMs = 1_000;
/** How often the leader checks its connection to PostgreSQL, and how long a check may take. */
const heartbeatMs = 3_000;

/**
 * Runs the tasks on one leader: the scheduler whose database session holds an advisory lock. When the leader's process dies,
 * its session ends, and another scheduler becomes leader within a second. When its machine dies, PostgreSQL notices within
 * seconds.
 */
@Injectable()
export class SchedulerService implements OnApplicationBootstrap, OnModuleDestroy {
  private readonly stopped = new AbortController();
  private running: Promise<void> | null = null;

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
    @Inject(SCHEDULED_TASKS) private readonly tasks: ScheduledTask[],
  ) {}

  onApplicationBootstrap(): void {
    this.running = this.run();
  }

  async onModuleDestroy(): Promise<void> {
    this.stopped.abort();
    await this.running;
  }

  private async run(): Promise<void> {
    while (!this.stopped.signal.aborted) {
      try {
        await this.leadOnce();
      } catch (error) {
        this.logger.warn({ err: error }, 'leader election failed; retrying');
      }
      await pause(candidacyMs, { signal: this.stopped.signal });
    }
  }

  /** Tries to become leader. The leader leads until its session ends or this process stops. */
  private async leadOnce(): Promise<void> {
    const session = new ImpatientClient({
      connectionString: this.config.database.url,
      connectionTimeoutMillis: 10_000,
      query_timeout: heartbeatMs,
    });
    const lost = new AbortController();
    let heartbeat: NodeJS.Timeout | undefined;
    session.on('error', () => lost.abort());
    session.on('end', () => lost.abort());
    await session.connect();
    try {
      const { rows } = await session.query<{ leads: boolean }>('select pg_try_advisory_lock($1) as leads', [
        leaderLock,
      ]);
      if (!rows[0]!.leads) return;
      this.logger.info({ tasks: this.tasks.map(({ name }) => name) }, 'scheduler became leader');
      const until = AbortSignal.any([lost.signal, this.stopped.signal]);
      heartbeat = setInterval(() => void session.query('select 1').catch(() => lost.abort()), heartbeatMs);
      await Promise.all(this.tasks.map((task) => this.repeat(task, until)));
    } finally {
      clearInterval(heartbeat);
      await session
        .end()
        .catch((error: unknown) =>
          this.logger.debug({ err: error }, 'the session of the leader did not end'),
        );
    }
  }

  private async repeat(task: ScheduledTask, until: AbortSignal): Promise<void> {
    while (!until.aborted) {
      const started = Date.now();
      try {
        await task.run();
      } catch (error) {
        this.logger.error({ err: error, task: task.name }, 'task failed; it runs again later');
      }
      await pause(Math.max(20, task.everyMs - (Date.now() - started)), { signal: until });
    }
  }
}
