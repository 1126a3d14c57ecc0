import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { pause } from '../platform/pause.js';
import { asPlatform } from '../platform/context.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { AuthenticationService } from '../workspaces/authentication.service.js';
import { WorkspacesService } from '../workspaces/workspaces.service.js';
import { linkingEvents, matchesPattern } from './event-types.js';
import {
  compareCursors,
  type EventBatch,
  EventsService,
  parseCursor,
  type PublicEvent,
} from './events.service.js';

/** How often the log is read while a stream is open; also how late an event may be. */
const pollMs = 150;
/** How long the streams of every process have to deliver the last events of a workspace, before it is deleted with its events. */
const farewellMs = 5 * pollMs;
/** How long a transaction that runs may hold back these last events. */
const maxHeldBackMs = 10_000;
/** How many bytes of new events are read and delivered at once. */
const pollBytes = 512 * 1024;
/** How many bytes of the log a listener that is behind gets at once. So much waits in memory for a client that reads nothing. */
const catchUpBytes = 256 * 1024;

interface Listener {
  workspaceId: string | undefined;
  /** The key that opened the stream; undefined for the admin key. */
  keyId: string | undefined;
  matches: (type: string) => boolean;
  /** Writes events in their wire format. Returns false if too much waits for the client to get new events as they happen. */
  deliver: (bytes: Buffer) => boolean;
  close: () => void;
  /** Resolves when the client has read what waits for it, or is gone. */
  drained: () => Promise<void>;
  /** Reads the log when it is the turn of the owner: after a restart all streams reconnect together. */
  inTurn: (read: () => Promise<EventBatch>) => Promise<EventBatch>;
  /** Whether it gets events as they happen. Until then it reads the log at its own pace. */
  isLive: boolean;
  /** While it reads the log: whether an event for it has happened since its last read began. */
  hasMissed: boolean;
  /** The place up to which it has read the log. Null: later events than this have been delivered. */
  hasReadTo: string | null;
  isClosed: boolean;
}

/** Reads the event log once for all streams of this process. */
@Injectable()
export class EventStream implements OnApplicationShutdown {
  private readonly listeners = new Set<Listener>();
  /** The same listeners by workspace; undefined: the listeners of all workspaces. */
  private readonly byWorkspace = new Map<string | undefined, Set<Listener>>();
  private cursor = '';
  /** Resolves when `cursor` is the place where the present listeners begin: the same place for all. Null without listeners. */
  private following: Promise<void> | null = null;
  private timer: NodeJS.Timeout | null = null;

  constructor(
    private readonly events: EventsService,
    @Inject(LOGGER) private readonly logger: Logger,
    authentication: AuthenticationService,
    workspaces: WorkspacesService,
  ) {
    workspaces.onFarewell(async () => {
      await events.untilReadable(maxHeldBackMs);
      await pause(farewellMs);
    });
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
    { deliver, drained, inTurn, close }: Pick<Listener, 'deliver' | 'drained' | 'inTurn' | 'close'>,
  ): Promise<() => void> {
    if (options.after !== undefined) parseCursor(options.after);
    const listener: Listener = {
      workspaceId: options.workspaceId,
      keyId: options.keyId,
      matches: typeMatcher(options.types, options.withCodes),
      deliver,
      drained,
      inTurn,
      close,
      isLive: false,
      hasMissed: false,
      hasReadTo: null,
      isClosed: false,
    };
    this.add(listener);
    const unsubscribe = () => this.remove(listener);
    try {
      await (this.following ??= this.follow());
      if (options.after !== undefined) {
        // The cursor of this process may be a little behind that of another process, which the client read from.
        if (compareCursors(options.after, this.cursor) > 0) await this.events.assertReached(options.after);
        await this.catchUp(listener, options.after);
      } else {
        listener.deliver(Buffer.from(`id: ${this.cursor}\n\n`));
        listener.isLive = true;
      }
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

  /** Delivers the events after a place in the log, as fast as the client reads them, until the listener has missed no event. */
  private async catchUp(listener: Listener, after: string): Promise<void> {
    let cursor: string | null = after;
    while ((cursor = await this.deliverBatch(listener, cursor)) !== null) await listener.drained();
  }

  /**
   * Delivers the next events of the log. It is a function of its own so that the batch does not stay in memory while the client
   * reads.
   * @returns the place to go on from; null if there is nothing to go on with
   */
  private async deliverBatch(listener: Listener, after: string): Promise<string | null> {
    if (listener.isClosed) return null;
    const { events, hasMore } = await listener.inTurn(() => {
      listener.hasMissed = false;
      return this.events.readAfter(after, catchUpBytes, listener.workspaceId);
    });
    if (listener.isClosed) return null;
    const wanted = events.filter(({ type }) => listener.matches(type));
    if (wanted.length > 0) listener.deliver(Buffer.concat(wanted.map(toBytes)));
    const cursor = events.at(-1)?.cursor ?? after;
    if (hasMore || listener.hasMissed) return cursor;
    listener.hasReadTo = cursor;
    listener.isLive = true;
    return null;
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
      let batch: EventBatch;
      do {
        batch = await this.events.readAfter(this.cursor, pollBytes);
        for (const event of batch.events) this.publish(event);
        this.cursor = batch.events.at(-1)?.cursor ?? this.cursor;
      } while (batch.hasMore);
    } catch (error) {
      this.logger.warn({ err: error }, 'the event log cannot be read; trying again');
    }
  }

  private publish(event: PublicEvent): void {
    const recipients = [...(this.byWorkspace.get(event.workspaceId ?? undefined) ?? [])];
    if (event.workspaceId !== null) recipients.push(...(this.byWorkspace.get(undefined) ?? []));
    for (const listener of recipients) {
      if (!listener.matches(event.type)) continue;
      if (listener.isLive) this.offer(listener, event);
      else listener.hasMissed = true;
    }
  }

  private offer(listener: Listener, event: PublicEvent): void {
    if (listener.isClosed) return;
    if (listener.hasReadTo !== null && compareCursors(event.cursor, listener.hasReadTo) <= 0) return;
    listener.hasReadTo = null;
    if (!listener.deliver(bytesOf(event))) this.fallBehind(listener, event.cursor);
  }

  /** Lets a listener whose client reads too slowly read the log itself, so that later events do not wait for it in memory. */
  private fallBehind(listener: Listener, cursor: string): void {
    listener.isLive = false;
    listener
      .drained()
      .then(() => this.catchUp(listener, cursor))
      .catch((error: unknown) => {
        this.logger.warn({ err: error }, 'the event log cannot be read; a stream ends and can be resumed');
        this.disconnect(listener);
      });
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

/** The wire format of an event is the same for all listeners, and their sockets share its memory. */
const known = new WeakMap<PublicEvent, Buffer>();

function bytesOf(event: PublicEvent): Buffer {
  const bytes = known.get(event) ?? toBytes(event);
  known.set(event, bytes);
  return bytes;
}

function toBytes({ data, ...event }: PublicEvent): Buffer {
  const { cursor: id, type, createdAt, workspaceId, accountId } = event;
  const head = JSON.stringify({ id, type, createdAt, workspaceId, accountId });
  return Buffer.from(`id: ${id}\nevent: ${type}\ndata: ${head.slice(0, -1)},"data":${data}}\n\n`);
}

function typeMatcher(patterns: string[], withCodes: boolean): (type: string) => boolean {
  const isOpen = (type: string) => withCodes || !linkingEvents.includes(type);
  if (patterns.length === 0) return isOpen;
  return (type) => isOpen(type) && patterns.some((pattern) => matchesPattern(type, pattern));
}
