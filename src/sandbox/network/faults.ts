/** The dialogs of the simulated page. `whats_new` closes when its Continue button is pressed; `terms` never closes. */
export const DIALOGS = ['whats_new', 'terms'] as const;

export type Dialog = (typeof DIALOGS)[number];

/** What can fail, or take longer. Without faults, a message is accepted, delivered and read at once. */
export interface Faults {
  /** Delay of ack 1 after the message was accepted. */
  ackDelayMs: number;
  /** Delay of ack 2 after ack 1, and of ack 3 after ack 2. At 0, both come in the next batch of receipts. */
  receiptDelayMs: number;
  /** Share of accepted messages (0 to 1) whose acks are lost. */
  dropAckRate: number;
  /** Share of messages that are refused: ack −1, and no line in the ledger. */
  refuseRate: number;
  /** Share of messages that cut the sender's connection: half of them before the message is accepted, half after. */
  disconnectRate: number;
  /** How long a browser syncs after it has connected. */
  syncDelayMs: number;
  /** Syncing ends before whatsapp-web.js listens for it: "authenticated but never ready". */
  earlySync: boolean;
  /** The dialog that linked browsers show. While it is open, they do not end syncing. */
  dialog: Dialog | null;
  /** Phones receive messages: ack 2. */
  deliverAcks: boolean;
  /** Owners read messages: ack 3. */
  readAcks: boolean;
  /** Connections of linked browsers are refused, as if the network were down. */
  offline: boolean;
  /**
   * The sandbox ignores the frames of the browsers that are connected now and sends them nothing: the connection looks
   * alive but is dead. It ends for a browser that connects again, and for all browsers when the fault is removed.
   */
  silent: boolean;
  /** Browsers get each incoming message a second time, a moment later, with the same id. */
  doubleIncoming: boolean;
  /** Share of messages before which the page reloads itself, once per message: the sandbox does not get the message. */
  reloadBeforeSendRate: number;
  /** Share of messages after which the page reloads, once per message: they are accepted, and the page does not know it. */
  reloadAfterSendRate: number;
  /** Share of uploads of media that fail. */
  uploadFailRate: number;
  /** Share of downloads of media that fail. */
  downloadFailRate: number;
  /** The minimum duration of an upload of media. */
  uploadDelayMs: number;
  /** The status with which WhatsApp refuses all changes of groups, for example 419 or 429. Reading still works. */
  groupRefusal: number | null;
  /** How many messages a page holds in memory; it loads older ones from its disk. */
  messagesInMemory: number;
  /** For how long after sending a message can be edited. */
  editWindowMs: number;
  /** For how long after sending a message can be revoked. */
  revokeWindowMs: number;
  /** How long a QR code is valid. */
  qrLifetimeMs: number;
}

/** A sandbox without faults. */
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

/** The faults in force: general ones, and overrides for single phones. They do not survive a restart. */
export class FaultSettings {
  private general: Faults = NO_FAULTS;
  private readonly overrides = new Map<string, Partial<Faults>>();
  private readonly listeners: ((phone: string | undefined) => void)[] = [];

  /** Calls `listener` after every change, with the phone that it concerns; undefined means all phones. */
  onChange(listener: (phone: string | undefined) => void): void {
    this.listeners.push(listener);
  }

  /** Replaces the overrides of one phone, or the general faults. Faults that are left out are removed. */
  put(faults: Partial<Faults>, phone?: string): Faults {
    const named = Object.fromEntries(
      Object.entries(faults).filter(([, value]) => value !== undefined),
    ) as Partial<Faults>;
    if (phone === undefined) this.general = { ...NO_FAULTS, ...named };
    else this.overrides.set(phone, named);
    this.changed(phone);
    return this.of(phone);
  }

  /** Removes all faults and overrides. */
  clear(): void {
    this.general = NO_FAULTS;
    this.overrides.clear();
    this.changed(undefined);
  }

  /** The faults for a phone's browsers and messages. */
  of(phone: string | undefined): Faults {
    const own = phone === undefined ? undefined : this.overrides.get(phone);
    return own ? { ...this.general, ...own } : this.general;
  }

  private changed(phone: string | undefined): void {
    for (const listener of this.listeners) listener(phone);
  }
}
