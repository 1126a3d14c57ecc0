import type { BrowserSandbox, Network } from './browser/launch.js';
import type { WebPage } from './web-page.js';
import type { PageCall } from './in-page/page-calls.js';
import type { OwnIds } from './in-page/page-state.js';
import type { PagePresence } from './in-page/page-presence.js';
import type { PageChange, PageGroupNotice, PageMessage } from './in-page/page-functions.js';

/** Why a session ended without a call of `stop`. */
export type CloseReason =
  | 'logged_out'
  | 'conflict'
  | 'unpaired'
  | 'crashed'
  | 'launch_timeout'
  | 'load_timeout'
  | 'sync_timeout'
  /** A phone that may not be the account's phone had linked it, and is unlinked again. */
  | 'other_number'
  /** The same, but WhatsApp has not confirmed that it is unlinked. */
  | 'not_unlinked'
  /** The phone of the account has another number than before. The session stays linked. */
  | 'number_changed'
  /** WhatsApp no longer accepts this version of its page. */
  | 'version_refused';

/** What is known of the page of WhatsApp Web. */
export interface WebState {
  /** What `Debug.VERSION` says. */
  version: string | null;
  /** `broken`: something is missing without which nothing may be sent. */
  contract: 'ok' | 'broken';
  /** The names of what is missing. */
  missing: string[];
}

/**
 * Whether a linked page may be the account. `unlink`: another phone has just linked it. `stop`: it has another number than before, and
 * may not.
 */
export type Admission = 'admit' | 'unlink' | 'stop';

/** How long each phase of a start may take, in milliseconds. No deadline runs while a person must scan or type a code. */
export interface PhaseDeadlines {
  /** From the start of the browser until puppeteer can drive it. If exceeded: `launch_timeout`. */
  launchMs: number;
  /** Then until WhatsApp Web shows a QR code, gives a pairing code or is connected. If exceeded: `load_timeout`. */
  loadMs: number;
  /** From the connection, or from the scan, until `ready`. If exceeded: `sync_timeout`. */
  syncMs: number;
}

/** How long a session may take to stop, in milliseconds. */
export interface StopOptions {
  /** For running sends. Default: 10 s. */
  finishSendsMs?: number;
  /** For the browser to close by itself. Default: 5 s. 0 kills it at once. */
  closeMs?: number;
}

/** The lease of this instance is not valid. Nothing was started. */
export class NotOwned extends Error {
  override name = 'NotOwned';

  constructor(accountId: string) {
    super(`This instance may not start account ${accountId}, because the instance has no valid lease.`);
  }
}

export interface SessionEvents {
  /** A QR code to scan. It is valid for `expiresInMs`. */
  qr: [qr: string, expiresInMs: number];
  /** A pairing code to type into the phone. It is valid for `expiresInMs`. */
  code: [code: string, expiresInMs: number];
  /** The account is linked, and the page receives the messages since its last connection. */
  syncing: [];
  /** The page was compared with the contract. The first time comes before `ready`. */
  web: [state: WebState];
  ready: [who: { phoneNumber: string | null; lid: string | null }];
  /** The text of an open dialog of WhatsApp Web that a person must answer. Null when the dialog is gone. */
  action_required: [text: string | null];
  /** WhatsApp's ack of a message: −1 error, 1 server, 2 device, 3 read, 4 played. */
  ack: [ack: { whatsappId: string; ack: number }];
  /** A message came in, or the account's owner wrote it elsewhere. */
  message: [message: PageMessage];
  /** Somebody, or this account itself, edited or revoked a message, reacted to it or voted in it. */
  change: [change: PageChange];
  /** Somebody in a watched chat went online or offline, types or records. */
  presence: [presence: PagePresence];
  /** Somebody calls the account, or has called it in vain. */
  call: [call: PageCall];
  /** Somebody changed a group. */
  group: [notice: PageGroupNotice];
  /** The session has ended without a call of `stop`. Its browser is gone. */
  closed: [reason: CloseReason, detail: string];
}

export interface WebOptions {
  /** How long a page with a broken contract stays before it is loaded again, in milliseconds. */
  recheckMs: number;
  /** Names of the contract that an operator takes as not needed. */
  ignored: readonly string[];
}

export interface SessionOptions {
  accountId: string;
  /** The browser profile of this account: its credentials. */
  profileDir: string;
  chromiumPath: string;
  /** Default: `auto`. */
  browserSandbox?: BrowserSandbox;
  network: Network;
  /** The page of the version that the account must have. Null: the page that WhatsApp serves. */
  webPage?: WebPage | null;
  /** Decides whether a linked page may be the account, before anything is read from it. Default: any page may. */
  admit?: (own: OwnIds) => Promise<Admission>;
  /** If not null, the account links with a pairing code for this phone number instead of a QR code. */
  pairWithPhoneNumber: string | null;
  deadlines: PhaseDeadlines;
  /** Default: a broken page is loaded again every ten minutes, and nothing is ignored. */
  web?: WebOptions;
  /** Whether this instance owns the account now. The session asks at the last moment before it starts the browser. */
  canStart: () => boolean;
  onWarning: (message: string, error: unknown) => void;
}
