import { isGroupId } from '../addresses.js';
import type { ActionType, MessageAction } from './message-actions.js';

/** All types of actions. */
export const ACTION_TYPES: readonly ActionType[] = ['edit', 'reaction', 'revoke', 'vote'];

/** What a phone shows of a message after all actions on it. */
export interface MessageState {
  text: string;
  edited: boolean;
  revoked: boolean;
  reactions: { from: string; emoji: string }[];
  votes: { from: string; options: string[] }[];
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
    const { text, edited, revoked, reactions = [], votes = [] } = this.states.get(keyOf(action)) ?? {};
    if (action.type === 'revoke') return revoked === true;
    if (action.type === 'edit') return edited === true && text === action.text;
    if (action.type === 'vote')
      return JSON.stringify(votes.find(({ from }) => from === action.from)?.options ?? []) === action.text;
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
  { reactions = [], votes = [] }: Partial<MessageState>,
): Partial<MessageState> {
  if (type === 'revoke') return { revoked: true, text: '' };
  if (type === 'edit') return { edited: true, text };
  if (type === 'vote')
    return {
      votes: [...votes.filter((vote) => vote.from !== from), { from, options: JSON.parse(text) as string[] }],
    };
  const others = reactions.filter((reaction) => reaction.from !== from);
  return { reactions: text === '' ? others : [...others, { from, emoji: text }] };
}

function keyOf({ from, to, author = from, whatsappId }: Omit<MessageAction, 'type' | 'text'>): string {
  return `${author}:${author === from || isGroupId(to) ? to : from}:${whatsappId}`;
}
