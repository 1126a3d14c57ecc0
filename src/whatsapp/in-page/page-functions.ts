import type { MessageTarget } from '../message-target.js';
import type { OutgoingContent } from '../outgoing-content.js';
import type { PageLibrary, PageModules, PageWid, PageWidLike } from './page-modules.js';

/*
 * Functions that run inside the WhatsApp Web page. Puppeteer sends their source text, so each may use nothing from
 * outside itself; what they share lies in `window.flotilla`, which `installFlotilla` makes.
 */

/** What an attempt to send came to, as the page tells it. */
export type PageSendResult =
  | { outcome: 'known'; ack: number; whatsappId: string }
  | { outcome: 'not_registered' }
  /** There is no such group, or the account is not in it: nothing was sent. */
  | { outcome: 'no_chat'; detail: string }
  /** The message that it answers is not there any more: nothing was sent. */
  | { outcome: 'no_quoted' }
  /** The page failed before it had the message: this try sent nothing. */
  | { outcome: 'not_sent'; detail: string }
  /** The page has the message and will send it by itself, as WhatsApp Web does when it is connected again. */
  | { outcome: 'pending' }
  /** The page was loaded anew and is not ready yet: nothing was done. */
  | { outcome: 'not_ready' }
  /** It was only looked for, and the page does not know it. */
  | { outcome: 'absent' }
  | { outcome: 'timed_out' };

/** An incoming message, reduced to what is stored. */
export interface PageMessage {
  whatsappId: string;
  chatId: string;
  /** The other chat id of the same person, who has a phone number and a hidden one, where the page knows it. */
  alias: string | null;
  /** Whoever wrote it: in a group somebody else than the chat. */
  from: string;
  fromAlias: string | null;
  to: string;
  /** In WhatsApp's words. */
  type: string;
  /** Of media its caption. */
  text: string;
  /** Seconds since 1970. */
  timestamp: number;
  media: { mimetype: string; size: number | null; filename: string | null } | null;
  location: { latitude: number; longitude: number; description: string | null } | null;
  vcards: string[];
  poll: { question: string; options: string[]; multiple: boolean } | null;
  /** The WhatsApp id of the message that it answers. */
  quoted: string | null;
  /** Chat ids, with the phone number where the page knows it. */
  mentions: string[];
}

/** A person: a chat id and, where the page knows it, the other one of the same person. */
export interface PagePerson {
  chatId: string;
  alias: string | null;
}

/** What became of a message after it was sent. `at` is when, in milliseconds since 1970, by the clock of whoever did it. */
export type PageChange = { whatsappId: string; at: number } & (
  | { kind: 'edited'; text: string }
  | { kind: 'revoked' }
  /** `from` is null for this account itself; an empty emoji takes the reaction back. */
  | { kind: 'reaction'; from: PagePerson | null; emoji: string }
  /** All options that somebody has chosen by now; none takes the vote back. */
  | { kind: 'vote'; from: PagePerson | null; options: string[] }
);

/** What somebody did to a group, as its chat shows it. */
export interface PageGroupNotice {
  kind: 'group';
  noticeId: string;
  chatId: string;
  /** WhatsApp's own word: `add`, `remove`, `leave`, `subject`, … */
  change: string;
  by: PagePerson | null;
  whom: PagePerson[];
  /** The new subject and the like. */
  text: string;
  /** Seconds since 1970; null where the page has none. */
  timestamp: number | null;
}

/** A message to be sent. */
export interface PageSend {
  chatId: string;
  content: OutgoingContent;
  /** The message that it answers. */
  quoted: MessageTarget | null;
  /** The chat ids of whom it mentions. */
  mentions: string[];
  /** The id that it gets, or has already. */
  whatsappId: string;
  /** Looks for that id in the page's storage too; for every attempt but the first. */
  thorough: boolean;
  /** Only looks: what is not there is not sent. */
  lookOnly: boolean;
  /** How long an ack is waited for. */
  timeoutMs: number;
  /** Shows the recipient "typing…" for that long before the send; 0 does not. */
  typingMs: number;
  /** Asks WhatsApp whether the number is registered, and sends nothing when it is not. */
  checkNumber: boolean;
}

export interface PageModel {
  id: { id: string; fromMe: boolean; _serialized: string; remote: PageWidLike };
  from?: PageWidLike;
  to?: PageWidLike;
  author?: PageWidLike;
  /** Seconds since 1970. */
  t?: number;
  ack?: number;
  type?: string;
  body?: string;
  /** Of media: the text below it, where its body is a small picture of it. */
  caption?: string;
  /** Of media: where WhatsApp has it. */
  directPath?: string;
  mimetype?: string;
  size?: number;
  filename?: string;
  quotedStanzaID?: string;
  mentionedJidList?: PageWidLike[];
  vcardList?: { vcard: string }[];
  lat?: number;
  lng?: number;
  loc?: string;
  pollName?: string;
  pollOptions?: PollModel['pollOptions'];
  pollSelectableOptionsCount?: number;
  /** Of a notice about a group. */
  subtype?: string;
  recipients?: PageWidLike[];
  isNotification?: boolean;
  latestEditSenderTimestampMs?: number;
  /** Of a revoked message: the one that it stands for. */
  protocolMessageKey?: { id: string };
  revokeTimestamp?: number;
  hasReaction?: boolean;
}

export interface PageChat {
  id: PageWid;
  formattedTitle?: string;
  name?: string;
  /** Seconds since 1970. */
  t?: number;
  unreadCount?: number;
  archive?: boolean;
  pin?: number;
  mute?: { expiration?: number };
  groupMetadata?: PageGroupMetadata;
  msgs?: { getModelsArray(): PageModel[] };
}

interface PageGroupMetadata {
  isLidAddressingMode?: boolean;
  participants?: {
    length: number;
    iAmMember?(): boolean;
    iAmAdmin?(): boolean;
    getModelsArray(): { id: PageWidLike; isAdmin?: boolean; isSuperAdmin?: boolean }[];
  };
  size?: number;
  subject?: string;
  desc?: string;
  owner?: PageWidLike;
  /** Seconds since 1970. */
  creation?: number;
  announce?: boolean;
  restrict?: boolean;
  memberAddMode?: string;
}

/** A reaction as the library hands it over. */
interface PageReaction {
  id: { fromMe: boolean };
  reactionParentKey: { id: string };
  reactionText: string;
  reactionTimestamp: number;
  senderUserJid: string;
}

/** What somebody chose in a poll, as the library hands it over. */
interface PageVote {
  id?: { fromMe: boolean };
  parentMsgKey: { id: string };
  senderUserJid: string;
  selectedOptionLocalIds: ArrayLike<number>;
  senderTimestampMs: number;
  parentMessage: PollModel | null;
}

export interface PollModel {
  pollOptions?: { name: string; localId: number }[];
}

export interface PageWindow {
  require<Name extends keyof PageModules>(name: Name): PageModules[Name];
  WWebJS: PageLibrary;
  onAppStateHasSyncedEvent?: () => void;
  onMessageAckEvent: (message: PageModel, ack: number) => void;
  onAddMessageEvent: (message: PageModel) => void;
  onChangeMessageEvent: () => void;
  onChangeMessageTypeEvent: (message: PageModel) => void;
  onEditMessageEvent: (message: PageModel, text: string) => void;
  onReaction: (reactions: PageReaction[]) => void;
  onPollVoteEvent: (votes: PageVote[]) => void;
  onChatUnreadCountEvent: () => void;
  /** The binding that hands a batch of {@link PageEvent}s to the instance, as JSON. */
  flotillaEmit: (events: string) => void;
  flotilla?: PageFlotilla;
}

/** What the functions of this folder share inside the page. */
export interface PageFlotilla {
  /** The key of a message of this account, exactly as the library's sendMessage makes it. */
  keyOf(chat: PageChat, id: string): { _serialized: string };
  /** The other chat id of a person, who has a phone number and a hidden one. */
  aliasOf(chatId: string): string | null;
  personOf(chatId: string): PagePerson;
  isRegistered(chatId: string): Promise<boolean>;
  /** The status with which the server said no, 0 when it has none; null when the error is something else. */
  refusalOf(error: unknown): number | null;
  find(key: string, thorough: boolean): Promise<PageModel | undefined>;
  locate(target: MessageTarget): Promise<{ chat: PageChat; message: PageModel } | null>;
  previewOf(text: string): Promise<object>;
  /** The text of a message, of media its caption. */
  textOf(message: PageModel): string;
  revocationOf(message: PageModel): PageChange;
  noticeOf(message: PageModel): PageGroupNotice;
  /** The names of the options of a poll that were chosen. */
  optionsOf(poll: PollModel, localIds: ArrayLike<number>): string[];
  /** Files that were handed to the page for a message that is to be sent, by its WhatsApp id. */
  files: Map<string, PageFileInput>;
  /** Media that was fetched and is read in pieces. */
  fetched: Map<string, Blob>;
  send?(send: PageSend): Promise<PageSendResult>;
  messageOf?(model: PageModel): PageMessage;
}

/** An `<input type="file">` that the browser was given a file for. */
export interface PageFileInput {
  files: ArrayLike<Blob> | null;
}

/** What the page tells the instance of messages. */
export type PageEvent =
  | { kind: 'ack'; whatsappId: string; ack: number }
  | { kind: 'message'; message: PageMessage }
  | PageChange
  | PageGroupNotice;

declare const window: PageWindow;

/** Makes `window.flotilla`, once a page load, when the library has attached its listeners. */
export function installFlotilla(): void {
  if (window.flotilla) return;
  const MsgKey = window.require('WAWebMsgKey');
  const { Msg } = window.require('WAWebCollections');

  const flotilla: PageFlotilla = {
    files: new Map(),
    fetched: new Map(),
    isRegistered: async (chatId) => {
      const wid = window.require('WAWebWidFactory').createWid(chatId);
      if (typeof wid.isUser === 'function' && !wid.isUser()) return true;
      const found = await window.require('WAWebQueryExistsJob').queryWidExists(wid);
      return found?.wid !== undefined;
    },
    refusalOf: (error) => {
      const { name, status, statusCode } = error as Record<string, unknown>;
      return name === 'ServerStatusCodeError' ? Number(status ?? statusCode) || 0 : null;
    },
    // What the library's own link preview adds, within a time of its own: a slow site delays no message long.
    previewOf: async (text) => {
      const link = window.require('WALinkify').findLink(text);
      if (!link) return {};
      const preview = window.require('WAWebLinkPreviewChatAction').getLinkPreview(link);
      const late = new Promise<null>((resolve) => setTimeout(() => resolve(null), 3_000));
      const found = await Promise.race([preview, late]).catch(() => null);
      return found?.data ? { ...found.data, preview: true, subtype: 'url' } : {};
    },
    optionsOf: ({ pollOptions = [] }, localIds) =>
      Array.from(localIds)
        .map((id) => pollOptions.find(({ localId }) => localId === id)?.name)
        .filter((name) => name !== undefined),
    textOf: ({ body, caption, directPath }) => (directPath ? caption : body) ?? '',
    revocationOf: ({ id, protocolMessageKey, revokeTimestamp }) => ({
      kind: 'revoked',
      whatsappId: protocolMessageKey?.id ?? id.id,
      at: revokeTimestamp ? revokeTimestamp * 1000 : Date.now(),
    }),
    noticeOf: (message) => {
      const { id, author, recipients, subtype, body, t } = message;
      const person = (wid: PageWidLike) => flotilla.personOf(wid._serialized ?? String(wid));
      const { remote } = id;
      return {
        kind: 'group',
        noticeId: id.id,
        chatId: remote._serialized ?? String(remote),
        change: String(subtype),
        by: author ? person(author) : null,
        whom: (recipients ?? []).map(person),
        text: body ?? '',
        timestamp: Number.isFinite(Number(t)) ? Number(t) : null,
      };
    },
    locate: async ({ chatId, whatsappId, fromMe, author }) => {
      const chat = await window.WWebJS.getChat(chatId, { getAsModel: false }).catch(() => null);
      if (!chat) return null;
      // The page may know the chat under another address than the one that the message came with.
      const held = chat.msgs?.getModelsArray().find(({ id }) => id.id === whatsappId && id.fromMe === fromMe);
      if (held) return { chat, message: held };
      const participant = author && window.require('WAWebWidFactory').createWid(author);
      const key = fromMe
        ? flotilla.keyOf(chat, whatsappId)._serialized
        : new MsgKey({
            fromMe: false,
            remote: chat.id,
            id: whatsappId,
            ...(participant ? { participant } : {}),
          })._serialized;
      const message = await flotilla.find(key, true);
      return message ? { chat, message } : null;
    },
    aliasOf: (chatId) => {
      if (!chatId.endsWith('@c.us') && !chatId.endsWith('@lid')) return null;
      try {
        const wid = window.require('WAWebWidFactory').createWid(chatId);
        const { getCurrentLid, getPhoneNumber } = window.require('WAWebApiContact');
        return (chatId.endsWith('@lid') ? getPhoneNumber(wid) : getCurrentLid(wid))?._serialized ?? null;
      } catch {
        // A message without its sender's other id is better than no message.
        return null;
      }
    },
    personOf: (chatId) => ({ chatId, alias: flotilla.aliasOf(chatId) }),
    // In a group it names the participant too.
    keyOf: (chat, id) => {
      const { getMaybeMeLidUser, getMaybeMePnUser } = window.require('WAWebUserPrefsMeUser');
      const isGroup = typeof chat.id.isGroup === 'function' && chat.id.isGroup();
      const usesLid = isGroup ? chat.groupMetadata?.isLidAddressingMode : chat.id.isLid();
      const from = usesLid ? getMaybeMeLidUser() : getMaybeMePnUser();
      const participant = isGroup ? window.require('WAWebWidFactory').asUserWidOrThrow(from) : undefined;
      return new MsgKey({ from, to: chat.id, id, participant, selfDir: 'out' });
    },
    // A page that was reloaded has its older messages in storage only.
    find: async (key, thorough) =>
      Msg.get(key) ?? (thorough ? (await Msg.getMessagesById([key]))?.messages?.[0] : undefined),
  };
  window.flotilla = flotilla;
}

/** How far messages got that this account sent, by their ids; those the page does not know are left out. */
export async function acksOf(
  messages: { chatId: string; whatsappId: string }[],
): Promise<{ whatsappId: string; ack: number }[]> {
  const found: { whatsappId: string; ack: number }[] = [];
  for (const { chatId, whatsappId } of messages) {
    const chat = await window.WWebJS.getChat(chatId, { getAsModel: false }).catch(() => null);
    const message =
      chat && (await window.flotilla!.find(window.flotilla!.keyOf(chat, whatsappId)._serialized, true));
    if (message) found.push({ whatsappId, ack: message.ack ?? 0 });
  }
  return found;
}

/** What was done to groups since a time (seconds since 1970), of what the page holds, oldest first. */
export function recentNotices(since: number, limit: number): PageGroupNotice[] {
  const { flotilla } = window;
  if (!flotilla) return [];
  return window
    .require('WAWebCollections')
    .Msg.getModelsArray()
    .filter(({ type, t }) => type === 'gp2' && Number(t) >= since)
    .sort((a, b) => Number(a.t) - Number(b.t))
    .slice(-limit)
    .map((model) => flotilla.noticeOf(model));
}
