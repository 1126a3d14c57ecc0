import type { Content } from '../journal/content.js';
import type { ActionType } from '../journal/message-actions.js';
import type { ChannelState } from './channel.js';
import type { GroupState } from './group.js';

/** A message for a linked browser: its phone received it, or its phone's owner sent it from another device. */
export interface MessageEvent {
  k: 'msg';
  id: string;
  /** The other party's number, or the address of a group. */
  chat: string;
  fromMe: boolean;
  /** In a group: the number of the author. */
  author?: string;
  /** The author hides the number: the page may show the LID only. */
  hidden?: true;
  type: string;
  text: string;
  /** Seconds since 1970. */
  t: number;
  /** The sender's name. */
  name: string;
  content: Content;
  /** The same event was sent before; the page handles it as a new one. */
  again?: true;
}

/** The progress of a message that the account sent: 1 server, 2 device, 3 read. */
export interface AckEvent {
  k: 'ack';
  id: string;
  chat: string;
  ack: number;
}

/** An action on a message. */
export interface ActionEvent {
  k: ActionType;
  /** The message. */
  id: string;
  chat: string;
  /** Whether this account wrote the message. */
  fromMe: boolean;
  /** In a group: the number of the message's author. */
  author?: string;
  /** The number of the person who acts. */
  by: string;
  /**
   * The new text, the emoji (empty when the reaction is removed), the chosen options as JSON, the seconds of a pin (0 removes
   * it), the changed event as JSON, or the number of the response to an event.
   */
  text: string;
  /** Milliseconds since 1970. */
  at: number;
}

/** A change of a channel that the account reads, or read until this change. */
export interface ChannelEvent {
  k: 'channel';
  /** The address of the channel. */
  id: string;
  /** The channel after the change; null when it was deleted. */
  state: ChannelState | null;
}

/** A change of a group that the account is in, or was in until this change. */
export interface GroupEvent {
  k: 'group';
  id: string;
  /** The address of the group. */
  chat: string;
  /** The group after the change. */
  group: GroupState;
  by: string;
  /** WhatsApp's word for the change: `add`, `remove`, `leave`, `subject`, … */
  change: string;
  /** The numbers of the members that the change concerns. */
  whom: string[];
  body: string;
  /** Seconds since 1970. */
  t: number;
}

/** An event for a linked browser. Browsers get their events in order and at least once. */
export type BrowserEvent = MessageEvent | AckEvent | ActionEvent | GroupEvent | ChannelEvent;
