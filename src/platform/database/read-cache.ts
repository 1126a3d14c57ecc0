import { LRUCache } from 'lru-cache';
import type { Config } from '../config/config.js';
import type { Logger } from '../logging/logger.js';
import { Notifications } from './notifications.js';

/**
 * How long an entry is valid. A notification removes a changed entry at once. This limit holds while the connection for
 * notifications is broken: no entry is outdated for longer.
 */
const ttlMs = 2_000;
const maxEntries = 10_000;

/** A cache of values read from the database. A notification on its channel removes changed values. */
export class ReadCache<Value extends object> {
  private readonly entries = new LRUCache<string, Value>({ max: maxEntries, ttl: ttlMs });
  /** The reads that go on: a thousand callers that miss the same entry cause one read. */
  private readonly reads = new Map<string, Promise<Value | null>>();
  /** Grows with every change. A value that was read before a change and arrives after it is not kept. */
  private changes = 0;
  private readonly listeners: ((changed: string | null) => void)[] = [];
  private readonly notifications: Notifications;

  /** @param concerns whether a notification (`changed`) is about the value that is kept under an id */
  constructor(
    config: Config,
    logger: Logger,
    channel: string,
    private readonly concerns: (changed: string, id: string, value: Value) => boolean,
  ) {
    this.notifications = new Notifications(config, logger, [channel], {
      heard: (_channel, changed) => this.forget(changed),
      missed: () => this.forget(null),
    });
  }

  /** Calls `listener` with each notification, from any process. Null means that notifications may have been lost. */
  onChange(listener: (changed: string | null) => void): void {
    this.listeners.push(listener);
  }

  /** Starts to listen, if it does not listen yet. */
  start(): void {
    this.notifications.start();
  }

  stop(): Promise<void> {
    return this.notifications.stop();
  }

  /** The value that is kept under an id, otherwise the result of `read`. Null is not kept. */
  async get(id: string, read: () => Promise<Value | null>): Promise<Value | null> {
    const cached = this.entries.get(id);
    if (cached) return cached;
    this.start();
    const going = this.reads.get(id);
    if (going) return going;
    const reading = this.read(id, read);
    this.reads.set(id, reading);
    try {
      return await reading;
    } finally {
      if (this.reads.get(id) === reading) this.reads.delete(id);
    }
  }

  private async read(id: string, read: () => Promise<Value | null>): Promise<Value | null> {
    const { changes } = this;
    const value = await read();
    if (value !== null && changes === this.changes) this.entries.set(id, value);
    return value;
  }

  private forget(changed: string | null): void {
    this.changes += 1;
    // A read that began before the change may return what was before it.
    this.reads.clear();
    // A copy, because the loop deletes entries.
    for (const [id, value] of [...this.entries])
      if (changed === null || this.concerns(changed, id, value)) this.entries.delete(id);
    for (const listener of this.listeners) listener(changed);
  }
}
