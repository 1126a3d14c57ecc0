import { Inject, Injectable, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.module.js';
import { ImpatientClient } from '../database/impatient-client.js';
import type { Logger } from '../logging/logger.js';
import { LOGGER } from '../logging/logging.module.js';
import { pause } from '../pause.js';

/** Something that the leading scheduler does again and again. Doing it twice at once must be harmless. */
export interface ScheduledTask {
  readonly name: string;
  readonly everyMs: number;
  run(): Promise<unknown>;
}

/** Injection token of the {@link ScheduledTask}s of this process. */
export const SCHEDULED_TASKS = Symbol('SCHEDULED_TASKS');

/** Any number that nothing else in this database locks. */
const leaderLock = 3_310_947_265;
const candidacyMs = 1_000;
/** How often the leader asks whether PostgreSQL still hears it, and how long that may take. */
const heartbeatMs = 3_000;

/**
 * Runs the tasks on one leader: the scheduler whose database session holds an advisory lock. When that process dies its
 * session ends, and another one leads a second later; when its machine is gone, PostgreSQL notices within seconds.
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
        this.logger.warn({ err: error }, 'cannot lead now; trying again');
      }
      await pause(candidacyMs, { signal: this.stopped.signal });
    }
  }

  /** Leads until the session that holds the lock ends or this process stops. */
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
      const { rows } = await session.query('select pg_try_advisory_lock($1) as leads', [leaderLock]);
      if (!rows[0].leads) return;
      this.logger.info({ tasks: this.tasks.map(({ name }) => name) }, 'scheduler leads');
      const until = AbortSignal.any([lost.signal, this.stopped.signal]);
      heartbeat = setInterval(() => void session.query('select 1').catch(() => lost.abort()), heartbeatMs);
      await Promise.all(this.tasks.map((task) => this.repeat(task, until)));
    } finally {
      clearInterval(heartbeat);
      await session
        .end()
        .catch((error: unknown) => this.logger.debug({ err: error }, 'the leading session did not end'));
    }
  }

  private async repeat(task: ScheduledTask, until: AbortSignal): Promise<void> {
    while (!until.aborted) {
      const started = Date.now();
      try {
        await task.run();
      } catch (error) {
        this.logger.error({ err: error, task: task.name }, 'a task failed; it runs again');
      }
      await pause(Math.max(20, task.everyMs - (Date.now() - started)), { signal: until });
    }
  }
}
