import { isGroupId } from '../network/groups.js';

/** What can be done to a message that was sent. */
export const ACTIONS = ['edit', 'reaction', 'revoke', 'vote'] as const;
export type Action = (typeof ACTIONS)[number];

/** What became of a message: what its recipient's phone shows of it. */
export interface Changes {
  text: string;
  edited: boolean;
  revoked: boolean;
  reactions: { from: string; emoji: string }[];
  /** What people chose in a poll. */
  votes: { from: string; options: string[] }[];
}

/** Who did what to which message; an action on a message of the other party has that party as its author. */
interface Deed {
  from: string;
  to: string;
  author?: string;
  whatsappId: string;
  type: string;
  text: string;
}

const REMEMBERED_MESSAGES = 50_000;

/** Whether a line of the ledger is no message but something done to one. */
export function isAction<Line extends { type: string }>(line: Line): line is Line & { type: Action } {
  return (ACTIONS as readonly string[]).includes(line.type);
}

/** What became of the messages that somebody did something to. */
export class ChangeLog {
  private readonly changed = new Map<string, Partial<Changes>>();

  /** What became of a message. */
  of(message: { from: string; to: string; whatsappId: string }): Partial<Changes> {
    return this.changed.get(keyOf({ ...message, author: message.from })) ?? {};
  }

  /** Whether doing this would change nothing: it has been done already. */
  has(deed: Deed): boolean {
    const { text, edited, revoked, reactions = [], votes = [] } = this.changed.get(keyOf(deed)) ?? {};
    if (deed.type === 'revoke') return revoked === true;
    if (deed.type === 'edit') return edited === true && text === deed.text;
    if (deed.type === 'vote')
      return JSON.stringify(votes.find(({ from }) => from === deed.from)?.options ?? []) === deed.text;
    return (reactions.find(({ from }) => from === deed.from)?.emoji ?? '') === deed.text;
  }

  add(deed: Deed): void {
    const key = keyOf(deed);
    const before = this.changed.get(key) ?? {};
    this.changed.set(key, { ...before, ...changesBy(deed, before) });
    if (this.changed.size > REMEMBERED_MESSAGES) {
      for (const oldest of this.changed.keys()) {
        this.changed.delete(oldest);
        break;
      }
    }
  }

  clear(): void {
    this.changed.clear();
  }
}

function changesBy(
  { type, text, from }: Deed,
  { reactions = [], votes = [] }: Partial<Changes>,
): Partial<Changes> {
  if (type === 'revoke') return { revoked: true, text: '' };
  if (type === 'edit') return { edited: true, text };
  if (type === 'vote')
    return {
      votes: [...votes.filter((vote) => vote.from !== from), { from, options: JSON.parse(text) as string[] }],
    };
  const others = reactions.filter((reaction) => reaction.from !== from);
  return { reactions: text === '' ? others : [...others, { from, emoji: text }] };
}

function keyOf({ from, to, author = from, whatsappId }: Omit<Deed, 'type' | 'text'>): string {
  return `${author}:${author === from || isGroupId(to) ? to : from}:${whatsappId}`;
}
