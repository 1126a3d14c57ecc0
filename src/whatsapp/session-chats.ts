import type { Page } from 'puppeteer';
import whatsapp, { type Client, type GroupChat } from 'whatsapp-web.js';
import { withDeadline } from './deadlines.js';
import type { PagePerson } from './in-page/page-functions.js';
import {
  type AddedMember,
  createGroup,
  hasGroup,
  joinGroup,
  listGroups,
  type PageGroup,
  type PageGroupItem,
  readGroup,
} from './in-page/page-groups.js';
import {
  aliasesOf,
  findChat,
  findPerson,
  listChats,
  listContacts,
  type PageChatItem,
  type PageContactItem,
  type PageCursor,
  type PageHistory,
  type PagePicture,
  readHistory,
  readPicture,
  showState,
} from './in-page/page-reads.js';

/** How long the page may take for one answer. */
const answerMs = 15_000;
/** Members are added one by one, with pauses as a person would make them. */
const addPauseMs: [number, number] = [250, 500];
const addMs = 2_000;
const groupPollMs = 100;
/** Steps into the past of a chat, of some fifty messages each. */
const historyRounds = 40;

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

/** WhatsApp said no, with a status of its own where it gives one. */
export class Refused {
  constructor(readonly status: number) {}
}

/**
 * Chats, people and groups of a session that is ready. Whatever the page does not answer in time throws; ids are WhatsApp's
 * own (`…@c.us`, `…@lid`, `…@g.us`).
 */
export class SessionChats {
  /**
   * @param finishing lets a change finish when the session is stopped meanwhile
   * @param deadline when all that is asked through this object has to be done: milliseconds of `performance.now()`
   */
  constructor(
    private readonly client: Client,
    private readonly page: Page,
    private readonly finishing: <Result>(work: Promise<Result>, limitMs: number) => Promise<Result>,
    private readonly deadline: number,
  ) {}

  /** The latest first; one more than `limit` when there are more. */
  chats(limit: number, after: PageCursor | null): Promise<PageChatItem[]> {
    return this.read(() => this.page.evaluate(listChats, limit, after));
  }

  /** In the order of their ids; one more than `limit` when there are more. */
  contacts(limit: number, after: PageCursor | null): Promise<PageContactItem[]> {
    return this.read(() => this.page.evaluate(listContacts, limit, after));
  }

  /** In the order of their ids; one more than `limit` when there are more. */
  groups(limit: number, after: PageCursor | null): Promise<PageGroupItem[]> {
    return this.read(() => this.page.evaluate(listGroups, limit, after));
  }

  /** Null when the account has no such group. */
  group(groupId: string, withInvite = false): Promise<PageGroup | null> {
    return this.read(() => this.page.evaluate(readGroup, groupId, withInvite));
  }

  /** Waits until the page has a group that was made or joined just now, and reads it. */
  async newGroup(groupId: string): Promise<PageGroup> {
    const timeout = Math.min(answerMs, this.leftMs());
    try {
      await this.page.waitForFunction(hasGroup, { timeout, polling: groupPollMs }, groupId);
    } catch (error) {
      if ((error as Error).name !== 'TimeoutError') throw error;
      throw new Error(`the account is in the group ${groupId}, which WhatsApp Web does not show yet`, {
        cause: error,
      });
    }
    return (await this.group(groupId, true))!;
  }

  /** The id under which the page has a chat, or null. */
  find(chatId: string): Promise<string | null> {
    return this.read(() => this.page.evaluate(findChat, chatId));
  }

  /** Ids with the other ids of the same persons. */
  aliases(chatIds: string[]): Promise<PagePerson[]> {
    return this.read(() => this.page.evaluate(aliasesOf, chatIds));
  }

  /** Whom WhatsApp has under a number or LID, which it is asked; null when nobody. */
  person(chatId: string): Promise<PagePerson | null> {
    return this.read(() => this.page.evaluate(findPerson, chatId));
  }

  /** The newest first; one more than `limit` when there are more. @param chatId as {@link find} gives it */
  history(chatId: string, limit: number, before: PageCursor | null): Promise<PageHistory> {
    return this.read(() => this.page.evaluate(readHistory, chatId, limit, before, historyRounds));
  }

  /** @param mayBeStranger whether WhatsApp is asked for the picture of somebody whom the page does not know */
  picture(id: string, maxBytes: number, mayBeStranger: boolean): Promise<PagePicture> {
    return this.read(() => this.page.evaluate(readPicture, id, maxBytes, mayBeStranger));
  }

  /** Marks a chat as read up to its end: its writers see that. */
  async markRead(chatId: string): Promise<void> {
    await this.change(() => this.client.sendSeen(chatId));
  }

  /** Shows the other side that somebody types or records; WhatsApp takes it back after 25 s by itself. */
  async show(chatId: string, state: 'typing' | 'recording' | 'stop'): Promise<void> {
    await this.read(() => this.page.evaluate(showState, chatId, state));
  }

  /** @returns false when WhatsApp lets no more chats be pinned; the other changes are made */
  async changeChat(chatId: string, { archived, pinned, muted }: ChatChanges): Promise<boolean> {
    const { client } = this;
    return this.change(async () => {
      if (archived !== undefined)
        await (archived ? client.archiveChat(chatId) : client.unarchiveChat(chatId));
      if (muted !== undefined) await (muted ? client.muteChat(chatId) : client.unmuteChat(chatId));
      if (pinned === undefined) return true;
      return pinned ? client.pinChat(chatId) : client.unpinChat(chatId).then(() => true);
    });
  }

  /** @returns the new group, and what became of each who was to be in it */
  async createGroup(
    subject: string,
    participants: string[],
  ): Promise<{ groupId: string; members: AddedMember[] } | Refused> {
    const made = await this.change(
      () => this.page.evaluate(createGroup, subject, participants),
      answerMs + participants.length * addMs,
    );
    return made.outcome === 'made' ? made : new Refused(made.status);
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
    return this.change(async () => {
      for (const step of steps) if (step && !(await step())) return false;
      return true;
    });
  }

  /** Adds people one by one. @returns null when the account may not */
  async addMembers(groupId: string, participants: string[]): Promise<AddedMember[] | null> {
    const add = () =>
      this.handle(groupId).addParticipants(participants, {
        sleep: addPauseMs,
        autoSendInviteV4: false,
        comment: '',
      });
    const added = await this.change(add, answerMs + participants.length * addMs);
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
    const changes = {
      remove: () => group.removeParticipants(participants),
      promote: () => group.promoteParticipants(participants),
      demote: () => group.demoteParticipants(participants),
    };
    return !((await unlessRefused(this.change(changes[change]))) instanceof Refused);
  }

  /** Makes the invite links that are out useless. @returns the new code */
  async resetInvite(groupId: string): Promise<string | Refused> {
    // The library says that it gives nothing, and gives the code.
    const reset = () => this.handle(groupId).revokeInvite() as Promise<unknown> as Promise<string>;
    return unlessRefused(this.change(reset));
  }

  /** @returns the id of the group */
  async join(code: string): Promise<string | Refused> {
    const joined = await this.change(() => this.page.evaluate(joinGroup, code));
    return joined.outcome === 'joined' ? joined.groupId : new Refused(joined.status);
  }

  /** @returns false when WhatsApp refuses */
  async leave(groupId: string): Promise<boolean> {
    return !((await unlessRefused(this.change(() => this.handle(groupId).leave()))) instanceof Refused);
  }

  /** The library's own hand on a group, without reading the whole group first. */
  private handle(groupId: string): GroupChat {
    const { GroupChat: Handle } = whatsapp as unknown as {
      GroupChat: new (client: Client, data: object) => GroupChat;
    };
    return new Handle(this.client, { id: { _serialized: groupId }, groupMetadata: {} });
  }

  private async read<Result>(ask: () => Promise<Result>): Promise<Result> {
    const limitMs = Math.min(answerMs, this.leftMs());
    return withDeadline(ask(), limitMs);
  }

  private async change<Result>(make: () => Promise<Result>, mostMs = answerMs): Promise<Result> {
    const limitMs = Math.min(mostMs, this.leftMs());
    return this.finishing(make(), limitMs);
  }

  /** @throws when no time is left, so that nothing is begun that nobody waits for any more */
  private leftMs(): number {
    const leftMs = this.deadline - performance.now();
    if (leftMs <= 0) throw new Error('the steps before took all the time that there was');
    return leftMs;
  }
}

/** What it came to, or that the server said no, which is no fault of the page. Puppeteer hands over an error's name alone. */
async function unlessRefused<Result>(work: Promise<Result>): Promise<Result | Refused> {
  try {
    return await work;
  } catch (error) {
    const { name, message } = error as Error;
    if (name !== 'ServerStatusCodeError' && !message.includes('ServerStatusCodeError')) throw error;
    return new Refused(0);
  }
}
