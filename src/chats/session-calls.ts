import type {
  ChatResponse,
  ContactResponse,
  HistoryMessage,
  NumberResponse,
  ShowStateDto,
  UpdateChatDto,
} from './chats.dto.js';
import type {
  GroupResponse,
  GroupSummary,
  InviteResponse,
  ParticipantResult,
  UpdateGroupDto,
} from './groups.dto.js';

/** How long the instance has for one call, all its steps together: enough to add twenty people to a group. */
export const sessionCallMs = 60_000;

/** Where a page of a list goes on; `t` is in seconds, of lists that go by time. */
export interface ListCursor {
  t: number;
  id: string;
}

/** A list as the instance answers it: an item more than `limit` was there when there is a next place. */
export interface Listed<Item> {
  items: Item[];
  next: ListCursor | null;
}

interface List {
  limit: number;
  after: ListCursor | null;
}

/**
 * What the API asks of the page of an account, through the instance that drives it, and what comes back. Both sides are ours,
 * so it is typed and not validated.
 */
export interface SessionCalls {
  number: { ask: { phone: string }; answer: NumberResponse };
  chats: { ask: List; answer: Listed<ChatResponse> };
  contacts: { ask: List; answer: Listed<ContactResponse> };
  history: { ask: List & { chatId: string }; answer: Listed<Omit<HistoryMessage, 'id'>> };
  picture: { ask: { id: string; isGroup: boolean }; answer: { base64: string } };
  markRead: { ask: { chatId: string }; answer: void };
  showState: { ask: { chatId: string } & ShowStateDto; answer: void };
  updateChat: { ask: { chatId: string; changes: UpdateChatDto }; answer: void };
  groups: { ask: List; answer: Listed<GroupSummary> };
  group: { ask: { groupId: string; withInvite: boolean }; answer: GroupResponse };
  createGroup: {
    ask: { subject: string; participants: Participant[] };
    answer: { group: GroupResponse; results: ParticipantResult[] };
  };
  updateGroup: { ask: { groupId: string; changes: UpdateGroupDto }; answer: GroupResponse };
  changeParticipants: {
    ask: { groupId: string; change: ParticipantChange; participants: Participant[] };
    answer: ParticipantResult[];
  };
  invite: { ask: { groupId: string; reset: boolean }; answer: InviteResponse };
  join: { ask: { code: string }; answer: GroupResponse };
  leave: { ask: { groupId: string }; answer: void };
}

export type ParticipantChange = 'add' | 'remove' | 'promote' | 'demote';

/** A participant as asked for, and as WhatsApp knows one. */
export interface Participant {
  given: string;
  chatId: string;
}

export type SessionCallName = keyof SessionCalls;

/** One call on its way to an instance. */
export type SessionCall = {
  [Name in SessionCallName]: { epoch: number; call: Name; ask: SessionCalls[Name]['ask'] };
}[SessionCallName];
