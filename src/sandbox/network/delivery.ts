import { randomBytes } from 'node:crypto';
import { ConflictException, Injectable, NotFoundException } from '@nestjs/common';
import { isChannelId, isGroupId } from '../addresses.js';
import type { Content, Quoted } from '../journal/content.js';
import { contentOf, Ledger, type LedgerEntry, type Submission } from '../journal/ledger.js';
import type { ActionType } from '../journal/message-actions.js';
import { isAction } from '../journal/message-states.js';
import { Outbox } from '../journal/outbox.js';
import type { AddressedEvent } from '../journal/queued-event.js';
import type { AckEvent, BrowserEvent, MessageEvent } from './events.js';
import { ChannelRegistry } from './channels.js';
import { FaultSettings } from './fault-settings.js';
import { GroupRegistry } from './groups.js';
import { PhoneRegistry } from './phones.js';
import { toWhatsAppType } from './whatsapp-types.js';

type BrowserNotice = AddressedEvent<BrowserEvent>;

/** With the fault `doubleIncoming`, the second event comes this much later. */
const SECOND_EVENT_MS = 200;
/** The longest text of a message. */
export const MAX_TEXT_LENGTH = 65_536;
/** The address of everybody who may see the stories of a phone. */
const STORIES = 'status@broadcast';
/** WhatsApp pins messages for 30 days at most. */
const MAX_PIN_SECONDS = 30 * 24 * 3600;
/** The types of messages that have a text that the sender can edit. */
const EDITABLE = ['text', 'image', 'video', 'document'];

function checkEventChange({ event, from, whatsappId }: LedgerEntry, phone: string): void {
  if (!event) throw new ConflictException(`The message ${whatsappId} is not an event.`);
  if (from !== phone) throw new ConflictException(`Only its sender, ${from}, can change an event.`);
  if (event.canceled) throw new ConflictException('The event is canceled: it cannot be changed.');
}

function checkResponse({ event, whatsappId }: LedgerEntry, response: number): void {
  if (!event) throw new ConflictException(`The message ${whatsappId} is not an event.`);
  if (![0, 1, 2, 3].includes(response)) throw new ConflictException(`There is no response ${response}.`);
}

function checkVote({ poll, whatsappId }: LedgerEntry, options: string[]): void {
  if (!poll) throw new ConflictException(`The message ${whatsappId} is not a poll.`);
  const unknown = options.filter((option) => !poll.options.includes(option));
  if (unknown.length > 0)
    throw new ConflictException(
      `The poll has no option "${unknown.join('", "')}": its options are ${poll.options.join(', ')}.`,
    );
  if (options.length > 1 && !poll.multiple) throw new ConflictException('This poll allows one option only.');
}

/** Accepts messages and actions on messages, writes them to the ledger, and queues the events for the browsers. */
@Injectable()
export class Delivery {
  constructor(
    private readonly phones: PhoneRegistry,
    private readonly groups: GroupRegistry,
    private readonly ledger: Ledger,
    private readonly outbox: Outbox<BrowserEvent>,
    private readonly faults: FaultSettings,
    private readonly channels: ChannelRegistry,
  ) {}

  /** Accepts a message or an action; the ledger has it before any browser. `origin` is the credential that sent it. */
  async accept(submission: Submission, origin?: string): Promise<LedgerEntry> {
    const { from, to } = submission;
    const recipients = this.recipientsOf(to, from);
    const entry = await this.ledger.append({
      ...submission,
      ...(recipients ? { recipients } : {}),
      // Blocking does not reach into groups.
      ...(this.phones.hasBlocked(to, from) ? { blocked: true } : {}),
    });
    this.queueEvents(entry, origin);
    return entry;
  }

  /** Queues the events of ledger lines that a crash cut off from the outbox. Browsers recognise repetitions. */
  async recover(): Promise<void> {
    for (const entry of await this.ledger.entries(this.outbox.lastSeq)) this.queueEvents(entry);
  }

  /** Whether a phone may send to a number or a group. */
  maySend(from: string, to: string): boolean {
    if (!isGroupId(to) && !isChannelId(to) && to !== STORIES)
      return this.phones.find(to) !== undefined && !this.phones.hasBlocked(from, to);
    const channel = this.channels.find(to);
    if (channel) return this.channels.isAdmin(channel, from);
    if (to === STORIES) return true;
    const group = this.groups.find(to);
    if (!group) return false;
    return group.announce ? this.groups.isAdmin(group, from) : this.groups.roleOf(group, from) !== undefined;
  }

  /** Accepts a message that the owner of a phone sends from the phone. */
  async sendFromPhone(
    from: string,
    to: string,
    message: Pick<Submission, 'type' | 'text' | keyof Content>,
  ): Promise<LedgerEntry> {
    const whatsappId = `AC${randomBytes(15).toString('hex').toUpperCase()}`;
    const quoted = message.replyTo === undefined ? undefined : await this.quote(from, message.replyTo);
    return this.accept({ from, to, whatsappId, ...message, ...(quoted ? { quoted } : {}) });
  }

  /** What an answer says of the answered message; undefined when the phone does not have that message. */
  private async quote(phone: string, whatsappId: string): Promise<Quoted | undefined> {
    const original = await this.ledger.find(phone, whatsappId);
    if (!original) return undefined;
    return { type: toWhatsAppType(original.type, original), text: original.text, from: original.from };
  }

  /** Accepts an action on a message that the owner of a phone does on the phone. */
  async actFromPhone(
    phone: string,
    whatsappId: string,
    type: ActionType,
    text: string,
  ): Promise<LedgerEntry> {
    const message = await this.ledger.find(phone, whatsappId);
    if (!message) {
      throw new NotFoundException(
        `${phone} did not send or receive a message ${whatsappId}: GET /ledger shows all ids.`,
      );
    }
    this.check(message, phone, type, text);
    const to = message.from === phone || isGroupId(message.to) ? message.to : message.from;
    return this.accept({ from: phone, to, whatsappId, type, text, author: message.from });
  }

  /** Lets the browsers of a phone decrypt a message that they have got undecrypted. */
  async decrypt(phone: string, whatsappId: string): Promise<LedgerEntry> {
    const entry = await this.ledger.find(phone, whatsappId);
    if (!entry?.undecrypted || entry.from === phone)
      throw new NotFoundException(`${phone} did not receive an undecrypted message ${whatsappId}.`);
    const event: MessageEvent = { ...this.messageEvent(entry, false), late: true };
    const events = [...this.phones.credentialsOf(phone)].map(({ id: credential }) => ({
      credential,
      event,
      delayMs: 0,
    }));
    // No line of the ledger: the message itself did not change.
    this.outbox.add(this.outbox.lastSeq, events);
    return entry;
  }

  /**
   * Checks an action of a page that the page itself cannot check.
   * @throws with the message for the page
   */
  async checkFromPage(phone: string, whatsappId: string, type: ActionType, text: string): Promise<void> {
    if (type === 'reaction' || type === 'edit' || type === 'revoke') return;
    const message = await this.ledger.find(phone, whatsappId);
    if (!message) throw new NotFoundException(`${phone} has no message ${whatsappId}.`);
    this.check(message, phone, type, text);
  }

  private check(message: LedgerEntry, phone: string, type: ActionType, text: string): void {
    if (type === 'vote') checkVote(message, JSON.parse(text) as string[]);
    else if (type === 'pin') this.checkPin(message, phone, Number(text));
    else if (type === 'reschedule') checkEventChange(message, phone);
    else if (type === 'rsvp') checkResponse(message, Number(text));
    else if (type !== 'reaction') this.checkMayChange(message, phone, type);
  }

  private checkPin({ to }: LedgerEntry, phone: string, seconds: number): void {
    if (!Number.isInteger(seconds) || seconds < 0 || seconds > MAX_PIN_SECONDS)
      throw new ConflictException(`A message is pinned for 1 to ${MAX_PIN_SECONDS} seconds.`);
    const group = this.groups.find(to);
    if (group?.restrict && !this.groups.isAdmin(group, phone))
      throw new ConflictException('Only admins can pin messages in this group.');
  }

  private checkMayChange({ from, at, type }: LedgerEntry, phone: string, action: 'edit' | 'revoke'): void {
    const { editWindowMs, revokeWindowMs } = this.faults.of(phone);
    const windowMs = action === 'edit' ? editWindowMs : revokeWindowMs;
    if (from !== phone) throw new ConflictException(`Only its sender, ${from}, can ${action} a message.`);
    if (Date.now() - Date.parse(at) >= windowMs)
      throw new ConflictException(`It is too late to ${action} this message: the limit is ${windowMs} ms.`);
    if (action === 'edit' && !EDITABLE.includes(type))
      throw new ConflictException(
        `Only text and captions can be edited; the type of this message is ${type}.`,
      );
  }

  private queueEvents(entry: LedgerEntry, origin?: string): void {
    const events = isAction(entry)
      ? [...this.forAction(entry)]
      : [...this.forSender(entry, origin), ...this.forRecipients(entry)];
    this.outbox.add(entry.seq, events);
  }

  private *forSender(entry: LedgerEntry, origin: string | undefined): Generator<BrowserNotice> {
    // The page of an author of a post or a story hears with the answer that WhatsApp has it.
    const acks = isChannelId(entry.to) || entry.to === STORIES ? [] : this.acksOf(entry);
    for (const { id: credential } of this.phones.credentialsOf(entry.from)) {
      if (credential !== origin && !entry.duplicate) {
        yield { credential, event: this.messageEvent(entry, true), delayMs: 0 };
      }
      for (const { event, delayMs } of acks) yield { credential, event, delayMs };
    }
  }

  private *forRecipients(entry: LedgerEntry): Generator<BrowserNotice> {
    if (entry.duplicate || entry.blocked || entry.to === entry.from) return;
    for (const phone of entry.recipients ?? [entry.to]) {
      for (const { id: credential } of this.phones.credentialsOf(phone)) {
        const event = this.messageEvent(entry, false);
        yield { credential, event, delayMs: 0 };
        if (this.faults.of(phone).doubleIncoming)
          yield { credential, event: { ...event, again: true }, delayMs: SECOND_EVENT_MS };
      }
    }
  }

  /** Who gets a message to a group or a channel; undefined for a message to one person. */
  private recipientsOf(to: string, from: string): string[] | undefined {
    if (isGroupId(to)) return this.othersIn(to, from);
    if (to === STORIES) return this.friendsOf(from);
    const channel = this.channels.find(to);
    return channel && this.channels.readersOf(channel).filter((phone) => phone !== from);
  }

  /** The people who have this phone in their address books and are in its own. */
  private friendsOf(phone: string): string[] {
    const knows = (owner: string, other: string): boolean =>
      this.phones.contactsOf(owner).some((contact) => contact.phone === other);
    const people = this.phones.contactsOf(phone).map((contact) => contact.phone);
    return people.filter((other) => other !== phone && knows(other, phone));
  }

  private othersIn(groupId: string, phone: string): string[] {
    const members = this.groups.find(groupId)?.members ?? [];
    return members.map((member) => member.phone).filter((other) => other !== phone);
  }

  /** Also for the browser that acted: it may have been killed before it got the answer. */
  private *forAction(entry: LedgerEntry & { type: ActionType }): Generator<BrowserNotice> {
    if (entry.duplicate) return;
    const { type, whatsappId, from, to, author = from, text } = entry;
    const { recipients } = entry;
    const readers = entry.blocked ? [] : (recipients ?? [to]);
    for (const phone of new Set([from, ...readers])) {
      const event: BrowserEvent = {
        k: type,
        id: whatsappId,
        chat: phone === from || recipients ? to : from,
        fromMe: author === phone,
        ...(recipients ? { author } : {}),
        by: from,
        text,
        at: Date.parse(entry.at),
      };
      for (const { id: credential } of this.phones.credentialsOf(phone))
        yield { credential, event, delayMs: 0 };
    }
  }

  private acksOf(entry: LedgerEntry): { event: AckEvent; delayMs: number }[] {
    const { from, to, whatsappId, recipients, at } = entry;
    const { dropAckRate, ackDelayMs, receiptDelayMs } = this.faults.of(from);
    if (dropAckRate > 0 && Math.random() < dropAckRate) return [];
    const people = recipients ?? [to];
    const events: { event: AckEvent; delayMs: number }[] = [];
    for (const ack of [1, 2, 3]) {
      const by = ack === 1 ? people : people.filter((phone) => this.lastAckOf(entry, phone) >= ack);
      if (by.length === 0 && people.length > 0) break;
      const delayMs = ackDelayMs + (ack - 1) * receiptDelayMs;
      const t = Math.floor((Date.parse(at) + delayMs) / 1000);
      const members = recipients && ack > 1 ? { by } : {};
      const partial = by.length < people.length ? { partial: true as const } : {};
      events.push({ event: { k: 'ack', id: whatsappId, chat: to, ack, t, ...members, ...partial }, delayMs });
    }
    return events;
  }

  /** How far a message gets with one recipient: the faults of both sides decide. */
  private lastAckOf({ from, blocked }: LedgerEntry, phone: string): number {
    const both = [this.faults.of(from), this.faults.of(phone)];
    if (blocked || !both.every(({ deliverAcks }) => deliverAcks)) return 1;
    return both.every(({ readAcks }) => readAcks) ? 3 : 2;
  }

  private messageEvent(entry: LedgerEntry, fromMe: boolean): MessageEvent {
    const isStory = entry.to === STORIES;
    // Readers of a channel do not see who posts.
    const writer = isChannelId(entry.to) ? undefined : this.phones.find(entry.from);
    return {
      k: 'msg',
      id: entry.whatsappId,
      chat: fromMe || (entry.recipients && !isStory) ? entry.to : entry.from,
      fromMe,
      ...(writer && entry.recipients && !isStory ? { author: entry.from } : {}),
      ...(writer?.hidesNumber && !fromMe ? { hidden: true } : {}),
      type: toWhatsAppType(entry.type, entry),
      text: entry.text,
      t: Math.floor(Date.parse(entry.at) / 1000),
      name: writer?.name ?? '',
      content: contentOf(entry),
    };
  }
}
