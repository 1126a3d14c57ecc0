import type { PageChat, PageModel, PageWindow } from './page-functions.js';

/*
 * What is read of chats, people and groups inside the WhatsApp Web page: see page-functions.ts for the rules that such
 * functions follow. Only what is asked for is made into an answer: a page may hold thousands of chats.
 */

/* eslint-disable @typescript-eslint/no-explicit-any -- WhatsApp's modules have no types */

/** A person as the page knows one: a chat id, and the other id of the same person where it is known. */
export interface PagePerson {
  id: string;
  alias: string | null;
}

/** Where a page of a list goes on: after the item with this id, and with this time where the list goes by time. */
export interface PageCursor {
  t: number;
  id: string;
}

export interface PageChatItem extends PagePerson {
  name: string | null;
  isGroup: boolean;
  unreadCount: number;
  /** Seconds since 1970; 0 when nothing was ever written. */
  t: number;
  archived: boolean;
  pinned: boolean;
  muted: boolean;
}

export interface PageContactItem extends PagePerson {
  name: string | null;
  pushname: string | null;
  isBusiness: boolean;
  isMyContact: boolean;
  isBlocked: boolean;
}

export interface PageHistoryItem {
  /** The whole key, by which the page finds the message again. */
  key: string;
  whatsappId: string;
  fromMe: boolean;
  /** Who wrote it. */
  sender: PagePerson;
  type: string;
  text: string | null;
  ack: number;
  /** Seconds since 1970. */
  t: number;
  quotedWhatsappId: string | null;
  /** Milliseconds since 1970. */
  editedAt: number | null;
}

export interface PageGroupItem {
  id: string;
  subject: string;
  participantCount: number;
  isAdmin: boolean;
}

export interface PageGroup extends PageGroupItem {
  isMember: boolean;
  description: string | null;
  owner: PagePerson | null;
  /** Seconds since 1970. */
  creation: number | null;
  announcementsOnly: boolean;
  infoAdminsOnly: boolean;
  addAdminsOnly: boolean;
  /** For admins. */
  inviteCode: string | null;
  participants: (PagePerson & { isAdmin: boolean; isSuperAdmin: boolean })[];
}

export type PagePicture =
  | { outcome: 'found'; base64: string }
  /** It has none, or does not show it to this account. */
  | { outcome: 'none' }
  | { outcome: 'not_found' }
  | { outcome: 'too_large' };

declare const window: PageWindow;

/** The chats, the latest first. `limit + 1` items at most: the last one tells that there are more. */
export function listChats(limit: number, after: PageCursor | null): PageChatItem[] {
  const { Chat } = window.require('WAWebCollections');
  const now = Date.now() / 1000;
  return (Chat.getModelsArray() as any[])
    .map((chat) => ({ chat, t: Number(chat.t ?? 0), id: chat.id._serialized as string }))
    .filter(({ id }) => /@(c\.us|lid|g\.us)$/.test(id))
    .filter(({ t, id }) => !after || t < after.t || (t === after.t && id < after.id))
    .sort((a, b) => b.t - a.t || (a.id < b.id ? 1 : -1))
    .slice(0, limit + 1)
    .map(({ chat, t, id }) => {
      const mutedUntil = Number(chat.mute?.expiration ?? 0);
      return {
        id,
        alias: window.flotilla!.aliasOf(id),
        name: chat.formattedTitle ?? chat.name ?? null,
        isGroup: id.endsWith('@g.us'),
        // Marked as unread by hand is −1.
        unreadCount: Math.abs(Number(chat.unreadCount ?? 0)),
        t,
        archived: chat.archive === true,
        pinned: Boolean(chat.pin),
        muted: mutedUntil === -1 || mutedUntil > now,
      };
    });
}

/** The people that the page knows, in the order of their ids; who is known by number and LID is one person. */
export function listContacts(limit: number, after: PageCursor | null): PageContactItem[] {
  const { Contact, Blocklist } = window.require('WAWebCollections');
  const getters = window.require('WAWebContactGetters');
  const { getIsMyContact } = window.require('WAWebFrontendContactGetters');
  const { aliasOf } = window.flotilla!;
  return (Contact.getModelsArray() as any[])
    .map((contact) => ({ contact, id: contact.id._serialized as string }))
    .filter(({ id }) => /@(c\.us|lid)$/.test(id) && (!after || id > after.id))
    .filter(({ contact }) => !getters.getIsMe(contact))
    .sort((a, b) => (a.id < b.id ? -1 : 1))
    .filter(({ id, contact }) => {
      if (!id.endsWith('@lid')) return true;
      const phone = contact.phoneNumber?._serialized ?? aliasOf(id);
      return phone === null || !Contact.get(phone);
    })
    .slice(0, limit + 1)
    .map(({ contact, id }) => {
      const alias = aliasOf(id);
      const isBlocked = contact.isContactBlocked || Blocklist.get(id) || (alias && Blocklist.get(alias));
      return {
        id,
        alias,
        name: getters.getName(contact) ?? null,
        pushname: getters.getPushname(contact) ?? null,
        isBusiness: contact.isBusiness === true,
        isMyContact: Boolean(getIsMyContact(contact)),
        isBlocked: Boolean(isBlocked),
      };
    });
}

/** The groups that the account is in, in the order of their ids, as far as the page knows them without asking. */
export function listGroups(limit: number, after: PageCursor | null): PageGroupItem[] {
  const { Chat } = window.require('WAWebCollections');
  return (Chat.getModelsArray() as any[])
    .map((chat) => ({ chat, id: chat.id._serialized as string }))
    .filter(({ chat, id }) => id.endsWith('@g.us') && chat.groupMetadata && (!after || id > after.id))
    .filter(({ chat }) => chat.groupMetadata.participants?.iAmMember?.() !== false)
    .sort((a, b) => (a.id < b.id ? -1 : 1))
    .slice(0, limit + 1)
    .map(({ chat, id }) => ({
      id,
      subject: chat.formattedTitle ?? chat.name ?? '',
      participantCount: Number(chat.groupMetadata.participants?.length ?? chat.groupMetadata.size ?? 0),
      isAdmin: chat.groupMetadata.participants?.iAmAdmin?.() === true,
    }));
}

/** A group, asked of WhatsApp anew; null when the account has no chat of it. */
export async function readGroup(groupId: string, withInvite: boolean): Promise<PageGroup | null> {
  const chat = window.require('WAWebCollections').Chat.get(groupId);
  if (!chat?.groupMetadata) return null;
  const refused = (error: Error) => {
    if (error.name !== 'ServerStatusCodeError') throw error;
    return null;
  };
  // WhatsApp tells nothing to those who are not in it any more.
  await window.require('WAWebGroupQueryJob').queryAndUpdateGroupMetadataById({ id: groupId }).catch(refused);
  const { groupMetadata } = chat;
  const { participants } = groupMetadata;
  const person = (wid: any) => {
    const id = (wid?._serialized ?? String(wid)) as string;
    return { id, alias: window.flotilla!.aliasOf(id) };
  };
  const isMember = participants.iAmMember?.() !== false;
  const isAdmin = isMember && participants.iAmAdmin?.() === true;
  const invite =
    isAdmin && withInvite
      ? await window
          .require('WAWebMexFetchGroupInviteCodeJob')
          .fetchMexGroupInviteCode(groupId)
          .catch(refused)
      : null;
  return {
    id: groupId,
    subject: chat.formattedTitle ?? chat.name ?? groupMetadata.subject ?? '',
    participantCount: participants.length,
    isAdmin,
    isMember,
    description: groupMetadata.desc ?? null,
    owner: groupMetadata.owner ? person(groupMetadata.owner) : null,
    creation: groupMetadata.creation ?? null,
    announcementsOnly: groupMetadata.announce === true,
    infoAdminsOnly: groupMetadata.restrict === true,
    addAdminsOnly: groupMetadata.memberAddMode === 'admin_add',
    inviteCode: invite?.code ?? (typeof invite === 'string' ? invite : null),
    participants: (participants.getModelsArray() as any[]).map(({ id, isAdmin: admin, isSuperAdmin }) => ({
      ...person(id),
      isAdmin: Boolean(admin || isSuperAdmin),
      isSuperAdmin: Boolean(isSuperAdmin),
    })),
  };
}

/**
 * The id under which the page has a chat; null when it has none. Unlike the library's own look-up it makes none.
 * @param chatId either id of a person, or a group's
 */
export function findChat(chatId: string): string | null {
  const { Chat } = window.require('WAWebCollections');
  const alias = window.flotilla!.aliasOf(chatId);
  return (Chat.get(chatId) ?? (alias && Chat.get(alias)))?.id._serialized ?? null;
}

/** The other ids of persons, where the page knows them. */
export function aliasesOf(chatIds: string[]): PagePerson[] {
  return chatIds.map((id) => ({ id, alias: window.flotilla!.aliasOf(id) }));
}

/**
 * A chat's messages before a place, the newest first, at most `limit + 1`. What the page does not hold it fetches from its
 * storage and the phone, in at most `rounds` steps.
 * @param chatId as {@link findChat} gives it
 */
export async function readHistory(
  chatId: string,
  limit: number,
  before: PageCursor | null,
  rounds: number,
): Promise<PageHistoryItem[]> {
  const chat: PageChat & Record<string, any> = window.require('WAWebCollections').Chat.get(chatId);
  type Held = PageModel & Record<string, any>;
  const held = new Map<string, Held>();
  const hold = (models: Held[]) => {
    for (const model of models) if (!model['isNotification']) held.set(model.id._serialized, model);
  };
  const wanted = () => {
    const ordered = [...held.values()].sort((a, b) => a['t'] - b['t']);
    const place = before ? ordered.findIndex(({ id }) => id._serialized === before.id) : ordered.length;
    if (place >= 0) return ordered.slice(0, place);
    // The message of the place is not there, or not any more: what is older than it still is.
    return ordered.filter(({ t }) => t < before!.t);
  };
  // Within one second the page's own order is the order.
  hold(chat.msgs!.getModelsArray());
  for (let round = 0; round < rounds && wanted().length <= limit; round += 1) {
    const earlier: Held[] | undefined = await window
      .require('WAWebChatLoadMessages')
      .loadEarlierMsgs({ chat });
    if (!earlier || earlier.length === 0) break;
    const later = [...held.values()];
    held.clear();
    hold(earlier);
    hold(later);
  }
  const person = (wid: any) => {
    const id = (wid?._serialized ?? String(wid)) as string;
    return { id, alias: window.flotilla!.aliasOf(id) };
  };
  return wanted()
    .slice(-limit - 1)
    .reverse()
    .map((model) => ({
      key: model.id._serialized,
      whatsappId: model.id.id,
      fromMe: model.id.fromMe,
      sender: person(model['author'] ?? model['from']),
      type: String(model.type),
      text: (model.type === 'chat' ? model.body : model['caption']) ?? null,
      ack: model.ack ?? 0,
      t: Number(model['t']),
      quotedWhatsappId: model['quotedStanzaID'] ?? null,
      editedAt: model.latestEditSenderTimestampMs ?? null,
    }));
}

/** The profile picture of a person or a group, in full size. */
export async function readPicture(id: string, maxBytes: number): Promise<PagePicture> {
  const { Chat, Contact } = window.require('WAWebCollections');
  const wid = window.require('WAWebWidFactory').createWid(id);
  if (!Chat.get(wid) && !Contact.get(wid)) {
    if (!wid.isUser()) return { outcome: 'not_found' };
    const found = await window.require('WAWebQueryExistsJob').queryWidExists(wid);
    if (!found?.wid) return { outcome: 'not_found' };
  }
  const found = await window
    .require('WAWebContactProfilePicThumbBridge')
    .requestProfilePicFromServer(Chat.get(wid) ?? { id: wid })
    .catch((error: Error) => {
      // It is shown to this account no more than one that does not exist.
      if (error.name !== 'ServerStatusCodeError') throw error;
      return null;
    });
  if (!found?.eurl) return { outcome: 'none' };
  const response = await fetch(found.eurl);
  if (response.status === 404) return { outcome: 'none' };
  if (!response.ok || !response.body) throw new Error(`the picture could not be fetched: ${response.status}`);
  const reader = response.body.getReader();
  let binary = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { outcome: 'found', base64: btoa(binary) };
    if (binary.length + value.length > maxBytes) {
      await reader.cancel();
      return { outcome: 'too_large' };
    }
    for (let start = 0; start < value.length; start += 8192)
      binary += String.fromCharCode(...value.subarray(start, start + 8192));
  }
}

/** Shows the other side what this one is about to do. */
export async function showState(chatId: string, state: 'typing' | 'recording' | 'stop'): Promise<void> {
  await window.WWebJS.sendChatstate(state, chatId);
}
