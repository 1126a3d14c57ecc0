import { randomBytes } from 'node:crypto';
import type { Companions } from './sandbox.companions.js';
import type { FaultBoard } from './sandbox.faults.js';
import type { Ledger, LedgerEntry, Submission } from './sandbox.ledger.js';
import type { AckEvent, CompanionEvent, Outbox } from './sandbox.outbox.js';
import type { PhoneBook } from './sandbox.phones.js';

interface Dispatch {
  credential: string;
  event: CompanionEvent;
  delayMs: number;
}

/** Takes messages in, writes them down, and tells everybody concerned. */
export class Delivery {
  constructor(
    private readonly phones: PhoneBook,
    private readonly ledger: Ledger,
    private readonly outbox: Outbox,
    private readonly companions: Companions,
    private readonly faults: FaultBoard,
  ) {}

  /** Accepts a message: it is in the ledger before anybody hears of it. `origin` is the credential that sent it. */
  async accept(submission: Submission, origin?: string): Promise<LedgerEntry> {
    const entry = await this.ledger.append(submission);
    this.handOut(entry, origin);
    return entry;
  }

  /** Accepts a message that a phone's owner typed on the phone. */
  async write(from: string, to: string, text: string): Promise<LedgerEntry> {
    const whatsappId = `AC${randomBytes(15).toString('hex').toUpperCase()}`;
    return this.accept({ from, to, whatsappId, type: 'text', text });
  }

  /** Tells the sender's and the recipient's browsers about a ledger line; again after a crash, which they recognise. */
  handOut(entry: LedgerEntry, origin?: string): void {
    const dispatches = [...this.forSender(entry, origin), ...this.forRecipient(entry)];
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
    for (const { id: credential } of this.phones.companionsOf(entry.to)) {
      yield { credential, event: this.messageEvent(entry, false), delayMs: 0 };
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

  private messageEvent(entry: LedgerEntry, fromMe: boolean): CompanionEvent {
    return {
      k: 'msg',
      id: entry.whatsappId,
      chat: fromMe ? entry.to : entry.from,
      fromMe,
      // The ledger speaks our contract's words, the page WhatsApp's.
      type: entry.type === 'text' ? 'chat' : entry.type,
      text: entry.text,
      t: Math.floor(Date.parse(entry.at) / 1000),
      name: this.phones.find(entry.from)?.name ?? '',
    };
  }
}
