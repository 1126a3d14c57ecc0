import type { Network } from './browser/launch.js';
import type { PageChange, PageGroupNotice, PageMessage } from './in-page/page-functions.js';

/** Why a session ended by itself. */
export type CloseReason =
  'logged_out' | 'conflict' | 'unpaired' | 'crashed' | 'launch_timeout' | 'load_timeout' | 'sync_timeout';

/** How long each phase of a start may take, in milliseconds. None runs while a person is to scan or type a code. */
export interface PhaseDeadlines {
  /** From the start of the browser until it can be driven; late: `launch_timeout`. */
  launchMs: number;
  /** Until WhatsApp Web shows a QR code, gives a pairing code or is connected; late: `load_timeout`. */
  loadMs: number;
  /** From there, or from the scan, until `ready`; late: `sync_timeout`. */
  syncMs: number;
}

/** How long a session may take to stop, in milliseconds. */
export interface StopOptions {
  /** For sends that run; 10 s unless told. */
  finishSendsMs?: number;
  /** For the browser to close by itself; 5 s unless told, and 0 kills it at once. */
  closeMs?: number;
}

/** The lease of this instance does not hold: nothing was started. */
export class NotOwned extends Error {
  override name = 'NotOwned';

  constructor(accountId: string) {
    super(`This instance may not start account ${accountId}: its lease does not hold.`);
  }
}

export interface SessionEvents {
  /** A QR code to be scanned; it is good for `expiresInMs`. */
  qr: [qr: string, expiresInMs: number];
  /** A pairing code to be typed into the phone. */
  code: [code: string, expiresInMs: number];
  /** The account is linked and WhatsApp hands over what happened meanwhile. */
  syncing: [];
  ready: [who: { phoneNumber: string | null; lid: string | null }];
  /** A dialog of WhatsApp Web stays open that a person has to answer: its text. Null when it is gone. */
  action_required: [text: string | null];
  /** WhatsApp's ack of a message: −1 error, 1 server, 2 device, 3 read, 4 played. */
  ack: [ack: { whatsappId: string; ack: number }];
  message: [message: PageMessage];
  /** A message was edited, revoked or reacted to, by whomever. */
  change: [change: PageChange];
  /** Somebody did something to a group. */
  group: [notice: PageGroupNotice];
  /** The session has ended without being asked to; its browser is gone. */
  closed: [reason: CloseReason, detail: string];
}

export interface SessionOptions {
  accountId: string;
  /** The browser profile of this account: its credentials. */
  profileDir: string;
  chromiumPath: string;
  network: Network;
  /** Links by pairing code with this phone number instead of by QR code. */
  pairWithPhoneNumber: string | null;
  deadlines: PhaseDeadlines;
  /** Whether this instance owns the account now. Asked at the last moment before the browser is started. */
  canStart: () => boolean;
  onWarning: (message: string, error: unknown) => void;
}
