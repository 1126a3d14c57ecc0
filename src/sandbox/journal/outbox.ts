import { join } from 'node:path';
import type { Action } from './message-actions.js';
import type { Content } from './content.js';
import type { GroupState } from '../network/group-actions.js';
import { Journal } from './journal.js';

/** A message for a linked browser: one that its phone received, or one that its owner wrote elsewhere. */
export interface MessageEvent {
  k: 'msg';
  id: string;
  /** The other party's number, or the address of a group. */
  chat: string;
  fromMe: boolean;
  /** In a group: the number of whoever wrote it. */
  author?: string;
  /** Its writer shows the number to nobody: the page may know the LID alone. */
  hidden?: true;
  type: string;
  text: string;
  /** Seconds since 1970. */
  t: number;
  /** The sender's name. */
  name: string;
  content: Content;
  /** It has been told before, and the page is to behave as if it had not noticed. */
  again?: true;
}

/** The progress of a message that the account wrote: 1 server, 2 device, 3 read. */
export interface AckEvent {
  k: 'ack';
  id: string;
  chat: string;
  ack: number;
}

/** What somebody did to a message that was sent. */
export interface ActionEvent {
  k: Action;
  /** The message. */
  id: string;
  chat: string;
  /** Whether this account wrote the message. */
  fromMe: boolean;
  /** In a group: the number of whoever wrote the message. */
  author?: string;
  /** The number of whoever did it. */
  by: string;
  /** The new text, the emoji (an empty one takes the reaction back), or the chosen options as JSON. */
  text: string;
  /** Milliseconds since 1970. */
  at: number;
}

/** What somebody did to a group that the account is in, or was in until then. */
export interface GroupEvent {
  k: 'group';
  id: string;
  /** The address of the group. */
  chat: string;
  /** The group as it is now. */
  group: GroupState;
  by: string;
  /** What it was, in WhatsApp's words: `add`, `remove`, `leave`, `subject`, … */
  change: string;
  /** The numbers that it was done to. */
  whom: string[];
  body: string;
  /** Seconds since 1970. */
  t: number;
}

/** What the server tells a linked browser, at least once and in order. */
export type CompanionEvent = MessageEvent | AckEvent | ActionEvent | GroupEvent;

/** An event with the number under which the browser confirms it. */
export interface QueuedEvent {
  n: number;
  event: CompanionEvent;
}

type OutboxLine =
  | { s: number; e: [credential: string, n: number, event: CompanionEvent][] }
  | { c: string; got: number[] }
  | { drop: string }
  | { clear: true };

const MAX_EVENTS_PER_COMPANION = 100_000;
const COMPACT_ABOVE_BYTES = 8 * 1024 * 1024;
const EVENTS_PER_COMPACT_LINE = 500;

/**
 * What linked browsers have not confirmed yet, in `outbox.ndjson`. It outlives the browsers' connections and this process,
 * so that a browser that comes back gets everything that it missed.
 */
export class Outbox {
  /** The ledger line up to which everything has been handed out; later ones are handed out again after a crash. */
  lastSeq = 0;
  /** Events given up because a browser stayed away too long. */
  dropped = 0;
  private nextNumber = 1;
  private readonly queues = new Map<string, Map<number, QueuedEvent>>();
  private journal!: Journal;
  private compactAbove = COMPACT_ABOVE_BYTES;
  private compacting = false;

  private constructor() {}

  /** Restores the queues from their directory. */
  static async open(dir: string): Promise<Outbox> {
    const outbox = new Outbox();
    outbox.journal = await Journal.open(join(dir, 'outbox.ndjson'), (line) => {
      outbox.apply(JSON.parse(line) as OutboxLine);
    });
    await outbox.compactWhenLarge();
    return outbox;
  }

  /** Queues events that follow from ledger line `seq`, each for one browser. */
  add(seq: number, events: { credential: string; event: CompanionEvent }[]): QueuedEvent[] {
    const line: OutboxLine = {
      s: seq,
      e: events.map(({ credential, event }, i) => [credential, this.nextNumber + i, event]),
    };
    const queued = this.apply(line);
    this.write(line);
    return queued;
  }

  /** Forgets events that a browser has stored. */
  confirm(credential: string, numbers: number[]): void {
    const line: OutboxLine = { c: credential, got: numbers };
    this.apply(line);
    this.write(line);
  }

  /** Forgets everything for a browser that is no longer linked. */
  drop(credential: string): void {
    if (!this.queues.has(credential)) return;
    const line: OutboxLine = { drop: credential };
    this.apply(line);
    this.write(line);
  }

  /** The ledger starts again at 1; what is queued stays queued. */
  ledgerCleared(): void {
    const line: OutboxLine = { clear: true };
    this.apply(line);
    this.write(line);
  }

  /** What a browser has not confirmed, oldest first. */
  pending(credential: string): IterableIterator<QueuedEvent> {
    return (this.queues.get(credential) ?? new Map<number, QueuedEvent>()).values();
  }

  /** How many events wait, for all browsers together. */
  get size(): number {
    let size = 0;
    for (const queue of this.queues.values()) size += queue.size;
    return size;
  }

  /** Closes the file. */
  async close(): Promise<void> {
    await this.journal.close();
  }

  private write(line: OutboxLine): void {
    // Nobody waits for this file: after a crash the browsers get again what it lacks, which they recognise.
    this.journal.append(JSON.stringify(line));
    void this.compactWhenLarge();
  }

  private apply(line: OutboxLine): QueuedEvent[] {
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

  private enqueue(credential: string, queued: QueuedEvent): QueuedEvent {
    this.nextNumber = Math.max(this.nextNumber, queued.n + 1);
    let queue = this.queues.get(credential);
    if (!queue) {
      queue = new Map();
      this.queues.set(credential, queue);
    }
    queue.set(queued.n, queued);
    if (queue.size > MAX_EVENTS_PER_COMPANION) {
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
      // Mostly confirmed lines are removed each time, so the cost stays in proportion to what is written.
      this.compactAbove = Math.max(COMPACT_ABOVE_BYTES, this.journal.size * 2);
    } finally {
      this.compacting = false;
    }
  }

  private snapshot(): string[] {
    const lines: string[] = [];
    let events: [string, number, CompanionEvent][] = [];
    const flush = (): void => {
      const line: OutboxLine = { s: this.lastSeq, e: events };
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
