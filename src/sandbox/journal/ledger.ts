import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { ServiceUnavailableException } from '@nestjs/common';
import { given } from '../../platform/database/given.js';
import type { Content } from './content.js';
import { Journal } from './journal.js';
import { isAction, type MessageState, MessageStates } from './message-states.js';

/**
 * One message that the simulated WhatsApp accepted, or one action on a message. For an action, `type` is the type of the
 * action, `whatsappId` is the id of the message, and `text` is the new text, the emoji, or the chosen options as JSON. For
 * media, `text` is the caption. Phone numbers are digits without a plus sign.
 */
export interface LedgerEntry extends Content {
  seq: number;
  at: string;
  from: string;
  to: string;
  whatsappId: string;
  type: string;
  text: string;
  duplicate: boolean;
  /** For an action: the number that wrote the message. */
  author?: string;
  /** For a group: its members at that time, without the sender. */
  recipients?: string[];
  /** The recipient has blocked the sender, and never sees this. */
  blocked?: true;
}

/** What a sender gives to the network. */
export type Submission = Pick<
  LedgerEntry,
  'from' | 'to' | 'whatsappId' | 'type' | 'text' | 'author' | 'recipients' | 'blocked' | keyof Content
>;

/** A message as the phone that received it shows it now. */
export type InboxEntry = LedgerEntry & Partial<MessageState>;

/** More than enough to recognise every repetition: a browser keeps its last 5,000 messages only. */
const REMEMBERED_IDS_PER_PHONE = 50_000;
const LINES_PER_MARK = 256;
const NO_PLACE = -1;

interface Inbox {
  /** The index of each message in the lists below. */
  ids: Map<string, number>;
  offsets: number[];
  lengths: number[];
}

/**
 * Everything that the network accepted, in order, in `ledger.ndjson`. The file is the truth: memory holds only the places of
 * each phone's messages in the file, the ids that each phone has received, and the states that actions changed.
 */
export class Ledger {
  accepted = 0;
  duplicates = 0;
  /** How many actions on messages were accepted. */
  actions = 0;
  private seq = 0;
  private readonly states = new MessageStates();
  private readonly inboxes = new Map<string, Inbox>();
  /** marks[i] is the offset of the line with seq i * LINES_PER_MARK + 1. */
  private marks: number[] = [];
  private journal!: Journal;
  private failure: Error | undefined;

  private constructor() {}

  /** Restores the ledger from its directory. */
  static async open(dir: string): Promise<Ledger> {
    const ledger = new Ledger();
    ledger.journal = await Journal.open(join(dir, 'ledger.ndjson'), (line, offset, length) => {
      ledger.index(JSON.parse(line) as LedgerEntry, offset, length);
    });
    return ledger;
  }

  /** Adds a line and decides whether it is a repetition. Resolves when the line is written. */
  async append(submission: Submission): Promise<LedgerEntry> {
    if (this.failure) throw this.failure;
    const entry: LedgerEntry = {
      seq: this.seq + 1,
      at: new Date().toISOString(),
      from: submission.from,
      to: submission.to,
      whatsappId: submission.whatsappId,
      type: submission.type,
      text: submission.text,
      duplicate: isAction(submission)
        ? this.states.isRepeated(submission)
        : this.inboxOf(submission.to).ids.has(idKey(submission)),
      ...contentOf(submission),
      ...(submission.author === undefined ? {} : { author: submission.author }),
      ...(submission.recipients === undefined ? {} : { recipients: submission.recipients }),
      ...(submission.blocked ? { blocked: true } : {}),
    };
    const { offset, length, written } = this.journal.append(JSON.stringify(entry));
    this.index(entry, offset, length);
    try {
      await written;
    } catch (error) {
      // Memory now holds a line that the file lacks, so the ledger accepts nothing more.
      this.failure = new ServiceUnavailableException(
        `The sandbox cannot write its ledger (${String(error)}): make room on the disk and restart the sandbox.`,
      );
      throw this.failure;
    }
    return entry;
  }

  /** The lines after `since` as bytes of NDJSON. */
  async *lines(since: number): AsyncGenerator<Buffer> {
    await this.journal.flush();
    const end = this.journal.writtenSize;
    const mark = Math.floor(since / LINES_PER_MARK);
    const start = this.marks[mark];
    if (start === undefined || start >= end) return;
    let skip = since - mark * LINES_PER_MARK;
    for await (const chunk of createReadStream(this.journal.path, { start, end: end - 1 })) {
      let bytes = chunk as Buffer;
      while (skip > 0) {
        const newline = bytes.indexOf(10);
        if (newline < 0) {
          bytes = bytes.subarray(bytes.length);
          break;
        }
        bytes = bytes.subarray(newline + 1);
        skip -= 1;
      }
      if (bytes.length > 0) yield bytes;
    }
  }

  /** The entries after `since`. */
  async entries(since: number): Promise<LedgerEntry[]> {
    const chunks: Buffer[] = [];
    for await (const chunk of this.lines(since)) chunks.push(chunk);
    const lines = Buffer.concat(chunks).toString('utf8').split('\n');
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as LedgerEntry);
  }

  /** The messages that a phone received, in order of arrival, without repetitions, as its owner sees them now. */
  async inbox(phone: string, after: number, limit: number): Promise<InboxEntry[]> {
    await this.journal.flush();
    const inbox = this.inboxes.get(phone);
    if (!inbox) return [];
    const wanted = inbox.offsets.slice(after, after + limit);
    if (wanted.length === 0) return [];
    const file = await open(this.journal.path, 'r');
    try {
      const entries = await Promise.all(
        wanted.map((offset, i) => readEntry(file, offset, inbox.lengths[after + i] ?? 0)),
      );
      return entries.map((entry) => ({ ...entry, ...this.states.of(entry) }));
    } finally {
      await file.close();
    }
  }

  /** The message with this id that a phone sent or received, if its id is still remembered. */
  async find(phone: string, whatsappId: string): Promise<LedgerEntry | undefined> {
    for (const [owner, inbox] of this.inboxes) {
      for (const [key, place] of inbox.ids) {
        const [from, id] = key.split(':');
        if (place !== NO_PLACE && id === whatsappId && (from === phone || owner === phone)) {
          const [entry] = await this.inbox(owner, place, 1);
          return entry;
        }
      }
    }
    return undefined;
  }

  /** Whether the recipient has already received this message. */
  has(submission: Pick<Submission, 'from' | 'to' | 'whatsappId'>): boolean {
    return this.inboxes.get(submission.to)?.ids.has(idKey(submission)) ?? false;
  }

  /** How many different messages a phone received. */
  inboxSize(phone: string): number {
    return this.inboxes.get(phone)?.offsets.length ?? 0;
  }

  /** Empties the ledger and the inboxes, and forgets all ids. */
  async clear(): Promise<void> {
    await this.journal.clear(() => {
      this.seq = 0;
      this.accepted = 0;
      this.duplicates = 0;
      this.actions = 0;
      this.states.clear();
      this.marks = [];
      this.inboxes.clear();
    });
  }

  /** Closes the file. */
  async close(): Promise<void> {
    await this.journal.close();
  }

  private index(entry: LedgerEntry, offset: number, length: number): void {
    this.seq = entry.seq;
    if ((entry.seq - 1) % LINES_PER_MARK === 0) this.marks.push(offset);
    if (entry.duplicate) {
      this.duplicates += 1;
      return;
    }
    if (isAction(entry)) {
      this.actions += 1;
      if (!entry.blocked) this.states.apply(entry);
      return;
    }
    this.accepted += 1;
    // The group's own inbox is there to recognise repetitions.
    for (const phone of [entry.to, ...(entry.recipients ?? [])]) this.receive(phone, entry, offset, length);
  }

  private receive(phone: string, entry: LedgerEntry, offset: number, length: number): void {
    const inbox = this.inboxOf(phone);
    // A blocked message is recognised when it is repeated, but has no place in the inbox.
    inbox.ids.set(idKey(entry), entry.blocked ? NO_PLACE : inbox.offsets.length);
    if (!entry.blocked) {
      inbox.offsets.push(offset);
      inbox.lengths.push(length);
    }
    if (inbox.ids.size > REMEMBERED_IDS_PER_PHONE) {
      for (const oldest of inbox.ids.keys()) {
        inbox.ids.delete(oldest);
        break;
      }
    }
  }

  private inboxOf(phone: string): Inbox {
    let inbox = this.inboxes.get(phone);
    if (!inbox) {
      inbox = { ids: new Map(), offsets: [], lengths: [] };
      this.inboxes.set(phone, inbox);
    }
    return inbox;
  }
}

function idKey({ from, whatsappId }: Pick<LedgerEntry, 'from' | 'whatsappId'>): string {
  return `${from}:${whatsappId}`;
}

async function readEntry(file: FileHandle, offset: number, length: number): Promise<LedgerEntry> {
  const { buffer } = await file.read(Buffer.alloc(length), 0, length, offset);
  return JSON.parse(buffer.toString('utf8')) as LedgerEntry;
}

/** Picks the content out of a larger object, such as a line of the ledger. */
export function contentOf(content: Content): Content {
  const { media, location, contacts, poll, replyTo, quoted, mentions, event, style, as } = content;
  const { preview, invite, channelInvite, viewOnce, gif, duration, secret, forwardingScore, undecrypted } =
    content;
  const marks = {
    preview,
    invite,
    channelInvite,
    viewOnce,
    gif,
    duration,
    secret,
    forwardingScore,
    undecrypted,
  };
  return given({ media, location, contacts, poll, replyTo, quoted, mentions, event, style, as, ...marks });
}
