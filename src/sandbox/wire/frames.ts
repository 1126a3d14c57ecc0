/*
 * What a page and the server send each other over the WebSocket. The server compiles for Node and the page for Chromium:
 * therefore this file and the files that it imports contain only types.
 */
import type { Content, MediaPointer } from '../journal/content.js';
import type { ActionType } from '../journal/message-actions.js';
import type { QueuedEvent } from '../journal/queued-event.js';
import type { BrowserEvent } from '../network/events.js';
import type { ChannelAction, ChannelResult, ChannelState, NewPost } from '../network/channel.js';
import type { Dialog, Faults } from '../network/faults.js';
import type { GroupAction, GroupResult, GroupState } from '../network/group.js';
import type { BusinessProfile } from '../network/business-profile.js';
import type { PresenceFrame } from '../network/presence.js';

// The page takes all its types of the wire from this file.
export type * from '../builds/build.js';
export type * from '../journal/content.js';
export type * from '../journal/message-actions.js';
export type * from '../journal/queued-event.js';
export type * from '../network/channel.js';
export type * from '../network/events.js';
export type * from '../network/faults.js';
export type * from '../network/group.js';
export type * from '../network/business-profile.js';
export type * from '../network/presence.js';

/** What a browser sends. */
export type BrowserFrame =
  | ({ t: 'register' } & BrowserKeys)
  | { t: 'stored'; id: string }
  | { t: 'auth'; id: string; proof: string }
  | SendFrame
  | { t: 'chatstate'; to: string; state: string }
  | { t: 'got'; n: number[] }
  | AskFrame
  | { t: 'unknown-module'; name: string };

/** What the server sends. */
export type ServerFrame =
  | { t: 'challenge'; nonce: string }
  /** The first part of the QR code. Null: the last code has expired, and no more follow on this connection. */
  | { t: 'ref'; ref: string | null }
  | { t: 'paired'; id: string; phone: string; lid: string; name: string; proof: string }
  | WelcomeFrame
  | { t: 'ev'; e: QueuedEvent<BrowserEvent>[] }
  /** The page has got all events that it missed. */
  | { t: 'caught-up' }
  | { t: 'refused'; id: string }
  /** The page gives a send up. The message may have been accepted. */
  | { t: 'failed'; id: string }
  /** The connection ends for good: the page must not connect again by itself. */
  | { t: 'conflict' }
  | { t: 'unlinked' }
  | { t: 'contacts'; contacts: AddressBookEntry[] }
  | { t: 'profile'; profile: OwnProfile }
  | { t: 'call'; call: IncomingCall }
  | { t: 'call-ended'; id: string }
  | PresenceFrame
  | { t: 'dialog'; dialog: Dialog | null }
  | { t: 'rules'; rules: Rules }
  | { t: 'reload' }
  | { t: 'beat' }
  | { t: 'answer'; n: number; result?: Answer; error?: string };

/** The public part of what a browser generates before it is linked. */
export interface BrowserKeys {
  noisePublicKey: string;
  identityPublicKey: string;
  device: string;
}

/** A message that a page sends. */
export interface SendFrame {
  t: 'send';
  id: string;
  to: string;
  type: string;
  text: string;
  content?: SubmittedContent;
}

/** What a page says that a message carries. The sandbox itself computes the hash of the plain media. */
export type SubmittedContent = Omit<Content, 'media'> & { media?: MediaPointer };

/** The first frame for a linked browser. */
export interface WelcomeFrame extends Pick<Faults, 'syncDelayMs' | 'earlySync' | 'dialog'> {
  t: 'welcome';
  phone: string;
  lid: string;
  profile: OwnProfile;
  /** How many events the page missed. */
  offline: number;
  groups: GroupState[];
  channels: ChannelState[];
  contacts: AddressBookEntry[];
}

/** What the account's own pages know of it. */
export interface OwnProfile {
  name: string;
  isBusiness: boolean;
  /** The numbers that the owner has blocked. */
  blocked: string[];
}

/** A call that rings. */
export interface IncomingCall {
  id: string;
  /** The number of the caller. */
  from: string;
  video: boolean;
  hidden: boolean;
  /** The address of the group that is called. */
  group?: string;
  /** When it began, in seconds since 1970. */
  t: number;
}

/** A person in the address book of the page's phone. */
export interface AddressBookEntry {
  phone: string;
  name: string;
}

/** Limits that a real WhatsApp Web has in its program, and faults that the page applies to itself. */
export type Rules = Pick<
  Faults,
  | 'editWindowMs'
  | 'revokeWindowMs'
  | 'reloadBeforeSendRate'
  | 'resumesSends'
  | 'messagesInMemory'
  | 'newChatNotice'
  | 'revokedNamesOldKey'
  | 'oldestVersion'
  | 'updateLoop'
  | 'hiddenChats'
>;

/** The questions of a page about its account. */
export interface AccountQuestionTypes {
  /** `of` is the account's own number or a group; the picture is base64, and null removes it. The answer is WhatsApp's status. */
  'set-picture': { asked: { of: string; picture: string | null }; answer: { status: number } };
  /** Without a name, the person is removed from the address book. */
  'save-contact': { asked: { phone: string; name: string | null }; answer: true };
  /** How many devices a number has: the phone and its linked browsers. */
  devices: { asked: { phone: string }; answer: number };
  channel: { asked: { channel: ChannelAction }; answer: ChannelResult };
  story: { asked: { story: NewPost }; answer: true };
  /** The page hears from now on what happens in the chat. */
  presence: { asked: { of: string }; answer: PresenceFrame | null };
  'call-link': { asked: { startTime: number; kind: 'video' | 'voice' }; answer: string };
}

/** The questions of a page: what each question contains, and its answer. */
export interface QuestionTypes extends AccountQuestionTypes {
  exists: { asked: { phone: string }; answer: RegisteredNumber | CheckRefused | null };
  group: { asked: { group: GroupAction }; answer: GroupResult };
  picture: { asked: { of: string }; answer: { eurl: string } | null };
  code: { asked: { phone: string; secret: string }; answer: string };
  /** `deed` is the action. The answer is the time of the action, in milliseconds since 1970. */
  act: { asked: { deed: ActionQuestion }; answer: { at: number } };
  /** The text under somebody's name; null when the asker may not see it, or there is none. */
  about: { asked: { phone: string }; answer: { about: string } | null };
  'set-about': { asked: { text: string | null }; answer: true };
  'set-name': { asked: { text: string }; answer: true };
  block: { asked: { phone: string; blocked: boolean }; answer: true };
  /** What a business says of itself; null when the number is not a business. */
  business: { asked: { phone: string }; answer: BusinessProfile | null };
  'reject-call': { asked: { id: string }; answer: true };
  logout: { asked: object; answer: true };
}

/** A question of a page. */
export type Question = {
  [Q in keyof QuestionTypes]: { q: Q } & QuestionTypes[Q]['asked'];
}[keyof QuestionTypes];

/** The frame with a question; the frame with its answer has the same `n`. */
export type AskFrame = { t: 'ask'; n: number } & Question;

/** The answer to a question. */
export type Answer = QuestionTypes[keyof QuestionTypes]['answer'];

/** A registered number. */
export interface RegisteredNumber {
  /** The form of the number that WhatsApp has. */
  phone: string;
  name: string;
  lid: string;
  isBusiness: boolean;
  /** Its owner hides the number. */
  hidden: boolean;
}

/** WhatsApp does not say whether a number is registered. */
export interface CheckRefused {
  status: number;
}

/** An action of a page on a message. */
export interface ActionQuestion {
  action: ActionType;
  chat: string;
  /** Whether the account of the page wrote the message. */
  fromMe: boolean;
  /** In a group: the number of the message's author. */
  author?: string;
  id: string;
  text: string;
}
