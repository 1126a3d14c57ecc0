import { isGroupId } from '../addresses.js';
import type { ScheduledEvent } from './content.js';
import type { ActionType, MessageAction } from './message-actions.js';

/** All types of actions. */
export const ACTION_TYPES: readonly ActionType[] = [
  'edit',
  'reaction',
  'revoke',
  'vote',
  'pin',
  'reschedule',
  'rsvp',
];

/** What a phone shows of a message after all actions on it. */
export interface MessageState {
  text: string;
  edited: boolean;
  revoked: boolean;
  reactions: { from: string; emoji: string }[];
  votes: { from: string; options: string[] }[];
  /** Who pinned it in the chat, and for how long; null when nobody pins it any longer. */
  pinned: { from: string; seconds: number } | null;
  /** A scheduled event after its last change, and who comes: 1 yes, 2 no, 3 maybe. */
  event: ScheduledEvent;
  responses: { from: string; response: number }[];
}

const MAX_MESSAGES = 50_000;

/** Whether a line of the ledger is an action on a message, and not a message. */
export function isAction<Line extends { type: string }>(line: Line): line is Line & { type: ActionType } {
  return (ACTION_TYPES as readonly string[]).includes(line.type);
}

/** The states of the messages on which somebody acted. */
export class MessageStates {
  private readonly states = new Map<string, Partial<MessageState>>();

  /** What the actions changed in a message; empty when nobody acted on it. */
  of(message: { from: string; to: string; whatsappId: string }): Partial<MessageState> {
    return this.states.get(keyOf({ ...message, author: message.from })) ?? {};
  }

  /** Whether the message is already in the state to which this action leads. */
  isRepeated(action: MessageAction): boolean {
    const state = this.states.get(keyOf(action)) ?? {};
    const { text, edited, revoked, reactions = [], votes = [], responses = [] } = state;
    if (action.type === 'revoke') return revoked === true;
    if (action.type === 'edit') return edited === true && text === action.text;
    if (action.type === 'vote')
      return JSON.stringify(votes.find(({ from }) => from === action.from)?.options ?? []) === action.text;
    if (action.type === 'pin') return (state.pinned?.seconds ?? 0) === Number(action.text);
    if (action.type === 'reschedule') return JSON.stringify(state.event) === action.text;
    if (action.type === 'rsvp')
      return (responses.find(({ from }) => from === action.from)?.response ?? 0) === Number(action.text);
    return (reactions.find(({ from }) => from === action.from)?.emoji ?? '') === action.text;
  }

  /** Applies an action. */
  apply(action: MessageAction): void {
    const key = keyOf(action);
    const before = this.states.get(key) ?? {};
    this.states.set(key, { ...before, ...changesBy(action, before) });
    if (this.states.size > MAX_MESSAGES) {
      for (const oldest of this.states.keys()) {
        this.states.delete(oldest);
        break;
      }
    }
  }

  /** Forgets all states. */
  clear(): void {
    this.states.clear();
  }
}

function changesBy(
  { type, text, from }: MessageAction,
  { reactions = [], votes = [], responses = [] }: Partial<MessageState>,
): Partial<MessageState> {
  if (type === 'revoke') return { revoked: true, text: '' };
  if (type === 'edit') return { edited: true, text };
  if (type === 'vote')
    return {
      votes: [...votes.filter((vote) => vote.from !== from), { from, options: JSON.parse(text) as string[] }],
    };
  if (type === 'pin') return { pinned: text === '0' ? null : { from, seconds: Number(text) } };
  if (type === 'reschedule') return { event: JSON.parse(text) as ScheduledEvent };
  if (type === 'rsvp') {
    const rest = responses.filter((response) => response.from !== from);
    return { responses: text === '0' ? rest : [...rest, { from, response: Number(text) }] };
  }
  const others = reactions.filter((reaction) => reaction.from !== from);
  return { reactions: text === '' ? others : [...others, { from, emoji: text }] };
}

function keyOf({ from, to, author = from, whatsappId }: Omit<MessageAction, 'type' | 'text'>): string {
  return `${author}:${author === from || isGroupId(to) ? to : from}:${whatsappId}`;
}
