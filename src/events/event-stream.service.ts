import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { asPlatform } from '../platform/database/isolation.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { compareCursors, EventsService, linkingEvents, type PublicEvent } from './events.service.js';

/** How often the log is read while somebody listens; also how late an event may be. */
const pollMs = 150;
const batchSize = 500;
/** A listener that falls this far behind is cut off: it resumes with `Last-Event-ID`. */
const maxBacklog = 2_000;

interface Listener {
  workspaceId: string | undefined;
  matches: (type: string) => boolean;
  /** Returns false when the listener can take no more. */
  deliver: (event: PublicEvent) => boolean;
  close: () => void;
  /** Events that came while the listener was still reading the past. */
  pending: PublicEvent[] | null;
  /** Resolves when a listener that reads the past can take more. */
  drained: () => Promise<void>;
  isClosed: boolean;
}

/** Follows the event log once for all the streams of this process. */
@Injectable()
export class EventStream implements OnApplicationShutdown {
  private readonly listeners = new Set<Listener>();
  private cursor = '';
  private timer: NodeJS.Timeout | null = null;
  private reading = false;

  constructor(
    private readonly events: EventsService,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  /**
   * Delivers what happens from now on, or from `after` on, until the returned function is called.
   * `types` are patterns such as `message.*`, none means every type; `withCodes` lets the codes for linking through.
   * @throws InvalidEventCursor
   */
  async subscribe(
    options: {
      workspaceId: string | undefined;
      types: string[];
      after: string | undefined;
      withCodes: boolean;
    },
    { deliver, drained, close }: Pick<Listener, 'deliver' | 'drained' | 'close'>,
  ): Promise<() => void> {
    const listener: Listener = {
      workspaceId: options.workspaceId,
      matches: typeMatcher(options.types, options.withCodes),
      deliver,
      drained,
      close,
      pending: [],
      isClosed: false,
    };
    if (this.listeners.size === 0 && !this.reading) this.cursor = await this.events.end();
    this.listeners.add(listener);
    this.schedule();
    const unsubscribe = () => this.remove(listener);
    try {
      await this.catchUp(listener, options.after);
    } catch (error) {
      unsubscribe();
      throw error;
    }
    return unsubscribe;
  }

  onApplicationShutdown(): void {
    for (const listener of [...this.listeners]) this.cutOff(listener);
    if (this.timer) clearTimeout(this.timer);
  }

  private async catchUp(listener: Listener, after: string | undefined): Promise<void> {
    let cursor = after;
    while (cursor !== undefined && !listener.isClosed) {
      const batch = await this.events.readAfter(cursor, batchSize, listener.workspaceId);
      for (const event of batch) {
        if (listener.isClosed) return;
        // Who reads the past is waited for; who cannot keep up with the present is cut off.
        if (listener.matches(event.type) && !listener.deliver(event)) await listener.drained();
      }
      if (batch.length < batchSize) {
        cursor = batch.at(-1)?.cursor ?? cursor;
        break;
      }
      cursor = batch.at(-1)!.cursor;
    }
    const pending = listener.pending ?? [];
    listener.pending = null;
    for (const event of pending) {
      if (cursor === undefined || compareCursors(event.cursor, cursor) > 0) this.offer(listener, event);
    }
  }

  private schedule(): void {
    if (this.timer || this.listeners.size === 0) return;
    this.timer = setTimeout(() => {
      this.timer = null;
      // The first listener has caused it, but it serves them all.
      void asPlatform(() => this.poll()).finally(() => this.schedule());
    }, pollMs);
  }

  private async poll(): Promise<void> {
    if (this.reading) return;
    this.reading = true;
    try {
      let batch: PublicEvent[];
      do {
        batch = await this.events.readAfter(this.cursor, batchSize);
        for (const event of batch) this.publish(event);
        this.cursor = batch.at(-1)?.cursor ?? this.cursor;
      } while (batch.length === batchSize);
    } catch (error) {
      this.logger.warn({ err: error }, 'the event log could not be read; trying again');
    } finally {
      this.reading = false;
    }
  }

  private publish(event: PublicEvent): void {
    for (const listener of this.listeners) {
      if (listener.workspaceId !== undefined && listener.workspaceId !== event.workspaceId) continue;
      if (!listener.pending) this.offer(listener, event);
      else if (listener.pending.length < maxBacklog) listener.pending.push(event);
      else this.cutOff(listener);
    }
  }

  private offer(listener: Listener, event: PublicEvent): void {
    if (listener.isClosed || !listener.matches(event.type)) return;
    if (!listener.deliver(event)) this.cutOff(listener);
  }

  private cutOff(listener: Listener): void {
    this.remove(listener);
    listener.close();
  }

  private remove(listener: Listener): void {
    listener.isClosed = true;
    this.listeners.delete(listener);
  }
}

function typeMatcher(patterns: string[], withCodes: boolean): (type: string) => boolean {
  const isOpen = (type: string) => withCodes || !linkingEvents.includes(type);
  if (patterns.length === 0) return isOpen;
  return (type) =>
    isOpen(type) &&
    patterns.some((pattern) =>
      pattern.endsWith('*') ? type.startsWith(pattern.slice(0, -1)) : type === pattern,
    );
}
