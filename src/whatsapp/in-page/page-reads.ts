import type { PageModel, PagePerson, PageWindow } from './page-functions.js';
import type { PageWidLike } from './page-modules.js';

/*
 * What is read of chats and people inside the WhatsApp Web page: see page-functions.ts for the rules that such
 * functions follow. Only what is asked for is made into an answer: a page may hold thousands of chats.
 */

/** Where a page of a list goes on: after the item with this id, and with this time where the list goes by time. */
export interface PageCursor {
  t: number;
  id: string;
}

/** A person is known under `id`, and where `alias` is not null under that too. */
export interface PageChatItem {
  id: string;
  alias: string | null;
  name: string | null;
  isGroup: boolean;
  unreadCount: number;
  /** Seconds since 1970; 0 when nothing was ever written. */
  t: number;
  archived: boolean;
  pinned: boolean;
  muted: boolean;
}

export interface PageContactItem {
  id: string;
  alias: string | null;
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

export interface PageHistory {
  /** One more than asked for when there are more. */
  items: PageHistoryItem[];
  /** False when older ones may be there that were not fetched yet. */
  isComplete: boolean;
}

export type PagePicture =
  | { outcome: 'found'; base64: string }
  /** It has none, or does not show it to this account. */
  | { outcome: 'none' }
  | { outcome: 'not_found' }
  /** Somebody whom the page does not know, so that only WhatsApp could say whether there is such a person. */
  | { outcome: 'stranger' }
  | { outcome: 'too_large' };

declare const window: PageWindow;

/** The chats, the latest first. `limit + 1` items at most: the last one tells that there are more. */
export function listChats(limit: number, after: PageCursor | null): PageChatItem[] {
  const { Chat } = window.require('WAWebCollections');
  const now = Date.now() / 1000;
  return Chat.getModelsArray()
    .map((chat) => ({ chat, t: Number(chat.t ?? 0), id: chat.id._serialized }))
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
  return Contact.getModelsArray()
    .map((contact) => ({ contact, id: contact.id._serialized }))
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

/**
 * The id under which the page has a chat; null when it has none. Unlike the library's own look-up it makes none.
 * @param chatId either id of a person, or a group's
 */
export function findChat(chatId: string): string | null {
  const { Chat } = window.require('WAWebCollections');
  const alias = window.flotilla!.aliasOf(chatId);
  return (Chat.get(chatId) ?? (alias ? Chat.get(alias) : null))?.id._serialized ?? null;
}

/** The other ids of persons, where the page knows them. */
export function aliasesOf(chatIds: string[]): PagePerson[] {
  return chatIds.map((id) => window.flotilla!.personOf(id));
}

/**
 * Asks WhatsApp for a person by number or LID.
 * @returns the ids under which WhatsApp has the person, which need not be the one that was asked for; null when it has none
 */
export async function findPerson(chatId: string): Promise<PagePerson | null> {
  const wid = window.require('WAWebWidFactory').createWid(chatId);
  const found = await window.require('WAWebQueryExistsJob').queryWidExists(wid);
  return found?.wid ? window.flotilla!.personOf(found.wid._serialized) : null;
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
): Promise<PageHistory> {
  const chat = window.require('WAWebCollections').Chat.get(chatId)!;
  const idOf = (wid: PageWidLike | undefined) => wid?._serialized ?? String(wid);
  const held = new Map<string, PageModel>();
  const hold = (models: PageModel[]) => {
    for (const model of models) if (!model.isNotification) held.set(model.id._serialized, model);
  };
  const wanted = () => {
    const ordered = [...held.values()].sort((a, b) => a.t! - b.t!);
    const place = before ? ordered.findIndex(({ id }) => id._serialized === before.id) : ordered.length;
    if (place >= 0) return ordered.slice(0, place);
    // The message of the place is not there, or not any more: what is older than it still is.
    return ordered.filter(({ t }) => t! < before!.t);
  };
  // Within one second the page's own order is the order.
  hold(chat.msgs!.getModelsArray());
  let isAtStart = false;
  for (let round = 0; round < rounds && wanted().length <= limit; round += 1) {
    const earlier = await window.require('WAWebChatLoadMessages').loadEarlierMsgs({ chat });
    isAtStart = !earlier || earlier.length === 0;
    if (!earlier || isAtStart) break;
    const later = [...held.values()];
    held.clear();
    hold(earlier);
    hold(later);
  }
  const found = wanted();
  const items = found
    .slice(-limit - 1)
    .reverse()
    .map((model) => ({
      key: model.id._serialized,
      whatsappId: model.id.id,
      fromMe: model.id.fromMe,
      sender: window.flotilla!.personOf(idOf(model.author ?? model.from)),
      type: String(model.type),
      text: (model.type === 'chat' ? model.body : model.caption) ?? null,
      ack: model.ack ?? 0,
      t: Number(model.t),
      quotedWhatsappId: model.quotedStanzaID ?? null,
      editedAt: model.latestEditSenderTimestampMs ?? null,
    }));
  return { items, isComplete: isAtStart || found.length > limit };
}

/**
 * The profile picture of a person or a group, in full size.
 * @param mayBeStranger whether WhatsApp is asked for the picture of somebody whom the page does not know
 */
export async function readPicture(
  id: string,
  maxBytes: number,
  mayBeStranger: boolean,
): Promise<PagePicture> {
  const { Chat, Contact } = window.require('WAWebCollections');
  const wid = window.require('WAWebWidFactory').createWid(id);
  if (!Chat.get(wid) && !Contact.get(wid) && !(mayBeStranger && wid.isUser()))
    return { outcome: wid.isUser() ? 'stranger' : 'not_found' };
  const found = await window
    .require('WAWebContactProfilePicThumbBridge')
    .requestProfilePicFromServer(Chat.get(wid) ?? { id: wid })
    .catch((error: Error) => {
      // It is shown to this account no more than one that does not exist.
      if (![401, 403, 404].includes(window.flotilla!.refusalOf(error) ?? 0)) throw error;
      return null;
    });
  if (!found?.eurl) return { outcome: 'none' };
  const response = await fetch(found.eurl);
  if (response.status === 404) return { outcome: 'none' };
  if (!response.ok || !response.body) throw new Error(`the picture could not be fetched: ${response.status}`);
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
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
