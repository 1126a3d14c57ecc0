/**
 * What a page and the server tell each other over the WebSocket. Both import it as types only, and it imports nothing: the
 * server compiles for Node, the page for Chromium.
 */

/** What a page sends. */
export type BrowserFrame =
  | { t: 'register'; noisePublicKey: string; identityPublicKey: string; device: string }
  | { t: 'stored'; id: string }
  | { t: 'auth'; id: string; proof: string }
  | { t: 'send'; id: string; to: string; type: string; text: string; content?: SubmittedContent }
  | { t: 'chatstate'; to: string; state: string }
  | { t: 'got'; n: number[] }
  | ({ t: 'ask'; n: number } & Question)
  | { t: 'unknown-module'; name: string };

/** What the server sends. */
export type ServerFrame =
  | { t: 'challenge'; nonce: string }
  /** The first part of the QR code. */
  | { t: 'ref'; ref: string }
  | { t: 'paired'; id: string; phone: string; lid: string; name: string; proof: string }
  | Welcome
  | { t: 'ev'; e: QueuedEvent[] }
  /** The page has been told everything that it missed. */
  | { t: 'caught-up' }
  | { t: 'refused'; id: string }
  /** The connection ends for good: the page must not connect again by itself. */
  | { t: 'conflict' }
  | { t: 'unlinked' }
  | { t: 'contacts'; contacts: AddressBookEntry[] }
  | { t: 'dialog'; dialog: Dialog | null }
  | { t: 'rules'; rules: Rules }
  | { t: 'reload' }
  | { t: 'beat' }
  | { t: 'answer'; n: number; result?: Answer; error?: string };

/** The greeting of a linked browser. */
export interface Welcome {
  t: 'welcome';
  phone: string;
  lid: string;
  /** The account's own name. */
  name: string;
  /** How many events the page missed. */
  offline: number;
  syncDelayMs: number;
  earlySync: boolean;
  dialog: Dialog | null;
  groups: GroupState[];
  contacts: AddressBookEntry[];
}

/** A dialog over the page. */
export type Dialog = 'whats_new' | 'terms';

/** Somebody whom the phone's owner has in the address book. */
export interface AddressBookEntry {
  phone: string;
  name: string;
}

/** What the page may do, and what it does to itself. */
export interface Rules {
  editWindowMs: number;
  revokeWindowMs: number;
  reloadBeforeSendRate: number;
  messagesInMemory: number;
}

/** The questions of a page: what each gives, and its answer. */
export interface Questions {
  exists: { asked: { phone: string }; answer: Registration | null };
  group: { asked: { group: GroupAction }; answer: GroupResult };
  picture: { asked: { of: string }; answer: { eurl: string } | null };
  code: { asked: { phone: string; secret: string }; answer: string };
  /** The answer is the time of the action, in milliseconds since 1970. */
  act: { asked: { deed: MessageActionQuestion }; answer: { at: number } };
  'refresh-qr': { asked: object; answer: true };
  logout: { asked: object; answer: true };
}

export type Question = { [Q in keyof Questions]: { q: Q } & Questions[Q]['asked'] }[keyof Questions];

export type Answer = Questions[keyof Questions]['answer'];

/** A registered number. */
export interface Registration {
  name: string;
  lid: string;
  isBusiness: boolean;
  /** Its owner shows the number to nobody. */
  hidden: boolean;
}

/** What can be done to a message that was sent. */
export type Action = 'edit' | 'reaction' | 'revoke' | 'vote';

/** What a page does to a message: to its own (`fromMe`) or to one of the other party. */
export interface MessageActionQuestion {
  action: Action;
  chat: string;
  fromMe: boolean;
  /** In a group: the number of whoever wrote the message. */
  author?: string;
  id: string;
  text: string;
}

/** An event with the number under which the browser confirms it. */
export interface QueuedEvent {
  n: number;
  event: CompanionEvent;
}

/** What the server tells a linked browser, at least once and in order. */
export type CompanionEvent = MessageEvent | AckEvent | ActionEvent | GroupEvent;

/** A message for a linked browser: one that its phone received, or one that its owner wrote elsewhere. */
export interface MessageEvent {
  k: 'msg';
  id: string;
  /** The other party's number, or the address of a group. */
  chat: string;
  fromMe: boolean;
  /** In a group: the number of whoever wrote it. */
  author?: string;
  /** Its writer shows the number to nobody: the page may know the LID alone. */
  hidden?: true;
  type: string;
  text: string;
  /** Seconds since 1970. */
  t: number;
  /** The sender's name. */
  name: string;
  content: Content;
  /** It has been told before, and the page is to behave as if it had not noticed. */
  again?: true;
}

/** The progress of a message that the account wrote: 1 server, 2 device, 3 read. */
export interface AckEvent {
  k: 'ack';
  id: string;
  chat: string;
  ack: number;
}

/** What somebody did to a message that was sent. */
export interface ActionEvent {
  k: Action;
  /** The message. */
  id: string;
  chat: string;
  /** Whether this account wrote the message. */
  fromMe: boolean;
  /** In a group: the number of whoever wrote the message. */
  author?: string;
  /** The number of whoever did it. */
  by: string;
  /** The new text, the emoji (an empty one takes the reaction back), or the chosen options as JSON. */
  text: string;
  /** Milliseconds since 1970. */
  at: number;
}

/** What somebody did to a group that the account is in, or was in until then. */
export interface GroupEvent {
  k: 'group';
  id: string;
  /** The address of the group. */
  chat: string;
  /** The group as it is now. */
  group: GroupState;
  by: string;
  /** What it was, in WhatsApp's words: `add`, `remove`, `leave`, `subject`, … */
  change: string;
  /** The numbers that it was done to. */
  whom: string[];
  body: string;
  /** Seconds since 1970. */
  t: number;
}

/** What a message carries besides its text. */
export interface Content {
  /** With the hash of the plain bytes, which a judge compares. */
  media?: MediaPointer & { sha256: string };
  location?: { latitude: number; longitude: number; description?: string };
  contacts?: { name: string; vcard: string }[];
  poll?: { question: string; options: string[]; multiple: boolean };
  /** The WhatsApp id of the message that it answers. */
  replyTo?: string;
  /** Digits of phone numbers. */
  mentions?: string[];
}

/** What a page says that a message carries: the server still has to find out the hash of its media. */
export type SubmittedContent = Omit<Content, 'media'> & { media?: MediaPointer };

/** What a message says of its media: where the encrypted bytes are, and how to read them. */
export interface MediaPointer {
  directPath: string;
  /** All in base64: the key, and the SHA-256 of the encrypted and of the plain bytes. */
  mediaKey: string;
  encFilehash: string;
  filehash: string;
  mimetype: string;
  size: number;
  filename?: string;
}

/** A group as its members' pages know it. */
export interface GroupState {
  /** The whole address, with `@g.us`. */
  id: string;
  subject: string;
  description: string;
  /** Changes with the description. */
  descriptionId: string;
  owner: string;
  createdAt: string;
  /** Only admins write. */
  announce: boolean;
  /** Only admins change subject, description and picture. */
  restrict: boolean;
  /** Only admins add members. */
  adminsAdd: boolean;
  members: GroupMember[];
  /** The file name of its picture. */
  picture: string | null;
  /** Grows with every change, so that a page can tell the newer of two states. */
  version: number;
}

/** Somebody in a group; other members know whoever hides the number by the LID alone. */
export interface GroupMember {
  phone: string;
  role: 'member' | 'admin' | 'superadmin';
  lid: string;
  name: string;
  hidden: boolean;
}

type GroupSettings = Partial<
  Pick<GroupState, 'subject' | 'description' | 'announce' | 'restrict' | 'adminsAdd' | 'picture'>
>;

/** What somebody does to a group. */
export type GroupAction =
  | { kind: 'create'; subject: string; phones: string[]; settings?: GroupSettings }
  | { kind: 'add' | 'remove' | 'promote' | 'demote'; group: string; phones: string[] }
  | { kind: 'set'; group: string; settings: GroupSettings }
  | { kind: 'leave' | 'invite' | 'reset-invite' | 'query'; group: string }
  | { kind: 'join' | 'look'; code: string };

/** Its result. `status` is WhatsApp's: 200, 401 not a member, 403 not an admin, 404 no such group, 410 the invite is void. */
export interface GroupResult {
  status: number;
  group?: GroupState;
  invite?: string;
  /** Per phone: 200, 403 wants an invite, 404 not registered or not in the group, 409 in it already, 419 full. */
  members?: { phone: string; status: number; inviteCode?: string }[];
}
