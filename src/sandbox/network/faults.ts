/** A dialog of the simulated page. `whats_new` closes when its Continue button is pressed; `terms` never closes. */
export type Dialog = 'whats_new' | 'terms';

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
  /**
   * Share of messages that the page gives up: they are marked as failed without an ack. Half of them are given up before the
   * message is accepted, half after.
   */
  sendFailRate: number;
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
  /**
   * A page that starts again sends by itself what an earlier page of its profile left without an ack. Otherwise it marks such
   * messages as failed, and sends them when they are clicked: no start-up resume was found in the modules of WhatsApp Web.
   */
  resumesSends: boolean;
  /** Share of uploads of media that fail. */
  uploadFailRate: number;
  /** Share of downloads of media that fail. */
  downloadFailRate: number;
  /** The minimum duration of an upload of media. */
  uploadDelayMs: number;
  /** The status with which WhatsApp refuses all changes of groups, for example 419 or 429. Reading still works. */
  groupRefusal: number | null;
  /** How long an invite to one phone is valid. */
  inviteLifetimeMs: number;
  /** The status with which WhatsApp refuses to check numbers, for example 429. */
  checkRefusal: number | null;
  /** WhatsApp moves the chats with persons from their numbers to their hidden numbers. Known messages keep their keys. */
  hiddenChats: boolean;
  /** How many messages a page holds in memory; it loads older ones from its disk. */
  messagesInMemory: number;
  /** For how long after sending a message can be edited. */
  editWindowMs: number;
  /** For how long after sending a message can be revoked. */
  revokeWindowMs: number;
  /** WhatsApp accepts this version of its page and later ones only. Null accepts all. */
  oldestVersion: string | null;
  /** A page that is too old loads itself again for ever. Otherwise its state becomes `DEPRECATED_VERSION`. */
  updateLoop: boolean;
  /** How long a QR code is valid; the first of six is valid three times as long. Half of what WhatsApp gives. */
  qrLifetimeMs: number;
  /** Whether a new chat gets the notice that it is encrypted. */
  newChatNotice: boolean;
  /** Whether a revoked message names the key that it had before. Older pages forget that key. */
  revokedNamesOldKey: boolean;
}
