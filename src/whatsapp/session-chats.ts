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
import { type PageWatchResult, watchPresence } from './in-page/page-presence.js';
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
  readContact,
  readHistory,
  readPicture,
  showState,
} from './in-page/page-reads.js';

/** How long the page may take to answer. */
const answerMs = 15_000;
/** The library adds members one by one, with pauses like those of a person: between these two times. */
const addPauseMs: [number, number] = [250, 500];
const addMemberMs = 2_000;
const groupPollMs = 100;
/** How many steps into the past of a chat to load. A step has about fifty messages. */
const maxHistorySteps = 40;

/** Changes of a chat. A missing field stays as it is. */
export interface ChatChanges {
  archived?: boolean;
  pinned?: boolean;
  muted?: boolean;
}

/** Changes of a group. A missing field stays as it is. */
export interface GroupChanges {
  subject?: string;
  description?: string;
  announcementsOnly?: boolean;
  infoAdminsOnly?: boolean;
  addAdminsOnly?: boolean;
}

/** WhatsApp refused. `status` is WhatsApp's own status, 0 if it gives none. */
export class Refused {
  constructor(readonly status: number) {}
}

/**
 * Chats, people and groups of a ready session. Every method throws if the page does not answer in time. Ids are WhatsApp's own
 * (`…@c.us`, `…@lid`, `…@g.us`).
 */
export class SessionChats {
  /**
   * @param track runs a change so that it may finish when the session stops during it
   * @param deadline for all calls of this object together: milliseconds of `performance.now()`
   */
  constructor(
    private readonly client: Client,
    private readonly page: Page,
    private readonly track: <Result>(work: Promise<Result>, limitMs: number) => Promise<Result>,
    private readonly deadline: number,
  ) {}

  /** Latest first. One item more than `limit` if there are more. */
  chats(limit: number, after: PageCursor | null): Promise<PageChatItem[]> {
    return this.read(() => this.page.evaluate(listChats, limit, after));
  }

  /** In the order of their ids. One item more than `limit` if there are more. */
  contacts(limit: number, after: PageCursor | null): Promise<PageContactItem[]> {
    return this.read(() => this.page.evaluate(listContacts, limit, after));
  }

  /** Null if the page does not know the person. */
  contact(chatId: string): Promise<PageContactItem | null> {
    return this.read(() => this.page.evaluate(readContact, chatId));
  }

  /** In the order of their ids. One item more than `limit` if there are more. */
  groups(limit: number, after: PageCursor | null): Promise<PageGroupItem[]> {
    return this.read(() => this.page.evaluate(listGroups, limit, after));
  }

  /** Null if the account has no such group. */
  group(groupId: string, withInvite = false): Promise<PageGroup | null> {
    return this.read(() => this.page.evaluate(readGroup, groupId, withInvite));
  }

  /** Waits until the page knows a new group, which the account has just made or joined, and reads it. */
  async newGroup(groupId: string): Promise<PageGroup> {
    const timeout = Math.min(answerMs, this.remainingMs());
    try {
      await this.page.waitForFunction(hasGroup, { timeout, polling: groupPollMs }, groupId);
    } catch (error) {
      if ((error as Error).name !== 'TimeoutError') throw error;
      throw new Error(`WhatsApp Web does not show the group ${groupId} yet, although the account is in it`, {
        cause: error,
      });
    }
    return (await this.group(groupId, true))!;
  }

  /** The id under which the page has a chat; null if it has no such chat. */
  find(chatId: string): Promise<string | null> {
    return this.read(() => this.page.evaluate(findChat, chatId));
  }

  /** The persons with their other ids. */
  aliases(chatIds: string[]): Promise<PagePerson[]> {
    return this.read(() => this.page.evaluate(aliasesOf, chatIds));
  }

  /** Asks WhatsApp for the person with a number or LID; null if there is no such person. */
  person(chatId: string): Promise<PagePerson | null | Refused> {
    return catchRefusal(this.read(() => this.page.evaluate(findPerson, chatId)));
  }

  /** Newest first. One item more than `limit` if there are more. @param chatId as {@link find} returns it */
  history(chatId: string, limit: number, before: PageCursor | null): Promise<PageHistory> {
    return this.read(() => this.page.evaluate(readHistory, chatId, limit, before, maxHistorySteps));
  }

  /** @param mayBeStranger whether to ask WhatsApp for the picture of a person whom the page does not know */
  picture(id: string, maxBytes: number, mayBeStranger: boolean): Promise<PagePicture> {
    return this.read(() => this.page.evaluate(readPicture, id, maxBytes, mayBeStranger));
  }

  /** Marks all messages of a chat as read. Their senders see that. */
  async markRead(chatId: string): Promise<void> {
    await this.change(() => this.client.sendSeen(chatId));
  }

  /** Watches a chat for a time. @param chatId as {@link find} returns it */
  watch(chatId: string, ms: number, maxChats: number): Promise<PageWatchResult> {
    return this.read(() => this.page.evaluate(watchPresence, chatId, ms, maxChats));
  }

  /** Shows the chat partner that the account types or records. WhatsApp ends that by itself after 25 s. */
  async show(chatId: string, state: 'typing' | 'recording' | 'stop'): Promise<void> {
    await this.read(() => this.page.evaluate(showState, chatId, state));
  }

  /** @returns false if WhatsApp allows no more pinned chats; the other changes are made */
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

  /** @returns the new group, and the result for each participant */
  async createGroup(
    subject: string,
    participants: string[],
  ): Promise<{ groupId: string; members: AddedMember[] } | Refused> {
    const made = await this.change(
      () => this.page.evaluate(createGroup, subject, participants),
      answerMs + participants.length * addMemberMs,
    );
    return made.outcome === 'made' ? made : new Refused(made.status);
  }

  /** Makes the changes one after the other. @returns false as soon as WhatsApp refuses a change; the rest is not made */
  async changeGroup(groupId: string, changes: GroupChanges): Promise<boolean> {
    const group = this.libraryGroup(groupId);
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

  /** Adds people one by one. @returns null if the account is not allowed to */
  async addMembers(groupId: string, participants: string[]): Promise<AddedMember[] | null> {
    const add = () =>
      this.libraryGroup(groupId).addParticipants(participants, {
        sleep: addPauseMs,
        autoSendInviteV4: false,
        comment: '',
      });
    const added = await this.change(add, answerMs + participants.length * addMemberMs);
    if (typeof added === 'string') return null;
    return Object.entries(added as unknown as Record<string, { code: number }>).map(([id, { code }]) => ({
      id,
      code,
    }));
  }

  /** Changes those of the participants who are in the group. @returns false if WhatsApp refuses */
  async changeMembers(
    groupId: string,
    change: 'remove' | 'promote' | 'demote',
    participants: string[],
  ): Promise<boolean> {
    const group = this.libraryGroup(groupId);
    const changes = {
      remove: () => group.removeParticipants(participants),
      promote: () => group.promoteParticipants(participants),
      demote: () => group.demoteParticipants(participants),
    };
    return !((await catchRefusal(this.change(changes[change]))) instanceof Refused);
  }

  /** Makes the old invite links invalid. @returns the new code */
  async resetInvite(groupId: string): Promise<string | Refused> {
    // The library's types say that this returns nothing, but it returns the code.
    const reset = () => this.libraryGroup(groupId).revokeInvite() as Promise<unknown> as Promise<string>;
    return catchRefusal(this.change(reset));
  }

  /** @returns the id of the group */
  async join(code: string): Promise<string | Refused> {
    const joined = await this.change(() => this.page.evaluate(joinGroup, code));
    return joined.outcome === 'joined' ? joined.groupId : new Refused(joined.status);
  }

  /** @returns false if WhatsApp refuses */
  async leave(groupId: string): Promise<boolean> {
    return !((await catchRefusal(this.change(() => this.libraryGroup(groupId).leave()))) instanceof Refused);
  }

  /** The library's object for a group, without reading the whole group first. */
  private libraryGroup(groupId: string): GroupChat {
    const { GroupChat: LibraryGroup } = whatsapp as unknown as {
      GroupChat: new (client: Client, data: object) => GroupChat;
    };
    return new LibraryGroup(this.client, { id: { _serialized: groupId }, groupMetadata: {} });
  }

  private async read<Result>(ask: () => Promise<Result>): Promise<Result> {
    const limitMs = Math.min(answerMs, this.remainingMs());
    return withDeadline(ask(), limitMs);
  }

  private async change<Result>(make: () => Promise<Result>, maxMs = answerMs): Promise<Result> {
    const limitMs = Math.min(maxMs, this.remainingMs());
    return this.track(make(), limitMs);
  }

  /** @throws if no time is left, so that no step starts without a caller that waits for it */
  private remainingMs(): number {
    const remainingMs = this.deadline - performance.now();
    if (remainingMs <= 0) throw new Error('the previous steps used all the time of the call');
    return remainingMs;
  }
}

/**
 * Turns a refusal by WhatsApp's server into a {@link Refused}, because it is not a failure of the page. The status is unknown:
 * puppeteer passes on only the name of an error.
 */
async function catchRefusal<Result>(work: Promise<Result>): Promise<Result | Refused> {
  try {
    return await work;
  } catch (error) {
    const { name, message } = error as Error;
    if (name !== 'ServerStatusCodeError' && !message.includes('ServerStatusCodeError')) throw error;
    return new Refused(0);
  }
}
