import type {
  ChatResponse,
  ContactResponse,
  HistoryMessage,
  NumberResponse,
  PresenceResponse,
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

/** The timeout of one call in the instance, with all its steps. It is enough to add twenty people to a group. */
export const sessionCallMs = 60_000;

/** The last item of a page of a list. `t` is its time in seconds, or 0 in lists that are ordered by id. */
export interface ListCursor {
  t: number;
  id: string;
}

/** A page of a list from the instance. `next` is null on the last page. */
export interface ListPage<Item> {
  items: Item[];
  next: ListCursor | null;
}

interface List {
  limit: number;
  after: ListCursor | null;
}

/**
 * The calls of the API to the page of an account, with their arguments (`ask`) and answers. The API side is
 * `remote-session.ts`, the instance side is `call-dispatcher.ts`. Both sides are ours, so the calls are typed and not validated.
 */
export interface SessionCalls {
  /** `phone`: the digits of a number, or the chat id of a hidden number. */
  number: { ask: { phone: string }; answer: NumberResponse };
  chats: { ask: List; answer: ListPage<ChatResponse> };
  contacts: { ask: List; answer: ListPage<ContactResponse> };
  contact: { ask: { id: string }; answer: ContactResponse };
  history: { ask: List & { chatId: string }; answer: ListPage<Omit<HistoryMessage, 'id'>> };
  picture: { ask: { id: string; isGroup: boolean }; answer: { base64: string } };
  markRead: { ask: { chatId: string }; answer: void };
  showState: { ask: { chatId: string } & ShowStateDto; answer: void };
  presence: { ask: { chatId: string; seconds: number }; answer: PresenceResponse };
  updateChat: { ask: { chatId: string; changes: UpdateChatDto }; answer: void };
  groups: { ask: List; answer: ListPage<GroupSummary> };
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

/** A participant: the text of the request, and the chat id. */
export interface Participant {
  given: string;
  chatId: string;
}

export type SessionCallName = keyof SessionCalls;

/** One call on its way to an instance. */
export type SessionCall = {
  [Name in SessionCallName]: { epoch: number; call: Name; ask: SessionCalls[Name]['ask'] };
}[SessionCallName];
