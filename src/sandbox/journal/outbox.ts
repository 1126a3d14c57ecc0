import { join } from 'node:path';
import { Journal } from './journal.js';
import type { AddressedEvent, QueuedEvent } from './queued-event.js';

/** Is called for every event that is queued. */
type QueuedListener<Event> = (credential: string, queued: QueuedEvent<Event>, delayMs: number) => void;

type OutboxLine<Event> =
  | { s: number; e: [credential: string, n: number, event: Event][] }
  | { c: string; got: number[] }
  | { drop: string }
  | { clear: true };

const MAX_EVENTS_PER_BROWSER = 100_000;
const COMPACT_ABOVE_BYTES = 8 * 1024 * 1024;
const EVENTS_PER_COMPACT_LINE = 500;

/**
 * The events that linked browsers have not confirmed yet, in `outbox.ndjson`. They survive the browsers' connections and
 * this process, so that a browser that comes back gets everything that it missed.
 */
export class Outbox<Event> {
  /** The last line of the ledger whose events are queued. After a crash, the events of later lines are queued again. */
  lastSeq = 0;
  /** How many events were given up because a browser stayed away too long. */
  dropped = 0;
  private nextNumber = 1;
  private readonly queues = new Map<string, Map<number, QueuedEvent<Event>>>();
  private journal!: Journal;
  private compactAbove = COMPACT_ABOVE_BYTES;
  private compacting = false;
  private readonly listeners: QueuedListener<Event>[] = [];

  private constructor() {}

  /** Restores the queues from their directory. */
  static async open<Event>(dir: string): Promise<Outbox<Event>> {
    const outbox = new Outbox<Event>();
    outbox.journal = await Journal.open(join(dir, 'outbox.ndjson'), (line) => {
      outbox.apply(JSON.parse(line) as OutboxLine<Event>);
    });
    await outbox.compactWhenLarge();
    return outbox;
  }

  /** Calls `listener` for every event that is queued from now on. */
  onQueued(listener: QueuedListener<Event>): void {
    this.listeners.push(listener);
  }

  /** Queues the events that line `seq` of the ledger causes. */
  add(seq: number, events: AddressedEvent<Event>[]): void {
    const line: OutboxLine<Event> = {
      s: seq,
      e: events.map(({ credential, event }, i) => [credential, this.nextNumber + i, event]),
    };
    const queued = this.apply(line);
    this.write(line);
    events.forEach(({ credential, delayMs }, i) => {
      const event = queued[i];
      if (event) for (const listener of this.listeners) listener(credential, event, delayMs);
    });
  }

  /** Forgets events that a browser has stored. */
  confirm(credential: string, numbers: number[]): void {
    const line: OutboxLine<Event> = { c: credential, got: numbers };
    this.apply(line);
    this.write(line);
  }

  /** Forgets everything for a browser that is no longer linked. */
  drop(credential: string): void {
    if (!this.queues.has(credential)) return;
    const line: OutboxLine<Event> = { drop: credential };
    this.apply(line);
    this.write(line);
  }

  /** The ledger starts again at line 1. Queued events stay. */
  ledgerCleared(): void {
    const line: OutboxLine<Event> = { clear: true };
    this.apply(line);
    this.write(line);
  }

  /** The events that a browser has not confirmed, oldest first. */
  pending(credential: string): IterableIterator<QueuedEvent<Event>> {
    return (this.queues.get(credential) ?? new Map<number, QueuedEvent<Event>>()).values();
  }

  /** How many events wait, for all browsers. */
  get size(): number {
    let size = 0;
    for (const queue of this.queues.values()) size += queue.size;
    return size;
  }

  /** Closes the file. */
  async close(): Promise<void> {
    await this.journal.close();
  }

  private write(line: OutboxLine<Event>): void {
    // Nothing waits for this file: after a crash, missing events are queued again, and browsers recognise repetitions.
    this.journal.append(JSON.stringify(line));
    void this.compactWhenLarge();
  }

  private apply(line: OutboxLine<Event>): QueuedEvent<Event>[] {
    if ('s' in line) {
      this.lastSeq = Math.max(this.lastSeq, line.s);
      return line.e.map(([credential, n, event]) => this.enqueue(credential, { n, event }));
    }
    if ('got' in line) {
      const queue = this.queues.get(line.c);
      for (const n of line.got) queue?.delete(n);
    } else if ('drop' in line) {
      this.queues.delete(line.drop);
    } else {
      this.lastSeq = 0;
    }
    return [];
  }

  private enqueue(credential: string, queued: QueuedEvent<Event>): QueuedEvent<Event> {
    this.nextNumber = Math.max(this.nextNumber, queued.n + 1);
    let queue = this.queues.get(credential);
    if (!queue) {
      queue = new Map();
      this.queues.set(credential, queue);
    }
    queue.set(queued.n, queued);
    if (queue.size > MAX_EVENTS_PER_BROWSER) {
      for (const oldest of queue.keys()) {
        queue.delete(oldest);
        this.dropped += 1;
        break;
      }
    }
    return queued;
  }

  private async compactWhenLarge(): Promise<void> {
    if (this.compacting || this.journal.size < this.compactAbove) return;
    this.compacting = true;
    try {
      await this.journal.rewrite(() => this.snapshot());
      // Doubling the limit keeps the cost in proportion to what is written.
      this.compactAbove = Math.max(COMPACT_ABOVE_BYTES, this.journal.size * 2);
    } finally {
      this.compacting = false;
    }
  }

  private snapshot(): string[] {
    const lines: string[] = [];
    let events: [string, number, Event][] = [];
    const flush = (): void => {
      const line: OutboxLine<Event> = { s: this.lastSeq, e: events };
      lines.push(JSON.stringify(line));
      events = [];
    };
    for (const [credential, queue] of this.queues) {
      for (const { n, event } of queue.values()) {
        events.push([credential, n, event]);
        if (events.length === EVENTS_PER_COMPACT_LINE) flush();
      }
    }
    flush();
    return lines;
  }
}
