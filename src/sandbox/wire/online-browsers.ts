import { setTimeout as delay } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { Outbox } from '../journal/outbox.js';
import type { QueuedEvent } from '../journal/queued-event.js';
import type { BrowserEvent } from '../network/events.js';
import { FaultSettings } from '../network/fault-settings.js';
import type { Credential } from '../network/phones.js';
import { SandboxLogger } from '../options.js';
import type { BrowserConnection, Refusal } from './browser-connection.js';
import { BrowserCounters } from './browser-counters.js';
import type { AddressBookEntry, ServerFrame } from './frames.js';
import { Welcome } from './welcome.js';

const CONFLICT_CHECK_MS = 1000;
const SECOND_PING_AFTER_MS = 250;

/** The linked browsers that are connected now, at most one per credential. They get queued events and changed faults. */
@Injectable()
export class OnlineBrowsers {
  private readonly online = new Map<string, BrowserConnection>();
  private readonly admissions = new Map<string, Promise<unknown>>();

  constructor(
    private readonly outbox: Outbox<BrowserEvent>,
    private readonly faults: FaultSettings,
    private readonly welcome: Welcome,
    private readonly counters: BrowserCounters,
    private readonly logger: SandboxLogger,
  ) {
    outbox.onQueued((credential, queued, delayMs) => this.dispatch(credential, queued, delayMs));
    faults.onChange((phone) => this.applyFaults(phone));
  }

  /** How many linked browsers are connected. */
  get count(): number {
    return this.online.size;
  }

  /**
   * Admits an authenticated connection, one at a time per credential. If an older connection is still alive, that is a
   * conflict, and the older one ends.
   */
  async admit(credential: Credential, connection: BrowserConnection): Promise<void> {
    const before = this.admissions.get(credential.id) ?? Promise.resolve();
    const admission = before.then(() => this.replace(credential, connection));
    this.admissions.set(credential.id, admission);
    try {
      await admission;
    } finally {
      if (this.admissions.get(credential.id) === admission) this.admissions.delete(credential.id);
    }
  }

  /** Forgets a connection that ends. */
  remove(connection: BrowserConnection): void {
    const id = connection.credential?.id;
    if (id !== undefined && this.online.get(id) === connection) this.online.delete(id);
  }

  /** Ends a connection for good and tells the page why. */
  refuse(connection: BrowserConnection, reason: Refusal): void {
    this.remove(connection);
    connection.refuse(reason);
  }

  /** Ends the connection of a credential that is no longer valid. */
  unlinked(credential: Credential): void {
    const connection = this.online.get(credential.id);
    if (connection) this.refuse(connection, 'unlinked');
  }

  /** Sends the connected browsers of a phone what they know of their own account. */
  sendProfile(phone: string): void {
    this.sendTo(phone, { t: 'profile', profile: this.welcome.profileOf(phone) });
  }

  /** Sends a frame to the connected browsers of a phone. */
  sendTo(phone: string, frame: ServerFrame): void {
    for (const connection of this.of(phone)) connection.send(frame);
  }

  /** Sends the connected browsers of a phone its address book. */
  sendContacts(phone: string, contacts: AddressBookEntry[]): void {
    for (const connection of this.of(phone)) connection.send({ t: 'contacts', contacts });
  }

  /** Sends an event after `delayMs`. A browser that is not connected gets it when it comes back. */
  private dispatch(credential: string, queued: QueuedEvent<BrowserEvent>, delayMs: number): void {
    const connection = this.online.get(credential);
    if (!connection) return;
    if (delayMs <= 0) {
      if (isReceipt(queued)) connection.pushReceipt(queued);
      else connection.pushEvent(queued);
      return;
    }
    setTimeout(() => {
      // A newer connection has already got every event that was queued when it connected.
      if (this.online.get(credential) === connection) connection.pushEvent(queued);
    }, delayMs).unref();
  }

  /** Applies the faults of one phone, or of all phones, to the connected browsers. */
  private applyFaults(phone: string | undefined): void {
    if (this.faults.of(phone).offline) {
      for (const connection of this.of(phone)) connection.terminate();
    }
    for (const connection of this.of(phone)) {
      const pending = connection.credential ? this.outbox.pending(connection.credential.id) : [];
      connection.applyFaults(this.faults.of(connection.phone), pending);
    }
  }

  /** The connected browsers of one phone, or of all phones. */
  private of(phone: string | undefined): BrowserConnection[] {
    const all = [...this.online.values()];
    return phone === undefined ? all : all.filter((connection) => connection.phone === phone);
  }

  private async replace(credential: Credential, connection: BrowserConnection): Promise<void> {
    const older = this.online.get(credential.id);
    if (older && (await isAlive(older))) {
      this.counters.conflicts += 1;
      this.logger.warn({ phone: credential.phone }, 'conflict: two connections with one credential');
      this.refuse(older, 'conflict');
    } else {
      older?.terminate();
    }
    if (!connection.isOpen) return;
    this.online.set(credential.id, connection);
    // Ack 1 is the server's answer on the connection of the message: it is lost with that connection. Receipts are kept.
    const lost = [...this.outbox.pending(credential.id)].filter(
      ({ event }) => event.k === 'ack' && event.ack === 1,
    );
    if (lost.length > 0)
      this.outbox.confirm(
        credential.id,
        lost.map(({ n }) => n),
      );
    const missed = [...this.outbox.pending(credential.id)];
    const frame = this.welcome.frameFor(credential, missed.length);
    connection.welcome(frame, this.faults.of(credential.phone), missed);
  }
}

/** Whether an event comes from the recipient's phone: WhatsApp sends those in batches. */
function isReceipt({ event }: QueuedEvent<BrowserEvent>): boolean {
  return event.k === 'ack' && event.ack > 1;
}

/**
 * Whether a browser is still there. The socket of a killed browser may close a little after its successor has connected,
 * and its network process may even answer one last ping: therefore it has to answer twice.
 */
async function isAlive(connection: BrowserConnection): Promise<boolean> {
  const limit = AbortSignal.timeout(CONFLICT_CHECK_MS);
  if (!(await connection.ping(limit))) return false;
  await delay(SECOND_PING_AFTER_MS);
  return connection.ping(limit);
}
