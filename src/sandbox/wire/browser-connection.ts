import { randomBytes, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { type RawData, WebSocket } from 'ws';
import { type Content, type SubmittedContent, typeOfPage } from '../journal/content.js';
import type { Dialog } from '../network/faults.js';
import type { MediaPointer } from '../network/media.js';
import type { SandboxNetwork } from '../network/network.js';
import type { QueuedEvent } from '../journal/outbox.js';
import { proofOf } from './linking.js';
import { type Credential, lidOf } from '../network/phones.js';
import { answerTo, MAX_TEXT_LENGTH, type Question } from './questions.js';

/** What a browser sends. */
type BrowserFrame =
  | { t: 'register'; noisePublicKey: string; identityPublicKey: string; device: string }
  | { t: 'stored'; id: string }
  | { t: 'auth'; id: string; proof: string }
  | { t: 'send'; id: string; to: string; type: string; text: string; content?: SubmittedContent }
  | { t: 'chatstate'; to: string; state: string }
  | { t: 'got'; n: number[] }
  | ({ t: 'ask'; n: number } & Question)
  | { t: 'unknown-module'; name: string };

/** Why a connection is ended for good: the page must not simply connect again. */
export type Refusal = 'conflict' | 'unlinked';

const EVENTS_PER_FRAME = 500;
const RECEIPT_BATCH_MS = 150;
/** A browser that stops reading is cut off; it gets everything again when it comes back. */
const MAX_UNREAD_BYTES = 64 * 1024 * 1024;

/** One WebSocket of one page. */
export class SandboxConnection {
  private readonly nonce = randomBytes(24).toString('base64');
  private credential: Credential | undefined;
  private events: QueuedEvent[] = [];
  private receipts: QueuedEvent[] = [];
  private flushing: NodeJS.Immediate | undefined;
  private flushingReceipts: NodeJS.Timeout | undefined;
  private stored: ((id: string) => void) | undefined;
  private dialog: Dialog | null = null;
  /** What comes is dropped, and nothing is sent: the connection is dead, but nobody was told. */
  private isSilent = false;

  constructor(
    private readonly socket: WebSocket,
    private readonly network: SandboxNetwork,
  ) {
    socket.on('message', (data) => this.receive(data));
    socket.on('close', () => this.closed());
    // 'close' follows every error.
    socket.on('error', (error) => network.logger.debug({ err: error }, 'page socket error'));
    this.send({ t: 'challenge', nonce: this.nonce });
  }

  /** Whether frames can still be sent. */
  get isOpen(): boolean {
    return this.socket.readyState === WebSocket.OPEN;
  }

  /** The number that it belongs to, once authenticated. */
  get phone(): string | undefined {
    return this.credential?.phone;
  }

  /** Sends one frame, if the socket is open. */
  send(frame: object): void {
    if (!this.isOpen || this.isSilent) return;
    if (this.socket.bufferedAmount > MAX_UNREAD_BYTES) {
      this.network.logger.warn({}, 'a page stopped reading: its connection is cut');
      this.terminate();
      return;
    }
    this.socket.send(JSON.stringify(frame));
  }

  /** Sends an event with the others of this turn of the event loop. */
  pushEvent(event: QueuedEvent): void {
    this.events.push(event);
    this.flushing ??= setImmediate(() => this.flushEvents());
  }

  /** Sends a receipt with the others of the last moments. */
  pushReceipt(event: QueuedEvent): void {
    this.receipts.push(event);
    this.flushingReceipts ??= setTimeout(() => {
      this.flushingReceipts = undefined;
      this.events.push(...this.receipts);
      this.receipts = [];
      this.flushEvents();
    }, RECEIPT_BATCH_MS);
  }

  /** Greets a linked browser and tells it everything that it missed. */
  welcome(missed: Iterable<QueuedEvent>): void {
    const { credential } = this;
    if (!credential) return;
    const phone = this.network.phones.find(credential.phone);
    const { syncDelayMs, earlySync, dialog } = this.network.faults.of(credential.phone);
    this.dialog = dialog;
    this.sendRules();
    const list = [...missed];
    this.send({
      t: 'welcome',
      phone: credential.phone,
      lid: lidOf(credential.phone),
      name: phone?.name ?? '',
      offline: list.length,
      syncDelayMs,
      earlySync,
      dialog,
      groups: this.network.groups
        .list(credential.phone)
        .map((group) => this.network.groupActions.stateOf(group)),
      contacts: this.network.phones.contactsOf(credential.phone),
    });
    this.events.push(...list);
    this.flushEvents();
    this.send({ t: 'caught-up' });
  }

  /** Makes the page feel the faults that hold now. */
  applyFaults(): void {
    const { dialog, silent } = this.network.faults.of(this.phone);
    if (this.isSilent && !silent) this.endSilence();
    this.sendRules();
    if (dialog !== this.dialog) this.send({ t: 'dialog', dialog });
    this.dialog = dialog;
    this.isSilent = silent;
  }

  /** Tells what was kept back; what the page sent meanwhile is lost until it connects anew. */
  private endSilence(): void {
    this.isSilent = false;
    if (this.credential) this.events.push(...this.network.outbox.pending(this.credential.id));
    this.flushEvents();
  }

  /** What WhatsApp's programs know by themselves, and what the page is to do to itself. */
  private sendRules(): void {
    const { editWindowMs, revokeWindowMs, reloadBeforeSendRate, messagesInMemory } = this.network.faults.of(
      this.phone,
    );
    const rules = { editWindowMs, revokeWindowMs, reloadBeforeSendRate, messagesInMemory };
    this.send({ t: 'rules', rules });
  }

  /** Hands a credential to the page; true once the page has stored it. */
  async pair(credential: Credential, proof: string, limit: AbortSignal): Promise<boolean> {
    const answered = new Promise<boolean>((resolve) => {
      this.stored = (id) => resolve(id === credential.id);
      const givenUp = (): void => resolve(false);
      limit.addEventListener('abort', givenUp, { once: true });
      this.socket.once('close', givenUp);
    });
    const phone = this.network.phones.find(credential.phone);
    this.send({
      t: 'paired',
      id: credential.id,
      phone: credential.phone,
      lid: lidOf(credential.phone),
      name: phone?.name ?? '',
      proof,
    });
    try {
      return this.isOpen && (await answered);
    } finally {
      this.stored = undefined;
    }
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
    this.leave();
    this.send({ t: reason });
    this.socket.close(1000);
  }

  /** Closes politely: the page connects again by itself. */
  close(): void {
    this.socket.close(1001);
  }

  /** Cuts the connection as a lost network does. */
  terminate(): void {
    this.socket.terminate();
  }

  private flushEvents(): void {
    if (this.flushing) clearImmediate(this.flushing);
    this.flushing = undefined;
    const events = this.events;
    this.events = [];
    if (!this.isOpen) return;
    for (const { event } of events) {
      if (event.k === 'ack' && this.credential) this.network.inFlight.end(this.credential.phone, event.id);
    }
    for (let start = 0; start < events.length; start += EVENTS_PER_FRAME) {
      this.send({ t: 'ev', e: events.slice(start, start + EVENTS_PER_FRAME) });
    }
  }

  private receive(data: RawData): void {
    let frame: BrowserFrame;
    try {
      frame = JSON.parse(String(data)) as BrowserFrame;
    } catch {
      this.socket.close(1007);
      return;
    }
    if (this.isSilent) {
      this.network.unheard += 1;
      return;
    }
    this.handle(frame).catch((error: unknown) => {
      // Whatever went wrong, the page connects again and repeats what was not confirmed.
      this.network.logger.error({ err: error }, 'a frame of a page failed');
      this.terminate();
    });
  }

  private async handle(frame: BrowserFrame): Promise<void> {
    switch (frame.t) {
      case 'register':
        this.network.pairing.register(this, frame);
        return;
      case 'stored':
        this.stored?.(frame.id);
        return;
      case 'auth':
        return this.authenticate(frame.id, frame.proof);
      case 'send':
        return this.submit(frame);
      case 'chatstate':
        if (this.credential) this.network.sawChatState(frame.state);
        return;
      case 'got':
        if (this.credential) this.network.outbox.confirm(this.credential.id, frame.n);
        return;
      case 'ask':
        return this.answer(frame);
      case 'unknown-module':
        this.network.unknownModule(frame.name);
        return;
    }
  }

  private async authenticate(id: string, proof: string): Promise<void> {
    const credential = this.network.phones.credential(id);
    if (!credential || !sameText(proofOf(credential.secret, this.nonce), proof)) {
      this.refuse('unlinked');
      return;
    }
    if (this.network.faults.of(credential.phone).offline) {
      this.socket.close(1013);
      return;
    }
    if (this.credential) return;
    this.credential = credential;
    await this.network.companions.admit(credential, this);
    // It may have been unlinked while an older connection was being examined.
    if (!this.network.phones.credential(credential.id)) this.refuse('unlinked');
  }

  private async submit({
    id,
    to,
    type,
    text,
    content = {},
  }: Extract<BrowserFrame, { t: 'send' }>): Promise<void> {
    const { credential, network } = this;
    if (!credential || !network.phones.credential(credential.id)) return;
    const faults = network.faults.of(credential.phone);
    // A repetition of what was accepted is acknowledged again, never refused; its sender may know the ack by now.
    const isRepeated = network.ledger.has({ from: credential.phone, to, whatsappId: id });
    if (!isRepeated) network.inFlight.begin(credential.phone, id);
    const refused = !isRepeated && faults.refuseRate > 0 && Math.random() < faults.refuseRate;
    if (refused || !network.delivery.mayWrite(credential.phone, to) || text.length > MAX_TEXT_LENGTH) {
      network.inFlight.end(credential.phone, id);
      this.send({ t: 'refused', id });
      return;
    }
    const cut = faults.disconnectRate > 0 && Math.random() < faults.disconnectRate;
    // Cut before or after the message is taken: the sender cannot tell which.
    if (cut && Math.random() < 0.5) {
      this.terminate();
      return;
    }
    const media = content.media && (await this.prove(content.media));
    if (media === null) {
      network.inFlight.end(credential.phone, id);
      this.send({ t: 'refused', id });
      return;
    }
    const submission = {
      from: credential.phone,
      to,
      whatsappId: id,
      type: typeOfPage(type),
      text,
      ...content,
      media,
    };
    const accepted = network.delivery.accept(submission, credential.id);
    if (cut) this.terminate();
    const { duplicate } = await accepted;
    if (!duplicate && faults.reloadAfterSendRate > 0 && Math.random() < faults.reloadAfterSendRate) {
      network.reloads += 1;
      this.send({ t: 'reload' });
      // Not even the ack, which is on its way behind this, is to be heard any more.
      this.isSilent = true;
    }
  }

  /** The media of a message with the hash of its bytes; null when they are not what the message says. */
  private async prove(media: MediaPointer): Promise<Content['media'] | null> {
    try {
      return { ...media, sha256: await this.network.media.sha256Of(media) };
    } catch (error) {
      this.network.logger.warn({ err: error }, 'media that cannot be read was refused');
      return null;
    }
  }

  private async answer(frame: Extract<BrowserFrame, { t: 'ask' }>): Promise<void> {
    const { credential, network } = this;
    if (frame.q === 'logout') this.leave();
    try {
      this.send({ t: 'answer', n: frame.n, result: await answerTo(frame, network, this, credential) });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.send({ t: 'answer', n: frame.n, error: message });
    }
    if (frame.q === 'logout') this.socket.close(1000);
  }

  private closed(): void {
    if (this.flushing) clearImmediate(this.flushing);
    clearTimeout(this.flushingReceipts);
    this.network.pairing.forget(this);
    this.leave();
  }

  private leave(): void {
    if (this.credential) this.network.companions.left(this.credential.id, this);
  }
}

function sameText(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(String(b))];
  return left.length === right.length && timingSafeEqual(left, right);
}
