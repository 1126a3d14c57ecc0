import { LRUCache } from 'lru-cache';
import type { Config } from '../config/config.js';
import type { Logger } from '../logging/logger.js';
import { Notifications } from './notifications.js';

/**
 * How long what was read is believed without asking the database. A change is heard of at once; this is the longest that
 * something outdated is believed when the connection on which that is heard is broken.
 */
const keptMs = 2_000;
const keptAtMost = 10_000;

/** What was read of the database, until a channel tells that it has changed. */
export class ReadCache<Value extends object> {
  private readonly kept = new LRUCache<string, Value>({ max: keptAtMost, ttl: keptMs });
  /** Grows whenever something has changed: what was read before then is not kept. */
  private changes = 0;
  private readonly followers: ((changed: string | null) => void)[] = [];
  private readonly notifications: Notifications;

  /** @param concerns whether what the channel tells has changed is what is kept under this id */
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

  /** Calls `follow` with what has changed, in whatever process; null: something may have, unheard. */
  onChange(follow: (changed: string | null) => void): void {
    this.followers.push(follow);
  }

  /** Begins to listen, if it does not yet. */
  start(): void {
    this.notifications.start();
  }

  stop(): Promise<void> {
    return this.notifications.stop();
  }

  /** What is kept under an id, or else what `read` finds; null is not kept. */
  async get(id: string, read: () => Promise<Value | null>): Promise<Value | null> {
    const known = this.kept.get(id);
    if (known) return known;
    this.start();
    const { changes } = this;
    const value = await read();
    if (value === null) return null;
    if (changes === this.changes) this.kept.set(id, value);
    return value;
  }

  private forget(changed: string | null): void {
    this.changes += 1;
    // Of a copy: entries are deleted meanwhile.
    for (const [id, value] of [...this.kept])
      if (changed === null || this.concerns(changed, id, value)) this.kept.delete(id);
    for (const follow of this.followers) follow(changed);
  }
}
