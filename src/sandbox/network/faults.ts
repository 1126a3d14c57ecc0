/** What WhatsApp Web may put over its page: `whats_new` goes when its Continue is pressed, `terms` stays whatever is. */
export const DIALOGS = ['whats_new', 'terms'] as const;

export type Dialog = (typeof DIALOGS)[number];

/** What can be made to go wrong, or take longer. Without faults a message is accepted, delivered and read at once. */
export interface Faults {
  /** Delay of ack 1 after the message was accepted. */
  ackDelayMs: number;
  /** Delay of ack 2 after ack 1, and of ack 3 after ack 2; without one, both come in the next batch of receipts. */
  receiptDelayMs: number;
  /** Share of accepted messages (0 to 1) whose acks are lost. */
  dropAckRate: number;
  /** Share of messages that are refused: ack −1, nothing in the ledger. */
  refuseRate: number;
  /** Share of messages that cut the sender's connection, half of them before the message is accepted and half after. */
  disconnectRate: number;
  /** How long a browser goes on syncing after it connected. */
  syncDelayMs: number;
  /** Syncing ends at once, before whatsapp-web.js listens: "authenticated but never ready". */
  earlySync: boolean;
  /** The dialog that linked browsers show, and under which they do not end syncing. */
  dialog: Dialog | null;
  /** Phones receive messages: ack 2. */
  deliverAcks: boolean;
  /** Owners read messages: ack 3. */
  readAcks: boolean;
  /** Connections of linked browsers are turned away, as if the network were down. */
  offline: boolean;
  /**
   * The server takes the frames of the browsers that are connected now and answers nothing, as a connection that says
   * WORKING but is dead. Ends for a browser that connects anew, and for all when the fault is taken back.
   */
  silent: boolean;
  /** Browsers are told of an incoming message a second time, a moment later, under the same id. */
  doubleIncoming: boolean;
  /** Share of messages (each once) before which the page reloads itself: nobody has the message. */
  reloadBeforeSendRate: number;
  /** Share of messages (each once) after which the page is reloaded: accepted, but the page never heard of it. */
  reloadAfterSendRate: number;
  /** Share of uploads of media that fail. */
  uploadFailRate: number;
  /** Share of downloads of media that fail. */
  downloadFailRate: number;
  /** How long an upload of media takes at least. */
  uploadDelayMs: number;
  /** WhatsApp's status with which whatever is done to groups is refused, 419 or 429 say; reading them is not. */
  groupRefusal: number | null;
  /** How many messages a page holds in memory; what is older it has to load from its disk. */
  messagesInMemory: number;
  /** How long after it was sent a message can be edited. */
  editWindowMs: number;
  /** How long after it was sent a message can be revoked. */
  revokeWindowMs: number;
  /** How long a QR code is valid. */
  qrLifetimeMs: number;
}

/** What a healthy sandbox does. */
export const NO_FAULTS: Readonly<Faults> = {
  ackDelayMs: 0,
  receiptDelayMs: 0,
  dropAckRate: 0,
  refuseRate: 0,
  disconnectRate: 0,
  syncDelayMs: 0,
  earlySync: false,
  dialog: null,
  deliverAcks: true,
  readAcks: true,
  offline: false,
  silent: false,
  doubleIncoming: false,
  reloadBeforeSendRate: 0,
  reloadAfterSendRate: 0,
  uploadFailRate: 0,
  downloadFailRate: 0,
  uploadDelayMs: 0,
  groupRefusal: null,
  messagesInMemory: 2000,
  editWindowMs: 15 * 60_000,
  revokeWindowMs: 60 * 3_600_000,
  qrLifetimeMs: 20_000,
};

/** The faults in force: for everybody, and on top of them for single phones. They do not survive a restart. */
export class FaultBoard {
  private everybody: Faults = NO_FAULTS;
  private readonly overrides = new Map<string, Partial<Faults>>();

  /** Replaces the faults of one phone, or of everybody; what is not named is healthy again. */
  put(faults: Partial<Faults>, phone?: string): Faults {
    const named = Object.fromEntries(
      Object.entries(faults).filter(([, value]) => value !== undefined),
    ) as Partial<Faults>;
    if (phone === undefined) this.everybody = { ...NO_FAULTS, ...named };
    else this.overrides.set(phone, named);
    return this.of(phone);
  }

  /** Removes all faults, of everybody and of every phone. */
  clear(): void {
    this.everybody = NO_FAULTS;
    this.overrides.clear();
  }

  /** The faults that hold for a phone's browsers and messages. */
  of(phone: string | undefined): Faults {
    const own = phone === undefined ? undefined : this.overrides.get(phone);
    return own ? { ...this.everybody, ...own } : this.everybody;
  }
}
