import { setTimeout as delay } from 'node:timers/promises';
import type { SandboxConnection } from './browser-connection.js';
import type { SandboxLogger } from '../options.js';
import type { Outbox, QueuedEvent } from '../journal/outbox.js';
import type { Credential } from '../network/phones.js';

const CONFLICT_CHECK_MS = 1000;
const SECOND_PING_AFTER_MS = 250;

/** The linked browsers that are connected now: at most one connection per credential. */
export class Companions {
  conflicts = 0;
  private readonly online = new Map<string, SandboxConnection>();
  private readonly admissions = new Map<string, Promise<unknown>>();

  constructor(
    private readonly outbox: Outbox,
    private readonly logger: SandboxLogger,
  ) {}

  /** How many linked browsers are connected. */
  get onlineCount(): number {
    return this.online.size;
  }

  /** The open connection of a credential. */
  connectionOf(credential: string): SandboxConnection | undefined {
    return this.online.get(credential);
  }

  /**
   * Lets an authenticated connection in, one at a time per credential. An older connection that is still alive is a
   * conflict, and loses; false if the new one closed while that was found out.
   */
  async admit(credential: Credential, connection: SandboxConnection): Promise<boolean> {
    const before = this.admissions.get(credential.id) ?? Promise.resolve();
    const admission = before.then(() => this.replace(credential, connection));
    this.admissions.set(credential.id, admission);
    try {
      return await admission;
    } finally {
      if (this.admissions.get(credential.id) === admission) this.admissions.delete(credential.id);
    }
  }

  /** Forgets a connection that closed. */
  left(credential: string, connection: SandboxConnection): void {
    if (this.online.get(credential) === connection) this.online.delete(credential);
  }

  /** Tells a browser about an event after `delayMs`; one that is not connected gets it when it comes back. */
  dispatch(credential: string, queued: QueuedEvent, delayMs: number): void {
    const connection = this.online.get(credential);
    if (!connection) return;
    if (delayMs <= 0) {
      if (isReceipt(queued)) connection.pushReceipt(queued);
      else connection.pushEvent(queued);
      return;
    }
    setTimeout(() => {
      // A newer connection was told everything that was queued when it came.
      if (this.online.get(credential) === connection) connection.pushEvent(queued);
    }, delayMs).unref();
  }

  /** Tells the connected browsers of a phone what its address book is now. */
  tellContacts(phone: string, contacts: { phone: string; name: string }[]): void {
    for (const connection of this.online.values()) {
      if (connection.phone === phone) connection.send({ t: 'contacts', contacts });
    }
  }

  /** Cuts the connections of one phone, or of everybody, as a lost network does. */
  cut(phone: string | undefined): void {
    for (const connection of [...this.online.values()]) {
      if (phone === undefined || connection.phone === phone) connection.terminate();
    }
  }

  /** Makes the connected browsers of one phone, or of everybody, feel the faults that hold now. */
  applyFaults(phone: string | undefined): void {
    for (const connection of this.online.values()) {
      if (phone === undefined || connection.phone === phone) connection.applyFaults();
    }
  }

  private async replace(credential: Credential, connection: SandboxConnection): Promise<boolean> {
    const older = this.online.get(credential.id);
    if (older && (await isAlive(older))) {
      this.conflicts += 1;
      this.logger.warn({ phone: credential.phone }, 'conflict: two connections with one credential');
      older.refuse('conflict');
    } else {
      older?.terminate();
    }
    if (!connection.isOpen) return false;
    this.online.set(credential.id, connection);
    connection.welcome(this.outbox.pending(credential.id));
    return true;
  }
}

/** Whether an event comes from the recipient's phone: those are told in batches, as WhatsApp does it. */
function isReceipt({ event }: QueuedEvent): boolean {
  return event.k === 'ack' && event.ack > 1;
}

/**
 * Whether a browser is really there. The socket of a killed browser may close a little after its successor connects,
 * and its network process may even answer one last ping: so it has to answer twice.
 */
async function isAlive(connection: SandboxConnection): Promise<boolean> {
  const limit = AbortSignal.timeout(CONFLICT_CHECK_MS);
  if (!(await connection.ping(limit))) return false;
  await delay(SECOND_PING_AFTER_MS);
  return connection.ping(limit);
}
