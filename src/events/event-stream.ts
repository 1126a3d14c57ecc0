import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { asPlatform } from '../platform/database/isolation.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { AuthenticationService } from '../workspaces/authentication.service.js';
import pLimit from 'p-limit';
import { linkingEvents, matchesPattern } from './event-types.js';
import { compareCursors, EventsService, type PublicEvent } from './events.service.js';

/** How often the log is read while a stream is open; also how late an event may be. */
const pollMs = 150;
const batchSize = 500;
/** How many streams read past events at once: after a restart all streams reconnect together. */
const maxConcurrentCatchUps = 4;
/** A listener that is this many events behind is disconnected: it resumes with `Last-Event-ID`. */
const maxBacklog = 2_000;

interface Listener {
  workspaceId: string | undefined;
  /** The key that opened the stream; undefined for the admin key. */
  keyId: string | undefined;
  matches: (type: string) => boolean;
  /** Writes an event in its wire format. Returns false if the listener cannot take more. */
  deliver: (text: string) => boolean;
  close: () => void;
  /** Events that came while the listener still reads past events; null after that. */
  pending: PublicEvent[] | null;
  /** Resolves when a listener that reads past events can take more. */
  drained: () => Promise<void>;
  isClosed: boolean;
}

/** Reads the event log once for all streams of this process. */
@Injectable()
export class EventStream implements OnApplicationShutdown {
  private readonly listeners = new Set<Listener>();
  /** The same listeners by workspace; undefined: the listeners of all workspaces. */
  private readonly byWorkspace = new Map<string | undefined, Set<Listener>>();
  private readonly reads = pLimit(maxConcurrentCatchUps);
  private cursor = '';
  /** Resolves when `cursor` is the place where the present listeners begin: the same place for all. Null without listeners. */
  private following: Promise<void> | null = null;
  private timer: NodeJS.Timeout | null = null;

  constructor(
    private readonly events: EventsService,
    @Inject(LOGGER) private readonly logger: Logger,
    authentication: AuthenticationService,
  ) {
    // A client whose key still works reconnects at once and resumes where it was.
    authentication.onChange((keyId) => this.end(keyId));
  }

  /**
   * Delivers events from now on, or from `after` on, until the returned function is called. A listener without `after` first
   * gets the present place in the log, so that it can resume there even if its stream breaks before the first event.
   * `types` are patterns such as `message.*`; an empty list means every type. `withCodes` includes the codes that link accounts.
   * @throws InvalidEventCursor
   */
  async subscribe(
    options: {
      workspaceId: string | undefined;
      keyId: string | undefined;
      types: string[];
      after: string | undefined;
      withCodes: boolean;
    },
    { deliver, drained, close }: Pick<Listener, 'deliver' | 'drained' | 'close'>,
  ): Promise<() => void> {
    const listener: Listener = {
      workspaceId: options.workspaceId,
      keyId: options.keyId,
      matches: typeMatcher(options.types, options.withCodes),
      deliver,
      drained,
      close,
      pending: [],
      isClosed: false,
    };
    this.add(listener);
    const unsubscribe = () => this.remove(listener);
    try {
      await (this.following ??= this.follow());
      if (options.after === undefined) listener.deliver(`id: ${this.cursor}\n\n`);
      await this.catchUp(listener, options.after ?? this.cursor, options.after !== undefined);
    } catch (error) {
      unsubscribe();
      throw error;
    }
    return unsubscribe;
  }

  onApplicationShutdown(): void {
    for (const listener of [...this.listeners]) this.disconnect(listener);
    if (this.timer) clearTimeout(this.timer);
  }

  /** Ends the streams of a key that was deleted or changed; null: of every key, because the key is not known. */
  private end(keyId: string | null): void {
    for (const listener of [...this.listeners]) {
      if (listener.keyId !== undefined && (keyId === null || listener.keyId === keyId))
        this.disconnect(listener);
    }
  }

  private async follow(): Promise<void> {
    try {
      this.cursor = await asPlatform(() => this.events.end());
    } catch (error) {
      this.following = null;
      throw error;
    }
    this.schedule();
  }

  /** Delivers the events after a place in the log if `isPast`, and then the events that came meanwhile. */
  private async catchUp(listener: Listener, after: string, isPast: boolean): Promise<void> {
    let cursor = after;
    while (isPast && !listener.isClosed) {
      const from = cursor;
      const batch = await this.reads(() => this.events.readAfter(from, batchSize, listener.workspaceId));
      for (const event of batch) {
        if (listener.isClosed) return;
        // Past events wait for a slow listener. A listener that is too slow for new events is disconnected.
        if (listener.matches(event.type) && !listener.deliver(toText(event))) await listener.drained();
      }
      cursor = batch.at(-1)?.cursor ?? cursor;
      if (batch.length < batchSize) break;
    }
    const pending = listener.pending ?? [];
    listener.pending = null;
    for (const event of pending) {
      if (compareCursors(event.cursor, cursor) > 0) this.offer(listener, event);
    }
  }

  private schedule(): void {
    if (this.listeners.size === 0) {
      this.following = null;
      return;
    }
    this.timer = setTimeout(() => {
      this.timer = null;
      // The timer belongs to the request of the first listener, but the poll serves all listeners.
      void asPlatform(() => this.poll()).finally(() => this.schedule());
    }, pollMs);
  }

  private async poll(): Promise<void> {
    try {
      let batch: PublicEvent[];
      do {
        batch = await this.events.readAfter(this.cursor, batchSize);
        for (const event of batch) this.publish(event);
        this.cursor = batch.at(-1)?.cursor ?? this.cursor;
      } while (batch.length === batchSize);
    } catch (error) {
      this.logger.warn({ err: error }, 'the event log cannot be read; trying again');
    }
  }

  private publish(event: PublicEvent): void {
    const recipients = [...(this.byWorkspace.get(event.workspaceId ?? undefined) ?? [])];
    if (event.workspaceId !== null) recipients.push(...(this.byWorkspace.get(undefined) ?? []));
    for (const listener of recipients) {
      if (!listener.pending) this.offer(listener, event);
      else if (listener.pending.length < maxBacklog) listener.pending.push(event);
      else this.disconnect(listener);
    }
  }

  private offer(listener: Listener, event: PublicEvent): void {
    if (listener.isClosed || !listener.matches(event.type)) return;
    if (!listener.deliver(textOf(event))) this.disconnect(listener);
  }

  private disconnect(listener: Listener): void {
    this.remove(listener);
    listener.close();
  }

  private remove(listener: Listener): void {
    listener.isClosed = true;
    this.listeners.delete(listener);
    const others = this.byWorkspace.get(listener.workspaceId);
    others?.delete(listener);
    if (others?.size === 0) this.byWorkspace.delete(listener.workspaceId);
  }

  private add(listener: Listener): void {
    this.listeners.add(listener);
    const others = this.byWorkspace.get(listener.workspaceId);
    if (others) others.add(listener);
    else this.byWorkspace.set(listener.workspaceId, new Set([listener]));
  }
}

/** The wire format of an event is the same for all listeners. */
const texts = new WeakMap<PublicEvent, string>();

function textOf(event: PublicEvent): string {
  const known = texts.get(event);
  if (known !== undefined) return known;
  const text = toText(event);
  texts.set(event, text);
  return text;
}

function toText(event: PublicEvent): string {
  const data = JSON.stringify({
    id: event.cursor,
    type: event.type,
    createdAt: event.createdAt,
    workspaceId: event.workspaceId,
    accountId: event.accountId,
    data: event.data,
  });
  return `id: ${event.cursor}\nevent: ${event.type}\ndata: ${data}\n\n`;
}

function typeMatcher(patterns: string[], withCodes: boolean): (type: string) => boolean {
  const isOpen = (type: string) => withCodes || !linkingEvents.includes(type);
  if (patterns.length === 0) return isOpen;
  return (type) => isOpen(type) && patterns.some((pattern) => matchesPattern(type, pattern));
}
