import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { asPlatform } from '../platform/database/isolation.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { AuthenticationService } from '../workspaces/authentication.service.js';
import pLimit from 'p-limit';
import { linkingEvents, matchesPattern } from './event-types.js';
import { compareCursors, EventsService, type PublicEvent } from './events.service.js';

/** How often the log is read while somebody listens; also how late an event may be. */
const pollMs = 150;
const batchSize = 500;
/** How many streams read the past at once: after a restart all of them come back together. */
const catchUpsAtOnce = 4;
/** A listener that falls this far behind is cut off: it resumes with `Last-Event-ID`. */
const maxBacklog = 2_000;

interface Listener {
  workspaceId: string | undefined;
  /** The key by which it was let in. */
  keyId: string | undefined;
  matches: (type: string) => boolean;
  /** Takes an event as it is on the wire. Returns false when the listener can take no more. */
  deliver: (text: string) => boolean;
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
  /** The same by their workspace: an event concerns the streams of one. */
  private readonly byWorkspace = new Map<string | undefined, Set<Listener>>();
  private readonly reads = pLimit(catchUpsAtOnce);
  private cursor = '';
  /** Resolves once `cursor` is where the first of those who listen now began: one beginning for all. Null: nobody listens. */
  private following: Promise<void> | null = null;
  private timer: NodeJS.Timeout | null = null;

  constructor(
    private readonly events: EventsService,
    @Inject(LOGGER) private readonly logger: Logger,
    authentication: AuthenticationService,
  ) {
    // One whose key still works comes back at once, and goes on where it was.
    authentication.onChange((keyId) => this.end(keyId));
  }

  /**
   * Delivers what happens from now on, or from `after` on, until the returned function is called. Who begins now is first told
   * the place where that is, so that it resumes there even if nothing has happened before its stream breaks.
   * `types` are patterns such as `message.*`, none means every type; `withCodes` lets the codes for linking through.
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
    for (const listener of [...this.listeners]) this.cutOff(listener);
    if (this.timer) clearTimeout(this.timer);
  }

  /** Ends the streams of a key that was deleted or changed; null: of every key, since it may have been any. */
  private end(keyId: string | null): void {
    for (const listener of [...this.listeners]) {
      if (listener.keyId !== undefined && (keyId === null || listener.keyId === keyId)) this.cutOff(listener);
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

  /** Tells a listener what happened after a place in the log, as far as that `isPast`, and then what has waited meanwhile. */
  private async catchUp(listener: Listener, after: string, isPast: boolean): Promise<void> {
    let cursor = after;
    while (isPast && !listener.isClosed) {
      const from = cursor;
      const batch = await this.reads(() => this.events.readAfter(from, batchSize, listener.workspaceId));
      for (const event of batch) {
        if (listener.isClosed) return;
        // Who reads the past is waited for; who cannot keep up with the present is cut off.
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
      // The first listener has caused it, but it serves them all.
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
      this.logger.warn({ err: error }, 'the event log could not be read; trying again');
    }
  }

  private publish(event: PublicEvent): void {
    const concerned = [...(this.byWorkspace.get(event.workspaceId ?? undefined) ?? [])];
    if (event.workspaceId !== null) concerned.push(...(this.byWorkspace.get(undefined) ?? []));
    for (const listener of concerned) {
      if (!listener.pending) this.offer(listener, event);
      else if (listener.pending.length < maxBacklog) listener.pending.push(event);
      else this.cutOff(listener);
    }
  }

  private offer(listener: Listener, event: PublicEvent): void {
    if (listener.isClosed || !listener.matches(event.type)) return;
    if (!listener.deliver(textOf(event))) this.cutOff(listener);
  }

  private cutOff(listener: Listener): void {
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

/** What is written for an event is the same for everybody who gets it. */
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
