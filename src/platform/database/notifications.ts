import type { Config } from '../config/config.js';
import type { Logger } from '../logging/logger.js';
import { pause } from '../pause.js';
import { ImpatientClient } from './impatient-client.js';
import { asPlatform } from '../context.js';

const attemptMs = 3_000;
const heartbeatMs = 10_000;
const pauseMs = 1_000;

/** `heard` gets each notification. `missed` is called when some notifications may have been lost, because there was no connection. */
export interface NotificationHandlers {
  heard: (channel: string, payload: string) => void;
  missed: () => void;
}

/**
 * Listens to the notifications of `pg_notify` on some channels, over its own connection, which reconnects without end.
 * Notifications are hints for caches and may be late: correctness must not depend on them.
 */
export class Notifications {
  private readonly stopped = new AbortController();
  private running: Promise<void> | null = null;

  constructor(
    private readonly config: Config,
    private readonly logger: Logger,
    private readonly channels: string[],
    private readonly handlers: NotificationHandlers,
  ) {}

  /** Starts to listen, if it does not listen yet. */
  start(): void {
    if (!this.stopped.signal.aborted) this.running ??= asPlatform(() => this.run());
  }

  async stop(): Promise<void> {
    this.stopped.abort();
    await this.running;
  }

  private async run(): Promise<void> {
    while (!this.stopped.signal.aborted) {
      try {
        await this.listenOnce();
      } catch (error) {
        this.logger.warn({ err: error, channels: this.channels }, 'cannot listen for changes; retrying');
      }
      await pause(pauseMs, { signal: this.stopped.signal, ref: false });
    }
  }

  /** Listens until the connection breaks or this process stops. */
  private async listenOnce(): Promise<void> {
    const connection = new ImpatientClient({
      connectionString: this.config.database.url,
      application_name: `flotilla ${this.config.environment}, ${this.channels.join()}`,
      connectionTimeoutMillis: attemptMs,
      query_timeout: attemptMs,
    });
    const lost = new AbortController();
    connection.on('error', () => lost.abort());
    connection.on('end', () => lost.abort());
    const until = AbortSignal.any([lost.signal, this.stopped.signal]);
    connection.on('notification', ({ channel, payload = '' }) => this.handlers.heard(channel, payload));
    try {
      await connection.connect();
      for (const channel of this.channels) await connection.query(`listen ${channel}`);
      // Only after `listen`: a change between an earlier read and this moment was not notified.
      this.handlers.missed();
      while (!until.aborted) {
        await connection.query('select 1');
        await pause(heartbeatMs, { signal: until, ref: false });
      }
    } finally {
      connection.giveUp();
    }
  }
}
