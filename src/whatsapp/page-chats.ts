import type { Page } from 'puppeteer';
import whatsapp, { type Client, type GroupChat } from 'whatsapp-web.js';
import { withDeadline } from './deadlines.js';
import {
  aliasesOf,
  findChat,
  listChats,
  listContacts,
  listGroups,
  type PageChatItem,
  type PageContactItem,
  type PageCursor,
  type PageGroup,
  type PageGroupItem,
  type PageHistoryItem,
  type PagePerson,
  type PagePicture,
  readGroup,
  readHistory,
  readPicture,
  showState,
} from './page-reads.js';

/** How long the page may take for an answer. */
const answerMs = 15_000;
/** Members are added one by one, with pauses as a person would make them. */
const addPauseMs: [number, number] = [250, 500];
const addMs = 2_000;
/** Steps into the past of a chat, of some fifty messages each. */
const historyRounds = 40;

/** What became of adding one person to a group: WhatsApp's own code. */
export interface AddedMember {
  id: string;
  code: number;
}

/** What a chat is to be. */
export interface ChatChanges {
  archived?: boolean;
  pinned?: boolean;
  muted?: boolean;
}

/** What a group is to be. */
export interface GroupChanges {
  subject?: string;
  description?: string;
  announcementsOnly?: boolean;
  infoAdminsOnly?: boolean;
  addAdminsOnly?: boolean;
}

/**
 * Chats, people and groups of a session that is ready. Whatever the page does not answer in time throws; ids are WhatsApp's
 * own (`…@c.us`, `…@lid`, `…@g.us`).
 */
export class PageChats {
  constructor(
    private readonly client: Client,
    private readonly page: Page,
  ) {}

  /** The latest first; one more than `limit` when there are more. */
  chats(limit: number, after: PageCursor | null): Promise<PageChatItem[]> {
    return withDeadline(this.page.evaluate(listChats, limit, after), answerMs);
  }

  /** In the order of their ids; one more than `limit` when there are more. */
  contacts(limit: number, after: PageCursor | null): Promise<PageContactItem[]> {
    return withDeadline(this.page.evaluate(listContacts, limit, after), answerMs);
  }

  /** In the order of their ids; one more than `limit` when there are more. */
  groups(limit: number, after: PageCursor | null): Promise<PageGroupItem[]> {
    return withDeadline(this.page.evaluate(listGroups, limit, after), answerMs);
  }

  /** Null when the account has no such group. */
  group(groupId: string, withInvite = false): Promise<PageGroup | null> {
    return withDeadline(this.page.evaluate(readGroup, groupId, withInvite), answerMs);
  }

  /** The id under which the page has a chat, or null. */
  find(chatId: string): Promise<string | null> {
    return withDeadline(this.page.evaluate(findChat, chatId), answerMs);
  }

  /** Ids with the other ids of the same persons. */
  aliases(chatIds: string[]): Promise<PagePerson[]> {
    return withDeadline(this.page.evaluate(aliasesOf, chatIds), answerMs);
  }

  /** The newest first; one more than `limit` when there are more. @param chatId as {@link find} gives it */
  history(chatId: string, limit: number, before: PageCursor | null): Promise<PageHistoryItem[]> {
    return withDeadline(this.page.evaluate(readHistory, chatId, limit, before, historyRounds), answerMs);
  }

  picture(id: string, maxBytes: number): Promise<PagePicture> {
    return withDeadline(this.page.evaluate(readPicture, id, maxBytes), answerMs);
  }

  /** Marks a chat as read up to its end: its writers see that. */
  async markRead(chatId: string): Promise<void> {
    await withDeadline(this.client.sendSeen(chatId), answerMs);
  }

  /** Shows the other side that somebody types or records; WhatsApp takes it back after 25 s by itself. */
  async show(chatId: string, state: 'typing' | 'recording' | 'stop'): Promise<void> {
    await withDeadline(this.page.evaluate(showState, chatId, state), answerMs);
  }

  /** @returns false when WhatsApp lets no more chats be pinned; the other changes are made */
  async changeChat(chatId: string, { archived, pinned, muted }: ChatChanges): Promise<boolean> {
    const { client } = this;
    const change = async (): Promise<boolean> => {
      if (archived !== undefined)
        await (archived ? client.archiveChat(chatId) : client.unarchiveChat(chatId));
      if (muted !== undefined) await (muted ? client.muteChat(chatId) : client.unmuteChat(chatId));
      if (pinned === undefined) return true;
      return pinned ? client.pinChat(chatId) : client.unpinChat(chatId).then(() => true);
    };
    return withDeadline(change(), answerMs);
  }

  /**
   * @returns the new group, and those who are not in it; null when WhatsApp refuses to make one
   */
  async createGroup(
    subject: string,
    participants: string[],
  ): Promise<{ groupId: string; members: AddedMember[] } | null> {
    const creating = this.client.createGroup(subject, participants, { autoSendInviteV4: false });
    const created = await withDeadline(creating, answerMs + participants.length * addMs);
    if (typeof created === 'string') return null;
    const members = Object.entries(created.participants).map(([id, { statusCode, isGroupCreator }]) => ({
      id,
      code: Number(statusCode),
      isGroupCreator,
    }));
    return {
      groupId: created.gid._serialized,
      members: members.filter(({ isGroupCreator }) => !isGroupCreator).map(({ id, code }) => ({ id, code })),
    };
  }

  /** Makes the changes one after the other. @returns false as soon as WhatsApp refuses one */
  async changeGroup(groupId: string, changes: GroupChanges): Promise<boolean> {
    const group = this.handle(groupId);
    const { subject, description, announcementsOnly, infoAdminsOnly, addAdminsOnly } = changes;
    const steps = [
      subject === undefined ? null : () => group.setSubject(subject),
      description === undefined ? null : () => group.setDescription(description),
      announcementsOnly === undefined ? null : () => group.setMessagesAdminsOnly(announcementsOnly),
      infoAdminsOnly === undefined ? null : () => group.setInfoAdminsOnly(infoAdminsOnly),
      addAdminsOnly === undefined ? null : () => group.setAddMembersAdminsOnly(addAdminsOnly),
    ];
    const change = async (): Promise<boolean> => {
      for (const step of steps) if (step && !(await step())) return false;
      return true;
    };
    return withDeadline(change(), answerMs);
  }

  /** Adds people one by one. @returns null when the account may not */
  async addMembers(groupId: string, participants: string[]): Promise<AddedMember[] | null> {
    const adding = this.handle(groupId).addParticipants(participants, {
      sleep: addPauseMs,
      autoSendInviteV4: false,
      comment: '',
    });
    const added = await withDeadline(adding, answerMs + participants.length * addMs);
    if (typeof added === 'string') return null;
    return Object.entries(added as unknown as Record<string, { code: number }>).map(([id, { code }]) => ({
      id,
      code,
    }));
  }

  /** Does it to those of the participants who are in the group. @returns false when WhatsApp refuses */
  async changeMembers(
    groupId: string,
    change: 'remove' | 'promote' | 'demote',
    participants: string[],
  ): Promise<boolean> {
    const group = this.handle(groupId);
    const changing = {
      remove: () => group.removeParticipants(participants),
      promote: () => group.promoteParticipants(participants),
      demote: () => group.demoteParticipants(participants),
    }[change]();
    return unlessRefused(withDeadline(changing, answerMs));
  }

  /** Makes the invite links that are out useless. @returns the new code; null when WhatsApp refuses */
  async resetInvite(groupId: string): Promise<string | null> {
    let code: string | null = null;
    const resetting = this.handle(groupId)
      .revokeInvite()
      .then((made) => {
        code = String(made);
      });
    return (await unlessRefused(withDeadline(resetting, answerMs))) ? code : null;
  }

  /** @returns the id of the group; null when the invite is void */
  async join(code: string): Promise<string | null> {
    let groupId: string | null = null;
    const joining = this.client.acceptInvite(code).then((id) => {
      groupId = id;
    });
    return (await unlessRefused(withDeadline(joining, answerMs))) ? groupId : null;
  }

  async leave(groupId: string): Promise<boolean> {
    return unlessRefused(withDeadline(this.handle(groupId).leave(), answerMs));
  }

  /** The library's own hand on a group, without reading the whole group first. */
  private handle(groupId: string): GroupChat {
    const { GroupChat: Handle } = whatsapp as unknown as {
      GroupChat: new (client: Client, data: object) => GroupChat;
    };
    return new Handle(this.client, { id: { _serialized: groupId }, groupMetadata: {} });
  }
}

/** False when the server said no, which is no fault of the page. */
async function unlessRefused(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    const { name, message } = error as Error;
    if (name === 'ServerStatusCodeError' || message.includes('ServerStatusCodeError')) return false;
    throw error;
  }
}
