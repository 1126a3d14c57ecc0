import type { PageChat, PageModel } from './page-functions.js';

/*
 * The parts of WhatsApp Web's own modules and of the injected library that the functions of this folder use. Neither has
 * types. `unknown` stands where the functions check or convert a value themselves.
 */

/** WhatsApp Web's object for the id of a person or a chat. */
export interface PageWid {
  _serialized: string;
  user: string;
  server: string;
  isLid(): boolean;
  isUser(): boolean;
  isGroup?(): boolean;
  isStatus?(): boolean;
}

/** An id as a {@link PageWid} or as plain text, which has no `_serialized`. */
export interface PageWidLike {
  _serialized?: string;
}

/** A collection of WhatsApp Web: what the page holds in memory. */
interface PageCollection<Model> {
  get(id: PageWid | string): Model | undefined;
  getModelsArray(): Model[];
}

/** A call as the page holds it, or as the library reports it. */
export interface PageCallModel {
  id?: unknown;
  /** The caller. */
  peerJid?: PageWidLike;
  groupJid?: PageWidLike;
  isVideo?: boolean;
  isGroup?: boolean;
  outgoing?: boolean;
  /** Seconds since 1970. */
  offerTime?: number;
}

interface PageMessageCollection extends PageCollection<PageModel> {
  on(event: 'add' | 'change:callOutcome', listener: (message: PageModel) => void): void;
  on(
    event: 'change:msgKey',
    listener: (keys: { newKey: PageModel['id']; oldKey: PageModel['id'] }) => void,
  ): void;
  /** Looks in the storage too. */
  getMessagesById(keys: string[]): Promise<{ messages?: PageModel[] } | undefined>;
}

export interface PageContact {
  id: PageWid;
  phoneNumber?: PageWid;
  isBusiness?: boolean;
  isContactBlocked?: boolean;
}

interface PageReactionSender {
  msgKey: { fromMe: boolean };
  senderUserJid: string;
  reactionText?: string;
  /** Milliseconds since 1970. */
  timestamp: number;
}

interface PageReactions {
  reactions: { serialize(): { senders: PageReactionSender[] }[] };
}

/** A vote in WhatsApp Web's table of votes. */
interface PageVoteRow {
  sender: string | PageWid;
  selectedOptionLocalIds: ArrayLike<number>;
  senderTimestampMs: number;
}

interface PageMessageKey {
  fromMe?: boolean;
  from?: PageWid | undefined;
  to?: PageWid;
  remote?: PageWid;
  id: string;
  participant?: PageWid | undefined;
  selfDir?: 'out';
}

type PageMadeKey = Pick<PageMessageKey, 'fromMe' | 'remote' | 'participant'> & { _serialized: string };

interface PageStoryText {
  text: string;
  color: number;
  font: number;
  /** Ours: the id that the story gets. */
  flotillaId?: string;
}

interface PageStoryResult {
  messageSendResult?: unknown;
}

interface PageGroupSettings {
  addressingModeOverride: 'lid';
  memberAddMode: boolean;
  membershipApprovalMode: boolean;
  announce: boolean;
  restrict: boolean;
  ephemeralDuration: number;
  parentGroupId: undefined;
  title: string;
}

export interface PageNewGroup {
  wid: PageWid;
  participants: { wid: PageWid; error?: string | number; type?: string }[];
}

/** By the names that `window.require` takes. */
export interface PageModules {
  WADeprecatedSendIq: { deprecatedCastStanza?(stanza: object): Promise<unknown> };
  WALinkify: { findLink(text: string): object | null | undefined };
  WAWap: { wap?(tag: string, attributes: object, children?: object[]): object };
  WAWebBackendEventBus: { BackendEventBus: { triggerRefreshQR?(): void } };
  WAWebApiContact: {
    getCurrentLid(wid: PageWid): PageWid | undefined;
    getPhoneNumber(wid: PageWid): PageWid | undefined;
  };
  /** It keeps the calls in a Map, under a name that differs. */
  WAWebCallCollection: object;
  'WAWebCallLogMsgData.flow': { CallOutcome?: { Missed?: string } };
  WAWebChatLoadMessages: { loadEarlierMsgs(options: { chat: PageChat }): Promise<PageModel[] | undefined> };
  WAWebCmd: {
    Cmd: {
      /** Not in builds since July 2026. */
      refreshQR?(): void;
      sendRevokeMsgs(
        chat: PageChat,
        messages: { list: PageModel[]; type: 'message' },
        options: { clearMedia: boolean },
      ): Promise<unknown>;
    };
  };
  WAWebCollections: {
    Blocklist: PageCollection<object>;
    Chat: PageCollection<PageChat>;
    Contact: PageCollection<PageContact>;
    Msg: PageMessageCollection;
    Reactions: { find(key: string): Promise<PageReactions | null | undefined> };
    Status?: { getMyStatus?(): object | undefined };
    WAWebNewsletterCollection?: PageCollection<PageChat>;
  };
  WAWebContactGetters: {
    getIsMe(contact: PageContact): boolean;
    getName(contact: PageContact): string | null | undefined;
    getPushname(contact: PageContact): string | null | undefined;
  };
  WAWebContactProfilePicThumbBridge: {
    requestProfilePicFromServer(of: PageChat | { id: PageWid }): Promise<{ eurl?: string } | null>;
  };
  /** Rows of the database, in both directions, whose keys begin with one of the ids. */
  WAWebDBMsgUtils: {
    getMsgsByMsgIdsAndChatId(ids: string[], chat: PageWid): Promise<{ id: string | object; ack?: number }[]>;
  };
  WAWebDownloadManager: {
    downloadManager: { downloadAndMaybeDecrypt(options: object): Promise<ArrayBuffer> };
  };
  WAWebFrontendContactGetters: { getIsMyContact(contact: PageContact): unknown };
  WAWebGroupCreateJob: {
    createGroup(settings: PageGroupSettings, participants: { phoneNumber: PageWid }[]): Promise<PageNewGroup>;
  };
  WAWebGroupInviteJob: { joinGroupViaInvite(code: string): Promise<{ gid: PageWid }> };
  WAWebGroupQueryJob: { queryAndUpdateGroupMetadataById(group: { id: string }): Promise<unknown> };
  WAWebLaunchSocketUtils: { refreshQR?(): void };
  WAWebLinkPreviewChatAction: { getLinkPreview(link: object): Promise<{ data?: object } | null> };
  WAWebMexFetchGroupInviteCodeJob: {
    fetchMexGroupInviteCode(groupId: string): Promise<string | { code?: string } | null>;
  };
  WAWebMmsMediaTypes: { castToV4(type: string): unknown };
  WAWebMsgActionCapability: {
    canEditText(message: PageModel): boolean;
    canEditCaption(message: PageModel): boolean;
    canSenderRevokeMsg(message: PageModel): boolean;
    canAdminRevokeMsg(message: PageModel): boolean;
  };
  WAWebMsgKey: {
    new (key: PageMessageKey): PageMadeKey;
    prototype: object;
  };
  WAWebNewsletterSendMessageJob: {
    sendNewsletterMessageJob?(call: object): Promise<{ success?: boolean } | undefined>;
  };
  WAWebOfflineHandler: {
    OfflineMessageHandler: {
      /** Whether the page has taken in what came while it was away. Throws before the server has said how much that is. */
      isResumeComplete?(): boolean;
    };
  };
  WAWebPollsVotesSchema: {
    getTable(): { equals(index: ['parentMsgKey'], key: string): Promise<PageVoteRow[]> };
  };
  WAWebQueryExistsJob: { queryWidExists(wid: PageWid): Promise<{ wid?: PageWid } | null | undefined> };
  /** Older builds have the method `resend` of a message instead. */
  WAWebResendMsgAction: { resendMsg(message: PageModel): Promise<unknown> };
  WAWebSendMsgChatAction: {
    addAndSendMsgToChat(chat: PageChat, message: { __x_id?: unknown }, ...more: unknown[]): unknown;
    resendMsgToChat?(chat: PageChat, message: Promise<PageModel>): Promise<unknown>;
    /** Set by page-shims.ts. */
    isMendedByFlotilla?: true;
  };
  WAWebRevokeStatusAction: {
    sendStatusRevokeMsgAction?(status: object, message: PageModel): Promise<unknown>;
  };
  WAWebSendReactionMsgAction: { sendReactionToMsg(message: PageModel, emoji: string): Promise<unknown> };
  WAWebSendStatusMsgAction: {
    sendStatusTextMsgAction?(options: PageStoryText): Promise<PageStoryResult | undefined>;
    sendStatusMediaMsgAction?(message: PageModel, ...more: unknown[]): Promise<PageStoryResult | undefined>;
  };
  WAWebSocketModel: {
    Socket: { state: string; hasSynced?: boolean; reconnect(): void };
  };
  WAWebStatusMsgDataUtils: {
    createTextStatusMsgData?(
      options: PageStoryText,
      ...more: unknown[]
    ): Promise<{ id: PageMadeKey } | undefined>;
  };
  /** Shows others that the account is online, or no longer. */
  WAWebStreamModel: { Stream: { markAvailable(): void; markUnavailable(): void } };
  WAWebUnpairDeviceJob: { unpairDevice(reason: string): Promise<{ status: number }> };
  WAWebUserPrefsMeUser: {
    getMaybeMeLidUser(): PageWid | undefined;
    getMaybeMePnUser(): PageWid | undefined;
  };
  WAWebWidFactory: { createWid(id: string): PageWid; asUserWidOrThrow(wid: PageWid | undefined): PageWid };
}

/** The library in the page: `window.WWebJS` of whatsapp-web.js. */
export interface PageLibrary {
  /** @throws when there is no such chat */
  getChat(chatId: string, options: { getAsModel: false }): Promise<PageChat | undefined>;
  sendMessage(chat: PageChat, text: string, options: object): Promise<unknown>;
  editMessage(message: PageModel, text: string, options: object): Promise<unknown>;
  rejectCall(peer: string, callId: string): Promise<unknown>;
  sendSeen(chatId: string): Promise<boolean>;
  sendChatstate(state: string, chatId: string): Promise<unknown>;
  toStickerData(media: object): Promise<object>;
  mediaInfoToFile(media: { file?: object }): object;
  processMediaData(
    media: object,
    options: { sendToChannel?: boolean; sendToStatus?: boolean },
  ): Promise<{ __x_id?: unknown }>;
}
