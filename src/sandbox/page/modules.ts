import type { Actions } from './actions.js';
import type { OutgoingMessage } from './content.js';
import type { Emitter } from './events.js';
import {
  type AddCall,
  type GroupProperty,
  type Groups,
  type NewGroup,
  ServerStatusCodeError,
} from './groups.js';
import {
  addressOf,
  createWid,
  encodeB64,
  lidOfPhone,
  MsgKey,
  phoneOfWid,
  Wid,
  widOfPhone,
  type WidLike,
} from './ids.js';
import type { Link } from './link.js';
import type { Media } from './media.js';
import type { Messages } from './messages.js';
import type { Account, Chat, Collections, Contact, Msg } from './models.js';
import type { Keys } from './store.js';

const LINK = /\bhttps?:\/\/[^\s<>"']+/gi;

/** The parts of the page that the modules use. */
interface ModulesOptions {
  app: {
    account: Account;
    keys: Keys;
    link: Link;
    offlineProgress: number;
    requestPairingCode(phone: string): Promise<string>;
    refreshQr(): Promise<true>;
  };
  socket: Emitter;
  cmd: Emitter;
  conn: Emitter;
  collections: Collections;
  messages: Messages;
  groups: Groups;
  actions: Actions;
  media: Media;
}

export type Modules = ReturnType<typeof createModules>;

/** Everything that whatsapp-web.js asks `window.require` for in the flows that the sandbox has. */
export function createModules({
  app,
  socket,
  cmd,
  conn,
  collections,
  messages,
  groups,
  actions,
  media,
}: ModulesOptions) {
  const pn = () => app.account.me;
  const lid = () => app.account.me && lidOfPhone(app.account.me.user);
  const isMe = (contact: Contact) => Boolean(pn()) && phoneOfWid(contact.id) === pn()!.user;
  const nothing: (...args: unknown[]) => Promise<void> = async () => undefined;
  const chatState = (state: string) => async (wid: Wid) => {
    app.link.send({ t: 'chatstate', to: addressOf(wid), state });
  };

  return {
    // Connection and pairing
    WAWebSocketModel: { Socket: socket },
    WAWebCmd: { Cmd: cmd },
    WAWebConnModel: { Conn: conn },
    WAWebStreamModel: { Stream: { markAvailable() {}, markUnavailable() {}, mode: 'MAIN' } },
    WAWebOfflineHandler: {
      OfflineMessageHandler: { getOfflineDeliveryProgress: () => app.offlineProgress },
    },
    WAWebAltDeviceLinkingApi: {
      setPairingType() {},
      initializeAltDeviceLinking: nothing,
      initializeQRLinking: nothing,
      startAltLinkingFlow: (phone: string) => app.requestPairingCode(phone),
    },
    WAWebLaunchSocketUtils: { refreshQR: () => app.refreshQr() },
    WABase64: { encodeB64 },
    WAWebCompanionRegClientUtils: { DEVICE_PLATFORM: '1' },
    WAWebAdvSignatureApi: {},
    WAWebUserPrefsInfoStore: { waNoiseInfo: { get: async () => ({ staticKeyPair: app.keys.noise }) } },
    WAWebSignalStoreApi: {
      waSignalStore: { getRegistrationInfo: async () => ({ identityKeyPair: app.keys.identity }) },
    },
    WAWebUserPrefsMultiDevice: { getADVSecretKey: () => app.keys.advSecret },
    WAWebUserPrefsMeUser: {
      getMaybeMePnUser: pn,
      getMaybeMeLidUser: lid,
      getMePnUserOrThrow: pn,
      getMaybeMeUser: pn,
    },
    WAWebMiscBrowserUtils: { info: () => ({ os: 'Linux', name: 'Chrome', version: '1' }) },
    WAWebSyncGatingUtils: { isPlaceholderMessageResendEnabled: () => false },
    WAWebUserPrefsGeneral: {
      setAutoDownloadAudio() {},
      setAutoDownloadDocuments() {},
      setAutoDownloadPhotos() {},
      setAutoDownloadVideos() {},
      getAutoDownloadAudio: () => false,
      getAutoDownloadDocuments: () => false,
      getAutoDownloadPhotos: () => false,
      getAutoDownloadVideos: () => false,
    },

    // Ids
    WAWebWidFactory: {
      createWid,
      createWidFromWidLike: createWid,
      createUserWidOrThrow: createWid,
      asUserWidOrThrow: createWid,
      isWidlike: (value: Partial<Wid> | undefined) =>
        value instanceof Wid || typeof value?._serialized === 'string',
    },
    WAWebMsgKey: MsgKey,
    WAWebLidMigrationUtils: {
      toPn: (wid: Wid) => {
        if (!wid.isLid()) return wid;
        return messages.isKnown(phoneOfWid(wid)) ? widOfPhone(phoneOfWid(wid)) : undefined;
      },
      toLid: (wid: Wid) => (wid.isLid() ? wid : lidOfPhone(wid.user)),
    },
    WAWebApiContact: {
      getCurrentLid: (wid: Wid) => (messages.isKnown(wid.user) ? lidOfPhone(wid.user) : undefined),
      getPhoneNumber: (wid: Wid) => {
        const phone = phoneOfWid(wid);
        return messages.isKnown(phone) ? widOfPhone(phone) : undefined;
      },
      getAlternateUserWid: (wid: Wid) => {
        if (!wid.isUser()) return undefined;
        if (!wid.isLid()) return lidOfPhone(wid.user);
        return messages.isKnown(phoneOfWid(wid)) ? widOfPhone(phoneOfWid(wid)) : undefined;
      },
    },
    WAWebPhoneUtils: { formattedPhoneNumber: (id: unknown) => `+${String(id).split('@')[0]}` },
    WAWebBackendErrors: { ServerStatusCodeError },
    WAWebQueryExistsJob: {
      queryWidExists: async (wid: Wid) => {
        const asked = phoneOfWid(wid);
        const found = wid.isUser() ? await messages.ask(asked, wid.isLid()) : null;
        if (!found) return null;
        const { phone = asked, isBusiness } = found;
        return { wid: phone === asked ? wid : widOfPhone(phone), biz: Boolean(isBusiness) };
      },
    },

    // Chats, contacts, messages
    WAWebCollections: collections,
    WAWebFindChatAction: {
      findOrCreateLatestChat: (wid: WidLike) => messages.findOrCreateChat(createWid(wid)),
    },
    WAWebChatGetters: {
      getIsNewsletter: (chat: Chat) => chat.id.isNewsletter(),
      getIsBroadcast: (chat: Chat) => chat.id.isBroadcast(),
      getIsGroup: (chat: Chat) => chat.id.isGroup(),
      getIsUser: (chat: Chat) => chat.id.isUser(),
    },
    WAWebUpdateUnreadChatAction: { sendSeen: ({ chat }: { chat: Chat }) => messages.sendSeen(chat) },
    WAWebChatLoadMessages: { loadEarlierMsgs: ({ chat }: { chat: Chat }) => messages.loadEarlier(chat) },
    WAWebChatStateBridge: {
      sendChatStateComposing: chatState('composing'),
      sendChatStateRecording: chatState('recording'),
      sendChatStatePaused: chatState('paused'),
    },
    WAWebPresenceChatAction: { sendPresenceAvailable: nothing, sendPresenceUnavailable: nothing },
    WAWebContactGetters: {
      getIsMe: isMe,
      getIsUser: (contact: Contact) => contact.id.isUser(),
      getIsGroup: (contact: Contact) => contact.id.isGroup(),
      getIsWAContact: (contact: Contact) => contact.id.isUser(),
      getUserid: (contact: Contact) => phoneOfWid(contact.id),
      getVerifiedName: () => undefined,
      getVerifiedLevel: () => undefined,
      getStatusMute: () => false,
      getName: (contact: Contact) => contact.name,
      getShortName: (contact: Contact) => contact.name?.split(' ')[0],
      getPushname: (contact: Contact) => contact.pushname,
      getIsEnterprise: () => false,
    },
    WAWebFrontendContactGetters: { getIsMyContact: (contact: Contact) => contact.isAddressBookContact === 1 },
    WAWebContactProfilePicThumbBridge: {
      requestProfilePicFromServer: ({ id }: { id: WidLike }) =>
        app.link.ask('picture', { of: addressOf(createWid(id)) }),
    },
    WAWebMsgReply: { canReplyMsg: () => true },
    WAWebQuotedMsgModelUtils: {
      getQuotedMsgObj: (msg: Msg) =>
        collections.Msg.getModelsArray().find((other) => other.id.id === msg.quotedStanzaID),
    },
    WAWebGetEphemeralFieldsMsgActionsUtils: { getEphemeralFields: () => ({}) },
    WAWebSendMsgChatAction: {
      addAndSendMsgToChat: (chat: Chat, message: OutgoingMessage) => messages.addAndSend(chat, message),
    },
    WALinkify: { findLink: (text: string | undefined) => findLinks(text)[0], findLinks },
    WAWebLinkPreviewChatAction: { getLinkPreview: async () => ({}) },
    WAWebMsgActionCapability: {
      canSenderRevokeMsg: (msg: Msg) => actions.canRevoke(msg),
      canAdminRevokeMsg: () => false,
      canEditText: (msg: Msg) => actions.canEdit(msg),
      canEditCaption: (msg: Msg) => actions.canEditCaption(msg),
    },
    WAWebSendMessageEditAction: { sendMessageEdit: (msg: Msg, text: string) => actions.edit(msg, text) },
    WAWebPollsVotesSchema: {
      getTable: () => ({ equals: (_index: unknown, key: string) => actions.votesOf(key) }),
    },
    ...media.modules,
    WAWebSendReactionMsgAction: { sendReactionToMsg: (msg: Msg, emoji: string) => actions.react(msg, emoji) },

    // Groups
    WAWebGroupCreateJob: {
      createGroup: (settings: NewGroup, participants: { phoneNumber: Wid }[]) =>
        groups.create(settings, participants),
    },
    WAWebGroupQueryJob: {
      queryAndUpdateGroupMetadataById: ({ id }: { id: WidLike }) => groups.query(id),
      queryGroupInvite: (code: string) => groups.join(code, 'look'),
      resetGroupInviteCode: (wid: WidLike) => groups.invite(wid, 'reset-invite'),
    },
    WAWebMexFetchGroupInviteCodeJob: {
      fetchMexGroupInviteCode: (id: WidLike) => groups.invite(id, 'invite'),
    },
    WAWebGroupInviteJob: { joinGroupViaInvite: (code: string) => groups.join(code) },
    WAWebExitGroupAction: { sendExitGroup: (chat: Chat) => groups.leave(chat) },
    WAWebGroupModifyInfoJob: {
      setGroupSubject: (wid: Wid, subject: string) => groups.set(wid, { subject }),
      setGroupDescription: (wid: Wid, description: string) => groups.set(wid, { description }),
    },
    WAWebSetPropertyGroupAction: {
      setGroupProperty: (chat: Chat, property: GroupProperty, value: number) =>
        groups.setProperty(chat, property, value),
    },
    WAWebModifyParticipantsGroupAction: {
      removeParticipants: (chat: Chat, participants: { id: Wid }[]) =>
        groups.change('remove', chat, participants),
      promoteParticipants: (chat: Chat, participants: { id: Wid }[]) =>
        groups.change('promote', chat, participants),
      demoteParticipants: (chat: Chat, participants: { id: Wid }[]) =>
        groups.change('demote', chat, participants),
    },
    WASmaxGroupsAddParticipantsRPC: { sendAddParticipantsRPC: (call: AddCall) => groups.add(call) },
    WAWebWidToJid: { widToGroupJid: (wid: Wid) => wid.toJid(), widToUserJid: (wid: Wid) => wid.toJid() },

    // Places where whatsapp-web.js hooks itself in
    WAWebCallCollection: { calls: new Map(), on() {} },
    WAWebAddonReactionTableMode: { reactionTableMode: { bulkUpsert: nothing } },
    WAWebAddonPollVoteTableMode: { pollVoteTableMode: { bulkUpsert: nothing } },
    WAWebBackendJobsCommon: { mediaTypeFromProtobuf: () => null },
    WAWebE2EProtoUtils: { typeAttributeFromProtobuf: () => 'text' },
    WAWebNonMessageDataRequestPlaceholderMessageResendUtils: { handlePlaceholderMsgsSeen: nothing },
  };
}

function findLinks(text: string | undefined): { href: string; value: string }[] {
  // A quick check first: most messages have no link, and whatsapp-web.js looks at each several times.
  if (!text?.includes('://')) return [];
  return Array.from(text.matchAll(LINK), ([href]) => ({ href, value: href }));
}
