import type { Content, MediaPointer } from '../journal/content.js';
import type { ActionType } from '../journal/message-actions.js';
import type { GroupAction } from '../network/group-actions.js';

/** What a page says that a message carries. The sandbox itself computes the hash of the plain media. */
export type SubmittedContent = Omit<Content, 'media'> & { media?: MediaPointer };

/** A message that a page sends. */
export interface SendFrame {
  t: 'send';
  id: string;
  to: string;
  type: string;
  text: string;
  content?: SubmittedContent;
}

/** The public part of what a browser generates before it is linked. */
export interface BrowserKeys {
  noisePublicKey: string;
  identityPublicKey: string;
  device: string;
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

/** A question of a page; `q` decides which of the other fields are set. */
export interface Question {
  q: string;
  phone?: string;
  secret?: string;
  /** The frame's name for an action on a message. */
  deed?: ActionQuestion;
  group?: GroupAction;
  of?: string;
}

/** What a browser sends. */
export type BrowserFrame =
  | ({ t: 'register' } & BrowserKeys)
  | { t: 'stored'; id: string }
  | { t: 'auth'; id: string; proof: string }
  | SendFrame
  | { t: 'chatstate'; to: string; state: string }
  | { t: 'got'; n: number[] }
  | ({ t: 'ask'; n: number } & Question)
  | { t: 'unknown-module'; name: string };

/** The longest text of a message. */
export const MAX_TEXT_LENGTH = 65_536;
