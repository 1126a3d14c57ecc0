import { randomBytes } from 'node:crypto';
import { ConflictException, NotFoundException } from '@nestjs/common';
import type { Companions } from '../wire/online-browsers.js';
import type { FaultBoard } from './faults.js';
import { type Action, isAction } from '../journal/message-actions.js';
import { type Content, contentOf, typeForPage } from '../journal/content.js';
import { type Group, type GroupBook, isGroupId } from './groups.js';
import type { Ledger, LedgerEntry, Submission } from '../journal/ledger.js';
import type { AckEvent, CompanionEvent, MessageEvent, Outbox } from '../journal/outbox.js';
import type { PhoneBook } from './phones.js';

interface Dispatch {
  credential: string;
  event: CompanionEvent;
  delayMs: number;
}

/** How long after the first time the fault `doubleIncoming` tells of a message again. */
const SECOND_TELLING_MS = 200;
/** What has a text that its sender can change. */
const EDITABLE = ['text', 'image', 'video', 'document'];

function checkVote({ poll, whatsappId }: LedgerEntry, options: string[]): void {
  if (!poll) throw new ConflictException(`The message ${whatsappId} is no poll.`);
  const unknown = options.filter((option) => !poll.options.includes(option));
  if (unknown.length > 0)
    throw new ConflictException(
      `The poll has no option "${unknown.join('", "')}": it has ${poll.options.join(', ')}.`,
    );
  if (options.length > 1 && !poll.multiple)
    throw new ConflictException('Only one option of this poll can be chosen.');
}

/** Takes messages in, writes them down, and tells everybody concerned. */
export class Delivery {
  constructor(
    private readonly phones: PhoneBook,
    private readonly groups: GroupBook,
    private readonly ledger: Ledger,
    private readonly outbox: Outbox,
    private readonly companions: Companions,
    private readonly faults: FaultBoard,
  ) {}

  /** Accepts a message: it is in the ledger before anybody hears of it. `origin` is the credential that sent it. */
  async accept(submission: Submission, origin?: string): Promise<LedgerEntry> {
    const { from, to } = submission;
    const recipients = isGroupId(to) ? this.othersIn(to, from) : undefined;
    const entry = await this.ledger.append({ ...submission, ...(recipients ? { recipients } : {}) });
    this.handOut(entry, origin);
    return entry;
  }

  /** Whether a phone may write to a number or a group. */
  mayWrite(from: string, to: string): boolean {
    if (!isGroupId(to)) return this.phones.find(to) !== undefined;
    const group = this.groups.find(to);
    return group?.announce ? this.groups.isAdmin(group, from) : group !== undefined && isIn(group, from);
  }

  /** Accepts a message that a phone's owner wrote on the phone. */
  async write(
    from: string,
    to: string,
    message: Pick<Submission, 'type' | 'text' | keyof Content>,
  ): Promise<LedgerEntry> {
    const whatsappId = `AC${randomBytes(15).toString('hex').toUpperCase()}`;
    return this.accept({ from, to, whatsappId, ...message });
  }

  /** Does what a phone's owner does to a message on the phone. */
  async change(phone: string, whatsappId: string, action: Action, text: string): Promise<LedgerEntry> {
    const message = await this.ledger.find(phone, whatsappId);
    if (!message) {
      throw new NotFoundException(
        `${phone} neither sent nor received a message ${whatsappId}: GET /ledger has all ids.`,
      );
    }
    if (action === 'vote') checkVote(message, JSON.parse(text) as string[]);
    else if (action !== 'reaction') this.checkMayChange(message, phone, action);
    const to = message.from === phone || isGroupId(message.to) ? message.to : message.from;
    return this.accept({ from: phone, to, whatsappId, type: action, text, author: message.from });
  }

  private checkMayChange({ from, at, type }: LedgerEntry, phone: string, action: 'edit' | 'revoke'): void {
    const { editWindowMs, revokeWindowMs } = this.faults.of(phone);
    const windowMs = action === 'edit' ? editWindowMs : revokeWindowMs;
    if (from !== phone) throw new ConflictException(`Only its sender, ${from}, can ${action} a message.`);
    if (Date.now() - Date.parse(at) >= windowMs)
      throw new ConflictException(`It is too late to ${action} this message: ${windowMs} ms are over.`);
    if (action === 'edit' && !EDITABLE.includes(type))
      throw new ConflictException(`Only text and captions can be edited, and this is ${type}.`);
  }

  /** Tells the sender's and the recipient's browsers about a ledger line; again after a crash, which they recognise. */
  handOut(entry: LedgerEntry, origin?: string): void {
    const dispatches = isAction(entry)
      ? [...this.ofAction(entry)]
      : [...this.forSender(entry, origin), ...this.forRecipient(entry)];
    const queued = this.outbox.add(entry.seq, dispatches);
    dispatches.forEach(({ credential, delayMs }, i) => {
      const event = queued[i];
      if (event) this.companions.dispatch(credential, event, delayMs);
    });
  }

  private *forSender(entry: LedgerEntry, origin: string | undefined): Generator<Dispatch> {
    const acks = this.acksOf(entry);
    for (const { id: credential } of this.phones.companionsOf(entry.from)) {
      if (credential !== origin && !entry.duplicate) {
        yield { credential, event: this.messageEvent(entry, true), delayMs: 0 };
      }
      for (const { event, delayMs } of acks) yield { credential, event, delayMs };
    }
  }

  private *forRecipient(entry: LedgerEntry): Generator<Dispatch> {
    if (entry.duplicate || entry.to === entry.from) return;
    for (const phone of entry.recipients ?? [entry.to]) {
      for (const { id: credential } of this.phones.companionsOf(phone)) {
        const event = this.messageEvent(entry, false);
        yield { credential, event, delayMs: 0 };
        if (this.faults.of(phone).doubleIncoming)
          yield { credential, event: { ...event, again: true }, delayMs: SECOND_TELLING_MS };
      }
    }
  }

  private othersIn(groupId: string, phone: string): string[] {
    const members = this.groups.find(groupId)?.members ?? [];
    return members.map((member) => member.phone).filter((other) => other !== phone);
  }

  /** Also for the browser that did it: it may not have lived to hear the answer. */
  private *ofAction(entry: LedgerEntry & { type: Action }): Generator<Dispatch> {
    if (entry.duplicate) return;
    const { type, whatsappId, from, to, author = from, text } = entry;
    const { recipients } = entry;
    for (const phone of new Set([from, ...(recipients ?? [to])])) {
      const event: CompanionEvent = {
        k: type,
        id: whatsappId,
        chat: phone === from || recipients ? to : from,
        fromMe: author === phone,
        ...(recipients ? { author } : {}),
        by: from,
        text,
        at: Date.parse(entry.at),
      };
      for (const { id: credential } of this.phones.companionsOf(phone))
        yield { credential, event, delayMs: 0 };
    }
  }

  private acksOf({ from, to, whatsappId }: LedgerEntry): { event: AckEvent; delayMs: number }[] {
    const faults = this.faults.of(from);
    if (faults.dropAckRate > 0 && Math.random() < faults.dropAckRate) return [];
    let last = 1;
    if (faults.deliverAcks) last = faults.readAcks ? 3 : 2;
    return Array.from({ length: last }, (_, i) => ({
      event: { k: 'ack', id: whatsappId, chat: to, ack: i + 1 },
      delayMs: faults.ackDelayMs + i * faults.receiptDelayMs,
    }));
  }

  private messageEvent(entry: LedgerEntry, fromMe: boolean): MessageEvent {
    const writer = this.phones.find(entry.from);
    return {
      k: 'msg',
      id: entry.whatsappId,
      chat: fromMe || entry.recipients ? entry.to : entry.from,
      fromMe,
      ...(entry.recipients ? { author: entry.from } : {}),
      ...(writer?.hidesNumber && !fromMe ? { hidden: true } : {}),
      type: typeForPage(entry.type, entry),
      text: entry.text,
      t: Math.floor(Date.parse(entry.at) / 1000),
      name: writer?.name ?? '',
      content: contentOf(entry),
    };
  }
}

function isIn(group: Group, phone: string): boolean {
  return group.members.some((member) => member.phone === phone);
}
