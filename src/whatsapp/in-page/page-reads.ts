import type { PageModel, PagePerson, PageWindow } from './page-functions.js';
import type { PageWidLike } from './page-modules.js';

/*
 * Reads chats and people inside the WhatsApp Web page. See page-functions.ts for the rules of such functions. These functions
 * build an answer only from the items asked for, because a page may hold thousands of chats.
 */

/** Where the next page of a list starts: after the item with this id and, if time orders the list, with this time. */
export interface PageCursor {
  t: number;
  id: string;
}

/** A chat. A person has the id `id` and, if `alias` is not null, that id too. */
export interface PageChatItem {
  id: string;
  alias: string | null;
  name: string | null;
  isGroup: boolean;
  unreadCount: number;
  /** The time of the last message, in seconds since 1970; 0 if there is no message. */
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
  /** The complete key, with which the page finds the message. */
  key: string;
  whatsappId: string;
  fromMe: boolean;
  /** The author. */
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
  /** One item more than the limit if there are more. */
  items: PageHistoryItem[];
  /** False if there may be older messages that the page has not fetched yet. */
  isComplete: boolean;
}

export type PagePicture =
  | { outcome: 'found'; base64: string }
  /** There is no picture, or this account may not see it. */
  | { outcome: 'none' }
  | { outcome: 'not_found' }
  /** The page does not know the person. Only WhatsApp could say whether the person exists. */
  | { outcome: 'stranger' }
  | { outcome: 'too_large' };

declare const window: PageWindow;

/** The chats, latest first. At most `limit + 1` items: the extra item says that there are more. */
export function listChats(limit: number, after: PageCursor | null): PageChatItem[] {
  const { Chat } = window.require('WAWebCollections');
  const { aliasOf, each } = window.flotilla!;
  const now = Date.now() / 1000;
  const chats = each('chats', Chat.getModelsArray(), (chat) => ({
    chat,
    t: Number(chat.t ?? 0),
    id: chat.id._serialized,
  }))
    .filter(({ id }) => /@(c\.us|lid|g\.us)$/.test(id))
    .filter(({ t, id }) => !after || t < after.t || (t === after.t && id < after.id))
    .sort((a, b) => b.t - a.t || (a.id < b.id ? 1 : -1));
  const read = ({ chat, t, id }: (typeof chats)[number]): PageChatItem => {
    const mutedUntil = Number(chat.mute?.expiration ?? 0);
    return {
      id,
      alias: aliasOf(id),
      name: chat.formattedTitle ?? chat.name ?? null,
      isGroup: id.endsWith('@g.us'),
      // −1 means: the user marked the chat as unread.
      unreadCount: Math.abs(Number(chat.unreadCount ?? 0)),
      t,
      archived: chat.archive === true,
      pinned: Boolean(chat.pin),
      muted: mutedUntil === -1 || mutedUntil > now,
    };
  };
  return each('chats', chats, read, limit + 1);
}

/** The people that the page knows, in the order of their ids. A person with a number and a LID appears once. */
export function listContacts(limit: number, after: PageCursor | null): PageContactItem[] {
  const { Contact } = window.require('WAWebCollections');
  const getters = window.require('WAWebContactGetters');
  const { aliasOf, contactOf, each } = window.flotilla!;
  const contacts = Contact.getModelsArray()
    .map((contact) => ({ contact, id: contact.id._serialized }))
    .filter(({ id }) => /@(c\.us|lid)$/.test(id) && (!after || id > after.id))
    .filter(({ contact }) => !getters.getIsMe(contact))
    .sort((a, b) => (a.id < b.id ? -1 : 1))
    .filter(({ id, contact }) => {
      if (!id.endsWith('@lid')) return true;
      const phone = contact.phoneNumber?._serialized ?? aliasOf(id);
      return phone === null || !Contact.get(phone);
    });
  return each('contacts', contacts, ({ id }) => contactOf!(id)!, limit + 1);
}

/** One person; null if the page does not know the person. @param chatId either id of the person */
export function readContact(chatId: string): PageContactItem | null {
  return window.flotilla!.contactOf!(chatId) ?? null;
}

/**
 * The id under which the page has a chat; null if it has no such chat. Unlike the library's own look-up, this makes no chat.
 * @param chatId either id of a person, or a group's
 */
export function findChat(chatId: string): string | null {
  const { Chat } = window.require('WAWebCollections');
  const alias = window.flotilla!.aliasOf(chatId);
  return (Chat.get(chatId) ?? (alias ? Chat.get(alias) : null))?.id._serialized ?? null;
}

/** The persons with their other ids, if the page knows those. */
export function aliasesOf(chatIds: string[]): PagePerson[] {
  return chatIds.map((id) => window.flotilla!.personOf(id));
}

/**
 * Asks WhatsApp for a person by number or LID.
 * @returns the ids under which WhatsApp has the person, which may differ from `chatId`; null if there is no such person
 */
export async function findPerson(chatId: string): Promise<PagePerson | null> {
  const wid = window.require('WAWebWidFactory').createWid(chatId);
  const found = await window.require('WAWebQueryExistsJob').queryWidExists(wid);
  return found?.wid ? window.flotilla!.personOf(found.wid._serialized) : null;
}

/**
 * The messages of a chat before a cursor, newest first, at most `limit + 1`. The page fetches missing messages from its
 * storage and from the phone, in at most `maxSteps` steps.
 * @param chatId as {@link findChat} returns it
 */
export async function readHistory(
  chatId: string,
  limit: number,
  before: PageCursor | null,
  maxSteps: number,
): Promise<PageHistory> {
  const chat = window.require('WAWebCollections').Chat.get(chatId)!;
  const idOf = (wid: PageWidLike | undefined) => wid?._serialized ?? String(wid);
  const messages = new Map<string, PageModel>();
  const { each, personOf, sourceOf, textOf } = window.flotilla!;
  const noMessages = ['e2e_notification', 'gp2', 'notification_template', 'protocol'];
  const addAll = (models: PageModel[]) => {
    for (const model of models) {
      const isMessage = !model.isNotification && !noMessages.includes(String(model.type));
      // A story inside a group has the group as its chat.
      if (isMessage && sourceOf(model) === null) messages.set(model.id._serialized, model);
    }
  };
  const beforeCursor = () => {
    const ordered = [...messages.values()].sort((a, b) => a.t! - b.t!);
    const index = before ? ordered.findIndex(({ id }) => id._serialized === before.id) : ordered.length;
    if (index >= 0) return ordered.slice(0, index);
    // The page does not have the message of the cursor. Older messages may still be there.
    return ordered.filter(({ t }) => t! < before!.t);
  };
  // Messages of the same second stay in the page's own order.
  addAll(chat.msgs!.getModelsArray());
  let isAtStart = false;
  for (let step = 0; step < maxSteps && beforeCursor().length <= limit; step += 1) {
    const earlier = await window.require('WAWebChatLoadMessages').loadEarlierMsgs({ chat });
    isAtStart = !earlier || earlier.length === 0;
    if (!earlier || isAtStart) break;
    const later = [...messages.values()];
    messages.clear();
    addAll(earlier);
    addAll(later);
  }
  const found = beforeCursor();
  const readText = (model: PageModel) => {
    if (model.type === 'chat') return model.body ?? null;
    return (model.directPath ? textOf(model) || null : model.caption) ?? null;
  };
  const items = each('messages of the chat', found.slice(-limit - 1).reverse(), (model) => ({
    key: model.id._serialized,
    // A revoked message has a new id.
    whatsappId: model.protocolMessageKey?.id ?? model.id.id,
    fromMe: model.id.fromMe,
    sender: personOf(idOf(model.author ?? model.from)),
    type: String(model.type),
    text: readText(model),
    ack: model.ack ?? 0,
    t: Number(model.t),
    quotedWhatsappId: model.quotedStanzaID ?? null,
    editedAt: model.latestEditSenderTimestampMs ?? null,
  }));
  return { items, isComplete: isAtStart || found.length > limit };
}

/**
 * The profile picture of a person or a group, in full size.
 * @param mayBeStranger whether to ask WhatsApp for the picture of a person whom the page does not know
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
      // This account may not see the picture, or there is none: for the caller both are the same.
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

/** Shows the chat partner that this account types or records, or has stopped. */
export async function showState(chatId: string, state: 'typing' | 'recording' | 'stop'): Promise<void> {
  await window.WWebJS.sendChatstate(state, chatId);
}
