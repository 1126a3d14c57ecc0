import type { MessageTarget } from '../message-target.js';
import type { OutgoingContent } from '../outgoing-content.js';
import type { PageCall } from './page-calls.js';
import type { PagePresence } from './page-presence.js';
import type { PageContactItem } from './page-reads.js';
import type { PageCallModel, PageLibrary, PageModules, PageWid, PageWidLike } from './page-modules.js';

/*
 * Functions that run inside the WhatsApp Web page. Puppeteer sends their source text, so a function may use nothing from
 * outside itself. What the functions share is in `window.flotilla`, which `installFlotilla` makes.
 */

/** The result of an attempt to send. */
export type PageSendResult =
  /** `isUnfound`: WhatsApp has acknowledged the message, but the page does not find it. */
  | { outcome: 'known'; ack: number; whatsappId: string; isUnfound?: true }
  | Exclude<PageReach, { outcome: 'reached' }>
  /** There is no such group, or the account is not in it. Nothing was sent. */
  | { outcome: 'no_chat'; detail: string }
  /** The quoted message no longer exists. Nothing was sent. */
  | { outcome: 'no_quoted' }
  /** The page failed before it had the message. This attempt sent nothing. */
  | { outcome: 'not_sent'; detail: string }
  /** The page has the message. WhatsApp Web sends it by itself after it reconnects. */
  | { outcome: 'pending' }
  /** The page has the message, has no ack of it, and has stopped to send it. It may have left. */
  | { outcome: 'unsent' }
  /** The page was reloaded and is not ready yet. Nothing was done. */
  | { outcome: 'not_ready' }
  /** The caller only looked for the message (`lookOnly`), and the page does not know it. */
  | { outcome: 'absent' }
  | { outcome: 'timed_out' }
  /** Of a post: the account may not post in this channel, or there is no such channel. Nothing was posted. */
  | { outcome: 'not_admin' }
  /** Of a post: this page has no way to post as Flotilla knows it. Nothing was posted. */
  | { outcome: 'cannot_post'; detail: string };

/** Where a message comes from that is in no chat: a story, also a story inside a group, or a post of a channel. */
export type PageSource = 'stories' | 'channels';
/** Whether WhatsApp has a person under an id. With each other outcome than `reached`, nothing was sent. */
export type PageReach =
  | { outcome: 'reached' }
  | { outcome: 'not_registered' }
  /** WhatsApp has the number under this other id: send there. */
  | { outcome: 'other_id'; chatId: string }
  /** WhatsApp refused to check the number, because the account checks too many. */
  | { outcome: 'throttled' }
  /** The number must be checked first, and the caller does not allow a check now. */
  | { outcome: 'paused' };

/** Whether the page may ask WhatsApp about the number of a stranger. `done`: WhatsApp's answer is this very id. */
export type NumberCheck = 'allowed' | 'paused' | 'done';

/** A message that came in, or that the account's owner wrote elsewhere, reduced to the fields that Flotilla stores. */
export interface PageMessage {
  whatsappId: string;
  /** The account's owner wrote it, on the phone or another linked device. */
  fromMe: boolean;
  /** The ack of such a message. */
  ack: number;
  /** `status@broadcast` for every story. */
  chatId: string;
  /** Null for a message in a chat. */
  source: PageSource | null;
  /** The other chat id of the same person, if the page knows it: a person has a phone number and a hidden number (LID). */
  alias: string | null;
  /** The sender. In a group this is a person, not the chat. */
  from: string;
  fromAlias: string | null;
  /** The sender's name in the address book; without such a name, the name that the sender has set. */
  fromName: string | null;
  /** In a group: its subject. */
  subject: string | null;
  to: string;
  /** WhatsApp's own name of the type. */
  type: string;
  /** For media: the caption. */
  text: string;
  /** Seconds since 1970. */
  timestamp: number;
  media: { mimetype: string; size: number | null; filename: string | null } | null;
  location: { latitude: number; longitude: number; description: string | null } | null;
  vcards: string[];
  poll: { question: string; options: string[]; multiple: boolean } | null;
  /** The WhatsApp id of the quoted message. */
  quoted: string | null;
  /** Chat ids: the one with the phone number, if the page knows it. */
  mentions: string[];
  isViewOnce: boolean;
  /** A video that plays again and again without sound. */
  isGif: boolean;
}

/** A person: a chat id and, if the page knows it, the person's other chat id. */
export interface PagePerson {
  chatId: string;
  alias: string | null;
}

/** A change of a sent message. `at` is its time in milliseconds since 1970, by the clock of the person who made it. */
export type PageChange = { whatsappId: string; at: number } & (
  | { kind: 'edited'; text: string }
  | { kind: 'revoked' }
  /** `from` is null for this account itself. An empty emoji removes the reaction. */
  | { kind: 'reaction'; from: PagePerson | null; emoji: string }
  /** All options that the person has chosen now. An empty list withdraws the vote. */
  | { kind: 'vote'; from: PagePerson | null; options: string[] }
);

/** A change of a group, as its chat shows it. */
export interface PageGroupNotice {
  kind: 'group';
  noticeId: string;
  chatId: string;
  /** WhatsApp's own name: `add`, `remove`, `leave`, `subject`, … */
  change: string;
  by: PagePerson | null;
  whom: PagePerson[];
  /** For example the new subject. */
  text: string;
  /** Seconds since 1970; null if the page has no time. */
  timestamp: number | null;
}

/** A message to send. */
export interface PageSend {
  chatId: string;
  content: OutgoingContent;
  /** The message that this message quotes. */
  quoted: MessageTarget | null;
  /** The chat ids of the mentioned persons. */
  mentions: string[];
  /** The id that the message gets, or already has after an earlier attempt. */
  whatsappId: string;
  /** Looks for that id in the page's storage too. True for every attempt after the first. */
  searchStorage: boolean;
  /** Only looks for the message, and never adds it to the page. */
  lookOnly: boolean;
  /** Sends the message again if the page has it and does not send it. */
  mayResend: boolean;
  /** How long to wait for an ack. */
  timeoutMs: number;
  /** How long to show "typing…" to the recipient before the send. 0 shows nothing. */
  typingMs: number;
  /** Asks WhatsApp whether the number is registered even if the page has its chat, and sends nothing if it is not. */
  checkNumber: boolean;
  /** Default: `allowed`. */
  numberCheck?: NumberCheck;
}

/** A message as the page holds it. */
export interface PageModel {
  id: { id: string; fromMe: boolean; _serialized: string; remote: PageWidLike; participant?: PageWidLike };
  from?: PageWidLike;
  to?: PageWidLike;
  author?: PageWidLike;
  /** Seconds since 1970. */
  t?: number;
  ack?: number;
  /** The page has no ack of the message and does not send it any more: it shows the red mark. */
  isSendFailure?: boolean;
  /** Only in older builds: what a click on that mark does. */
  resend?(): Promise<unknown>;
  type?: string;
  /** The name that the author has set in WhatsApp. */
  notifyName?: string;
  body?: string;
  /** For media: the text below it. The body of media is a small preview picture. */
  caption?: string;
  /** For a document: whether a person wrote the caption. Otherwise the caption is the name of the file. */
  isCaptionByUser?: boolean;
  /** For media: where WhatsApp stores it. */
  directPath?: string;
  mimetype?: string;
  size?: number;
  filename?: string;
  quotedStanzaID?: string;
  mentionedJidList?: PageWidLike[];
  isViewOnce?: boolean;
  isGif?: boolean;
  vcardList?: { vcard: string }[];
  lat?: number;
  lng?: number;
  loc?: string;
  pollName?: string;
  pollOptions?: PollModel['pollOptions'];
  pollSelectableOptionsCount?: number;
  /** For a notice about a group: what was done. */
  subtype?: string;
  recipients?: PageWidLike[];
  isNotification?: boolean;
  latestEditSenderTimestampMs?: number;
  /** For an edited message: the key of its last edit. */
  latestEditMsgKey?: object | null;
  /** For a revoked message: the key that it had before. Older pages do not set it. */
  protocolMessageKey?: { id: string };
  revokeTimestamp?: number;
  hasReaction?: boolean;
  /** A story inside a group: the chat of its key is the group. */
  isGroupStatus?: boolean;
  /** A story of a channel. */
  isNewsletterStatus?: boolean;
  /** For the line about a call: how it ended, as WAWebCallLogMsgData names it. */
  callOutcome?: string;
  isVideoCall?: boolean;
  isGroupCall?: boolean;
}

/** A chat as the page holds it. */
export interface PageChat {
  id: PageWid;
  formattedTitle?: string;
  name?: string;
  /** Seconds since 1970. */
  t?: number;
  unreadCount?: number;
  archive?: boolean;
  /** For a group: the account is not a member. */
  isReadOnly?: boolean;
  pin?: number;
  mute?: { expiration?: number };
  groupMetadata?: PageGroupMetadata;
  /** Of a channel. */
  newsletterMetadata?: { membershipType?: string };
  msgs?: { getModelsArray(): PageModel[] };
  lastReceivedKey?: object | null;
  /** What the other side does now, after a subscription. */
  presence?: {
    hasData?: boolean;
    chatstate?: PageChatState;
    /** In a group: of each member. */
    chatstates?: { getModelsArray(): (PageChatState & { id: PageWidLike })[] };
    subscribe?(): Promise<unknown>;
  };
}

interface PageChatState {
  type?: string;
  /** Seconds since 1970. */
  t?: number;
  /** The person does not show when it was online last. */
  deny?: boolean;
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

/** A reaction as the library passes it to its listener. */
interface PageReaction {
  id: { fromMe: boolean };
  reactionParentKey: { id: string };
  reactionText: string;
  reactionTimestamp: number;
  senderUserJid: string;
}

/** A vote in a poll, as the library passes it to its listener. */
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
  onAddMessageCiphertextEvent: () => void;
  /** The page has had a message for 15 s without being able to decrypt it. */
  onCiphertextFailedEvent: (message: PageModel) => void;
  onChangeMessageEvent: () => void;
  onChangeMessageTypeEvent: (message: PageModel) => void;
  onEditMessageEvent: (message: PageModel, text: string) => void;
  onReaction: (reactions: PageReaction[]) => void;
  onPollVoteEvent: (votes: PageVote[]) => void;
  onIncomingCall: (call: PageCallModel) => void;
  onChatUnreadCountEvent: () => void;
  /** The binding that passes a batch of {@link PageEvent}s to the instance, as JSON. */
  flotillaEmit: (events: string) => void;
  flotilla?: PageFlotilla;
}

/** What the functions of this folder share inside the page: `window.flotilla`. */
export interface PageFlotilla {
  /** The key of a message from this account, exactly as the library's sendMessage makes it. */
  keyOf(chat: PageChat, id: string): { _serialized: string };
  /** The text of the key of an own story under the own hidden number. Null if the chat is another one. */
  storyKeyOf(chat: PageChat, id: string): string | null;
  /** The other chat id of a person, who has a phone number and a hidden number (LID). Null if the page does not know it. */
  aliasOf(chatId: string): string | null;
  personOf(chatId: string): PagePerson;
  /** A person as the address book and the list of contacts have them; undefined if the page has no such contact. */
  contactOf?(chatId: string): PageContactItem | undefined;
  /** All chat ids of a person that the page knows: first the given id. */
  idsOf?(chatId: string): string[];
  /**
   * Finds out whether a message to this chat id can be sent, and asks WhatsApp about the number of a stranger.
   * @param always asks even if the page knows the id
   */
  reach?(chatId: string, numberCheck: NumberCheck, always: boolean): Promise<PageReach>;
  /** The status of WhatsApp's refusal, 0 if it has no status. Null if the error is not a refusal. */
  refusalOf(error: unknown): number | null;
  find(key: string, searchStorage: boolean): Promise<PageModel | undefined>;
  /** A message of this account, under its key or any other key with its id: its chat may have changed its own id. */
  findOwn(chat: PageChat, whatsappId: string, searchStorage: boolean): Promise<PageModel | undefined>;
  /** The rows of a message of this account in the page's database. They stay true if the model in memory is wrong. */
  rowsOf(chat: PageChat, whatsappId: string): Promise<{ key: string; ack: number }[]>;
  /** A module that not every build has. */
  optional<Name extends keyof PageModules>(name: Name): PageModules[Name] | undefined;
  /** By the text of its old key: the text of the present key of a message, which changes when the message is revoked. */
  rekeyed: Map<string, string>;
  /** By chat: the timer that watches its presence. */
  watches?: Map<string, ReturnType<typeof setInterval>>;
  /** The WhatsApp ids of the latest messages that Flotilla sends in this page. */
  sentIds: Set<string>;
  /** Whether the account's owner may have written the message elsewhere. A page that was reloaded no longer knows what it has sent. */
  isFromElsewhere(message: PageModel): boolean;
  /** Null for a message in a chat. */
  sourceOf(message: PageModel): PageSource | null;
  /** Whether the account is in a group. WhatsApp Web may keep the old members of a group that the account has left. */
  isMember(group: PageChat): boolean;
  /**
   * Reads items, at most `max`. An item that cannot be read is left out and reported, so that the others are not lost with it.
   * @throws if no item can be read
   */
  each<Item, Result>(
    what: string,
    items: Iterable<Item>,
    read: (item: Item) => Result,
    max?: number,
  ): Result[];
  /** The same for items that are read one after another, because the page or its database has to answer for each. */
  eachInTurn<Item, Result>(
    what: string,
    items: Iterable<Item>,
    read: (item: Item) => Promise<Result>,
  ): Promise<Result[]>;
  /** WhatsApp's types of notices, which no person wrote. */
  notices?: Set<string>;
  locate(target: MessageTarget): Promise<{ chat: PageChat; message: PageModel } | null>;
  previewOf(text: string): Promise<object>;
  /** The text of a message; for media, the caption that a person wrote. */
  textOf(message: PageModel): string;
  revocationOf(message: PageModel): PageChange;
  noticeOf(message: PageModel): PageGroupNotice;
  /** The names of the chosen options of a poll. */
  optionsOf(poll: PollModel, localIds: ArrayLike<number>): string[];
  /** Files that the page received for messages to send, by WhatsApp id. */
  files: Map<string, PageFileInput>;
  /** Downloaded media, which the instance reads in pieces, by WhatsApp id. */
  fetched: Map<string, Blob>;
  send?(send: PageSend): Promise<PageSendResult>;
  /** Sends a story or a post in a channel. */
  sendPost?(send: PageSend): Promise<PageSendResult>;
  /** The arguments for the library's sendMessage: the text and the options. */
  argumentsOf?(send: PageSend): Promise<[string, Record<string, unknown>]>;
  /** Shows the recipient an indicator for a time, in milliseconds. */
  showTyping?(chat: PageChat, ms: number, state: 'typing' | 'recording'): Promise<void>;
  messageOf?(model: PageModel): PageMessage;
  calls?: {
    /** The calls that the page holds. */
    held(): PageCallModel[];
    /** Null for a call that the account makes. @param isNew the page has just told it */
    ringing(call: PageCallModel, isNew: boolean): PageCall | null;
    /** Null if the message is no line about a missed call to the account. */
    missed(message: PageModel): PageCall | null;
  };
  /** The ids of the calls that Flotilla has rejected in this page. */
  rejectedCalls?: Set<string>;
}

/** An `<input type="file">` that receives a file from the browser. */
export interface PageFileInput {
  files: ArrayLike<Blob> | null;
}

/** What the page reports to the instance. */
export type PageEvent =
  | { kind: 'ack'; whatsappId: string; ack: number }
  | { kind: 'message'; message: PageMessage }
  | { kind: 'warning'; text: string }
  | ({ kind: 'presence' } & PagePresence)
  | ({ kind: 'call' } & PageCall)
  | PageChange
  | PageGroupNotice;

declare const window: PageWindow;

/** Makes `window.flotilla`, once per page load, after the library has attached its listeners. */
export function installFlotilla(): void {
  if (window.flotilla) return;
  const { Msg } = window.require('WAWebCollections');

  /** @throws the first failure, if nothing could be read */
  const reportUnread = (what: string, failures: unknown[], isAll: boolean): void => {
    if (failures.length === 0) return;
    if (isAll) throw failures[0];
    const text = `${failures.length} of the ${what} could not be read: ${String(failures[0])}`;
    window.flotillaEmit(JSON.stringify([{ kind: 'warning', text }]));
  };

  const flotilla: PageFlotilla = {
    files: new Map(),
    fetched: new Map(),
    refusalOf: (error) => {
      const { name, status, statusCode } = error as Record<string, unknown>;
      return name === 'ServerStatusCodeError' ? Number(status ?? statusCode) || 0 : null;
    },
    // Adds what the library's own link preview adds, but with a timeout, so that a slow site delays a message only briefly.
    previewOf: async (text) => {
      const link = window.require('WALinkify').findLink(text);
      if (!link) return {};
      const preview = window.require('WAWebLinkPreviewChatAction').getLinkPreview(link);
      const timeout = new Promise<null>((resolve) => setTimeout(() => resolve(null), 3_000));
      const found = await Promise.race([preview, timeout]).catch(() => null);
      return found?.data ? { ...found.data, preview: true, subtype: 'url' } : {};
    },
    optionsOf: ({ pollOptions = [] }, localIds) =>
      Array.from(localIds)
        .map((id) => pollOptions.find(({ localId }) => localId === id)?.name)
        .filter((name) => name !== undefined),
    textOf: ({ body, caption, directPath, type, filename, isCaptionByUser }) => {
      if (!directPath) return body ?? '';
      const isFileName = type === 'document' && !isCaptionByUser && caption === filename;
      return isFileName ? '' : (caption ?? '');
    },
    rekeyed: new Map(),
    sentIds: new Set(),
    isFromElsewhere: (message) => {
      const { id, ack = 0, isSendFailure } = message;
      return (
        id.fromMe &&
        ack >= 0 &&
        isSendFailure !== true &&
        !flotilla.sentIds.has(id.id) &&
        flotilla.sourceOf(message) === null
      );
    },
    sourceOf: ({ id: { remote }, isGroupStatus, isNewsletterStatus }) => {
      const chatId = remote._serialized ?? String(remote);
      if (chatId.endsWith('@newsletter') || isNewsletterStatus === true) return 'channels';
      return chatId.endsWith('@broadcast') || isGroupStatus === true ? 'stories' : null;
    },
    isMember: ({ groupMetadata, isReadOnly }) =>
      groupMetadata?.participants?.iAmMember?.() !== false && isReadOnly !== true,
    each: (what, items, read, max = Infinity) => {
      const results: ReturnType<typeof read>[] = [];
      const failures: unknown[] = [];
      for (const item of items) {
        if (results.length >= max) break;
        try {
          results.push(read(item));
        } catch (error) {
          failures.push(error);
        }
      }
      reportUnread(what, failures, results.length === 0);
      return results;
    },
    eachInTurn: async (what, items, read) => {
      const results: Awaited<ReturnType<typeof read>>[] = [];
      const failures: unknown[] = [];
      for (const item of items) {
        try {
          results.push(await read(item));
        } catch (error) {
          failures.push(error);
        }
      }
      reportUnread(what, failures, results.length === 0);
      return results;
    },
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
      if (/@(broadcast|newsletter)$/.test(chatId)) {
        if (!fromMe) return null;
        // To ask for the chat of stories or of a channel would make one.
        const { WAWebNewsletterCollection: channels } = window.require('WAWebCollections');
        const id = window.require('WAWebWidFactory').createWid(chatId);
        const place = chatId.endsWith('@newsletter') ? channels?.get(chatId) : { id };
        const message = place && (await flotilla.findOwn(place, whatsappId, true));
        return message ? { chat: place, message } : null;
      }
      const chat = await window.WWebJS.getChat(chatId, { getAsModel: false }).catch(() => null);
      if (!chat) return null;
      // The page may know the chat under another id than the message.
      const held = chat.msgs?.getModelsArray().find(({ id }) => id.id === whatsappId && id.fromMe === fromMe);
      if (held) return { chat, message: held };
      if (fromMe) {
        const message = await flotilla.findOwn(chat, whatsappId, true);
        return message ? { chat, message } : null;
      }
      const { createWid } = window.require('WAWebWidFactory');
      const participant = author && createWid(author);
      // A chat that moves to the hidden number of the person keeps the keys of its messages.
      const alias = flotilla.aliasOf(chat.id._serialized);
      for (const remote of alias === null ? [chat.id] : [chat.id, createWid(alias)]) {
        const key = new (window.require('WAWebMsgKey'))({
          fromMe: false,
          remote,
          id: whatsappId,
          ...(participant ? { participant } : {}),
        });
        const message = await flotilla.find(key._serialized, true);
        if (message) return { chat, message };
      }
      return null;
    },
    aliasOf: (chatId) => {
      if (!chatId.endsWith('@c.us') && !chatId.endsWith('@lid')) return null;
      try {
        const wid = window.require('WAWebWidFactory').createWid(chatId);
        const { getCurrentLid, getPhoneNumber } = window.require('WAWebApiContact');
        return (chatId.endsWith('@lid') ? getPhoneNumber(wid) : getCurrentLid(wid))?._serialized ?? null;
      } catch {
        // A message without the other id of its sender is better than no message.
        return null;
      }
    },
    personOf: (chatId) => ({ chatId, alias: flotilla.aliasOf(chatId) }),
    // In a group, and of a story, the key contains the participant too.
    keyOf: (chat, id) => {
      const { getMaybeMeLidUser, getMaybeMePnUser } = window.require('WAWebUserPrefsMeUser');
      const isGroup = typeof chat.id.isGroup === 'function' && chat.id.isGroup();
      const isStatus = typeof chat.id.isStatus === 'function' && chat.id.isStatus();
      const usesLid = isGroup ? chat.groupMetadata?.isLidAddressingMode : chat.id.isLid();
      const from = usesLid ? getMaybeMeLidUser() : getMaybeMePnUser();
      const participant =
        isGroup || isStatus ? window.require('WAWebWidFactory').asUserWidOrThrow(from) : undefined;
      return new (window.require('WAWebMsgKey'))({ from, to: chat.id, id, participant, selfDir: 'out' });
    },
    storyKeyOf: (chat, id) => {
      const { getMaybeMeLidUser } = window.require('WAWebUserPrefsMeUser');
      const participant = getMaybeMeLidUser();
      if (chat.id._serialized !== 'status@broadcast' || !participant) return null;
      const key = new (window.require('WAWebMsgKey'))({ fromMe: true, remote: chat.id, id, participant });
      return key._serialized;
    },
    // A reloaded page has its older messages only in its storage.
    find: async (key, searchStorage) =>
      Msg.get(key) ??
      Msg.get(flotilla.rekeyed.get(key) ?? key) ??
      (searchStorage ? (await Msg.getMessagesById([key]))?.messages?.[0] : undefined),
    findOwn: async (chat, whatsappId, searchStorage) => {
      const known = await flotilla.find(flotilla.keyOf(chat, whatsappId)._serialized, searchStorage);
      const isSought = ({ id }: PageModel) => id.fromMe && id.id === whatsappId;
      const found = known ?? Msg.getModelsArray().find(isSought);
      if (found || !searchStorage) return found;
      const alias = flotilla.aliasOf(chat.id._serialized);
      // The page may have put the own hidden number into the key of a story.
      const lidKey = flotilla.storyKeyOf(chat, whatsappId);
      const other = alias && { ...chat, id: window.require('WAWebWidFactory').createWid(alias) };
      const rows = await flotilla.rowsOf(chat, whatsappId);
      const keys = [
        ...(other ? [flotilla.keyOf(other, whatsappId)._serialized] : []),
        ...(lidKey === null ? [] : [lidKey]),
        ...rows.map(({ key }) => key),
      ];
      return keys.length > 0 ? (await Msg.getMessagesById(keys))?.messages?.[0] : undefined;
    },
    rowsOf: async (chat, whatsappId) => {
      const { createWid } = window.require('WAWebWidFactory');
      const alias = flotilla.aliasOf(chat.id._serialized);
      const ids = [chat.id, ...(alias === null ? [] : [createWid(alias)])];
      const utils = flotilla.optional('WAWebDBMsgUtils');
      if (!utils) return [];
      const rows = await Promise.all(ids.map((id) => utils.getMsgsByMsgIdsAndChatId([whatsappId], id)));
      const found = rows.flat().map(({ id, ack }) => ({ key: String(id), ack: ack ?? 0 }));
      return found.filter(({ key }) => key.startsWith('true_') && key.split('_')[2] === whatsappId);
    },
    optional: (name) => {
      try {
        return window.require(name) ?? undefined;
      } catch {
        return undefined;
      }
    },
  };
  window.flotilla = flotilla;
}

/** The acks of messages that this account sent. The result omits messages that the page does not know. */
export async function acksOf(
  messages: { chatId: string; whatsappId: string }[],
): Promise<{ whatsappId: string; ack: number }[]> {
  const flotilla = window.flotilla!;
  const found = await flotilla.eachInTurn('acks', messages, async ({ chatId, whatsappId }) => {
    const isPost = /@(broadcast|newsletter)$/.test(chatId);
    const chat = isPost
      ? { id: window.require('WAWebWidFactory').createWid(chatId) }
      : await window.WWebJS.getChat(chatId, { getAsModel: false }).catch(() => null);
    const message = chat && (await flotilla.findOwn(chat, whatsappId, true));
    if (!message) return [];
    const ack = message.ack ?? 0;
    // Nobody says that a story or a post was delivered, and that the page gave it up does not say that it did not leave.
    if (flotilla.sourceOf(message) !== null) return ack >= 1 ? [{ whatsappId, ack: 1 }] : [];
    return [{ whatsappId, ack }];
  });
  return found.flat();
}

/**
 * The latest group notices that the page holds, oldest first.
 * @param since seconds since 1970
 */
export function recentNotices(since: number, limit: number): PageGroupNotice[] {
  const { flotilla } = window;
  if (!flotilla) return [];
  const notices = window
    .require('WAWebCollections')
    .Msg.getModelsArray()
    .filter(({ type, t }) => type === 'gp2' && Number(t) >= since)
    .sort((a, b) => Number(a.t) - Number(b.t))
    .slice(-limit);
  return flotilla.each('notices of groups', notices, (model) => flotilla.noticeOf(model));
}
