import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { lidOf } from '../addresses.js';
import type { QueuedEvent } from '../journal/queued-event.js';
import type { BrowserEvent } from '../network/events.js';
import type { Dialog, Faults } from '../network/faults.js';
import type { Credential } from '../network/phones.js';
import type { SandboxLogger } from '../options.js';
import type { ServerFrame, WelcomeFrame } from './frames.js';
import type { InFlight } from './in-flight.js';

/** Why the sandbox ends a connection for good: the page must not connect again. */
export type Refusal = 'conflict' | 'unlinked';

const EVENTS_PER_FRAME = 500;
const RECEIPT_BATCH_MS = 150;
/** A browser that stops reading is cut off; it gets everything again when it comes back. */
const MAX_UNREAD_BYTES = 64 * 1024 * 1024;

/** The WebSocket of one page, as far as the sandbox sends on it. {@link FrameHandler} handles what the page sends. */
export class BrowserConnection {
  /** The page proves with it that it knows the secret of its credential. */
  readonly nonce = randomBytes(24).toString('base64');
  /** Set once the page has proved that it has this credential. */
  credential: Credential | undefined;
  private events: QueuedEvent<BrowserEvent>[] = [];
  private receipts: QueuedEvent<BrowserEvent>[] = [];
  private flushing: NodeJS.Immediate | undefined;
  private flushingReceipts: NodeJS.Timeout | undefined;
  private onStored: ((id: string) => void) | undefined;
  private dialog: Dialog | null = null;
  private silent = false;

  constructor(
    private readonly socket: WebSocket,
    private readonly inFlight: InFlight,
    private readonly logger: SandboxLogger,
  ) {
    this.send({ t: 'challenge', nonce: this.nonce });
  }

  /** Whether frames can still be sent. */
  get isOpen(): boolean {
    return this.socket.readyState === WebSocket.OPEN;
  }

  /** Whether frames are dropped in both directions: the connection is dead, and the page does not know it. */
  get isSilent(): boolean {
    return this.silent;
  }

  /** The number of the page's account, once the page has proved its credential. */
  get phone(): string | undefined {
    return this.credential?.phone;
  }

  /** Sends one frame, if the socket is open. */
  send(frame: ServerFrame): void {
    if (!this.isOpen || this.silent) return;
    if (this.socket.bufferedAmount > MAX_UNREAD_BYTES) {
      this.logger.warn({}, 'a page stopped reading: its connection is cut');
      this.terminate();
      return;
    }
    this.socket.send(JSON.stringify(frame));
  }

  /** Sends an event, together with other events of this turn of the event loop. */
  pushEvent(event: QueuedEvent<BrowserEvent>): void {
    this.events.push(event);
    this.flushing ??= setImmediate(() => this.flushEvents());
  }

  /** Sends a receipt a moment later, together with other receipts. */
  pushReceipt(event: QueuedEvent<BrowserEvent>): void {
    this.receipts.push(event);
    this.flushingReceipts ??= setTimeout(() => {
      this.flushingReceipts = undefined;
      this.events.push(...this.receipts);
      this.receipts = [];
      this.flushEvents();
    }, RECEIPT_BATCH_MS);
  }

  /** Greets a linked browser with `frame` and sends the events that it missed. */
  welcome(frame: WelcomeFrame, faults: Faults, missed: QueuedEvent<BrowserEvent>[]): void {
    this.dialog = faults.dialog;
    this.sendRules(faults);
    this.send(frame);
    this.events.push(...missed);
    this.flushEvents();
    this.send({ t: 'caught-up' });
  }

  /** Applies faults to the page. `pending` are the events that it has not confirmed: it gets them when silence ends. */
  applyFaults(faults: Faults, pending: Iterable<QueuedEvent<BrowserEvent>>): void {
    if (this.silent && !faults.silent) {
      // The page gets the events now. Frames that it sent during the silence stay lost until it connects again.
      this.silent = false;
      this.events.push(...pending);
      this.flushEvents();
    }
    this.sendRules(faults);
    if (faults.dialog !== this.dialog) this.send({ t: 'dialog', dialog: faults.dialog });
    this.dialog = faults.dialog;
    this.silent = faults.silent;
  }

  /** Reloads the page; no frame follows, not even an ack that waits behind this one. */
  reloadPage(): void {
    this.send({ t: 'reload' });
    this.silent = true;
  }

  /** Gives a credential to the page; true once the page has stored it. */
  async giveCredential(
    credential: Credential,
    name: string,
    proof: string,
    limit: AbortSignal,
  ): Promise<boolean> {
    const answered = new Promise<boolean>((resolve) => {
      this.onStored = (id) => resolve(id === credential.id);
      const giveUp = (): void => resolve(false);
      limit.addEventListener('abort', giveUp, { once: true });
      this.socket.once('close', giveUp);
    });
    const { id, phone } = credential;
    this.send({ t: 'paired', id, phone, lid: lidOf(phone), name, proof });
    try {
      return this.isOpen && (await answered);
    } finally {
      this.onStored = undefined;
    }
  }

  /** The page says that it has stored a credential. */
  credentialStored(id: string): void {
    this.onStored?.(id);
  }

  /** Whether the browser answers a ping before `limit` ends. */
  async ping(limit: AbortSignal): Promise<boolean> {
    if (!this.isOpen || limit.aborted) return false;
    this.socket.ping();
    const closed = new AbortController();
    const onClose = (): void => closed.abort();
    this.socket.once('close', onClose);
    try {
      await once(this.socket, 'pong', { signal: AbortSignal.any([limit, closed.signal]) });
      return this.isOpen;
    } catch {
      return false;
    } finally {
      this.socket.off('close', onClose);
    }
  }

  /** Ends the connection and tells the page why. */
  refuse(reason: Refusal): void {
    this.send({ t: reason });
    this.socket.close(1000);
  }

  /** Closes with a WebSocket status code. */
  close(code: number): void {
    this.socket.close(code);
  }

  /** Cuts the connection, as a lost network does. */
  terminate(): void {
    this.socket.terminate();
  }

  /** Drops what waits to be sent, after the socket has closed. */
  discard(): void {
    if (this.flushing) clearImmediate(this.flushing);
    clearTimeout(this.flushingReceipts);
  }

  private flushEvents(): void {
    if (this.flushing) clearImmediate(this.flushing);
    this.flushing = undefined;
    const events = this.events;
    this.events = [];
    if (!this.isOpen) return;
    for (const { event } of events) {
      if (event.k === 'ack' && this.phone !== undefined) this.inFlight.end(this.phone, event.id);
    }
    for (let start = 0; start < events.length; start += EVENTS_PER_FRAME) {
      this.send({ t: 'ev', e: events.slice(start, start + EVENTS_PER_FRAME) });
    }
  }

  /** Limits that a real WhatsApp Web has in its program, and faults that the page applies to itself. */
  private sendRules(faults: Faults): void {
    const { editWindowMs, revokeWindowMs, reloadBeforeSendRate, resumesSends, messagesInMemory } = faults;
    const { newChatNotice, revokedNamesOldKey, oldestVersion, updateLoop, hiddenChats } = faults;
    const sends = { reloadBeforeSendRate, resumesSends };
    const windows = { editWindowMs, revokeWindowMs };
    const builds = { newChatNotice, revokedNamesOldKey, oldestVersion, updateLoop, hiddenChats };
    this.send({ t: 'rules', rules: { ...windows, ...sends, ...builds, messagesInMemory } });
  }
}
