import type { Actions } from './actions.js';
import { addressBookModules } from './address-book.js';
import type { Calls } from './calls.js';
import { cardModules } from './cards.js';
import type { Channels } from './channels.js';
import type { OutgoingMessage } from './content.js';
import type { Emitter } from './events.js';
import { forwardingModules } from './forwarding.js';
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
import type { Invites } from './invites.js';
import type { Link } from './link.js';
import type { Marks } from './marks.js';
import type { Media } from './media.js';
import type { Messages } from './messages.js';
import type { Account, Chat, Collections, Contact, Msg } from './models.js';
import { joinRequestModules } from './join-requests.js';
import { findCC, formattedPhoneNumber } from './numbers.js';
import { pictureModules } from './pictures.js';
import { pinModules } from './pins.js';
import type { Profile } from './profile.js';
import { scheduledEventModules } from './scheduled-events.js';
import { screenModules } from './screen.js';
import { storyModules } from './stories.js';
import { DuplicateMessageError, type Keys, type Store } from './store.js';

const LINK = /\bhttps?:\/\/[^\s<>"']+/gi;

/** The parts of the page that the modules use. */
interface ModulesOptions {
  app: {
    account: Account;
    keys: Keys;
    link: Link;
    offlineProgress: number;
    requestPairingCode(phone: string): Promise<string>;
    refreshQr(): void;
    unpair(): Promise<{ status: number }>;
  };
  socket: Emitter;
  cmd: Emitter;
  conn: Emitter;
  collections: Collections;
  messages: Messages;
  groups: Groups;
  channels: Channels;
  actions: Actions;
  media: Media;
  marks: Marks;
  profile: Profile;
  invites: Invites;
  calls: Calls;
  store: Store;
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
  channels,
  actions,
  media,
  marks,
  profile,
  invites,
  calls,
  store,
}: ModulesOptions) {
  const pn = () => app.account.me;
  const lid = () => app.account.me && lidOfPhone(app.account.me.user);
  const isMe = (contact: Contact) => Boolean(pn()) && phoneOfWid(contact.id) === pn()!.user;
  const nothing: (...args: unknown[]) => Promise<void> = async () => undefined;
  const parts = { link: app.link, account: app.account, collections };
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
      OfflineMessageHandler: {
        getOfflineDeliveryProgress: () => app.offlineProgress,
        isResumeComplete: () => app.offlineProgress === 100,
      },
    },
    WAWebAltDeviceLinkingApi: {
      setPairingType() {},
      initializeAltDeviceLinking: nothing,
      initializeQRLinking: nothing,
      startAltLinkingFlow: (phone: string) => app.requestPairingCode(phone),
    },
    WAWebLaunchSocketUtils: { refreshQR: () => app.refreshQr() },
    WAWebUnpairDeviceJob: { unpairDevice: (_reason: string) => app.unpair() },
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
    WAWebPhoneUtils: { formattedPhoneNumber },
    WAWebBackendErrors: { ServerStatusCodeError },
    WAPhoneFindCC: { findCC },
    ...cardModules,
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
      // A hidden number stays hidden.
      getUserid: ({ id, phoneNumber }: Contact) => (phoneNumber ?? id).user,
      getVerifiedName: ({ isBusiness, pushname }: Contact) => (isBusiness ? pushname : undefined),
      getVerifiedLevel: ({ isBusiness }: Contact) => (isBusiness ? 'low' : undefined),
      getStatusMute: () => false,
      getName: (contact: Contact) => contact.name,
      getShortName: (contact: Contact) => contact.name?.split(' ')[0],
      getPushname: (contact: Contact) => contact.pushname,
      getIsEnterprise: () => false,
    },
    WAWebFrontendContactGetters: { getIsMyContact: (contact: Contact) => contact.isAddressBookContact === 1 },
    WAWebMsgReply: { canReplyMsg: () => true },
    WAWebQuotedMsgModelUtils: {
      getQuotedMsgObj: (msg: Msg) => messages.quotedBy(msg),
    },
    WAWebGetEphemeralFieldsMsgActionsUtils: { getEphemeralFields: () => ({}) },
    WAWebSendMsgChatAction: {
      addAndSendMsgToChat: (_chat: Chat, message: OutgoingMessage) => messages.addAndSend(message),
      resendMsgToChat: (_chat: Chat, message: Promise<Msg>) => messages.resendToChat(message),
    },
    WAWebSendMsgRecordAction: { sendMsgRecord: (msg: Msg) => messages.sendRecord(msg) },
    WAWebResendMsgAction: { resendMsg: (msg: Msg) => messages.resend(msg) },
    WAWebDBProcessMessage: { DuplicateMessageError },
    WAWebDBMsgUtils: {
      getMsgsByMsgIdsAndChatId: (ids: string[], chat: Wid) => messages.rowsOf(ids, chat),
    },
    WALinkify: { findLink: (text: string | undefined) => findLinks(text)[0], findLinks },
    WAWebLinkPreviewChatAction: { getLinkPreview: async (link: FoundLink) => ({ data: previewOf(link) }) },
    WAWebMsgActionCapability: {
      canStarMsg: (msg: Msg) => marks.canStar(msg),
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
    ...marks.modules,
    ...profile.modules,
    ...invites.modules,
    ...calls.modules,
    WAWebSendReactionMsgAction: { sendReactionToMsg: (msg: Msg, emoji: string) => actions.react(msg, emoji) },

    // Groups
    WAWebGroupCreateJob: {
      createGroup: (settings: NewGroup, participants: { phoneNumber: Wid }[]) =>
        groups.create(settings, participants),
    },
    WAWebGroupQueryJob: {
      queryAndUpdateGroupMetadataById: ({ id }: { id: WidLike }) => groups.query(id),
      queryGroupInvite: (code: string) => groups.look(code),
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

    // Each of these files has the modules of one subject
    ...joinRequestModules(groups),
    ...pinModules(store, actions),
    ...scheduledEventModules(app.link, actions),
    ...forwardingModules(app.account, messages, actions),
    ...pictureModules(parts),
    ...addressBookModules(parts),
    ...screenModules(collections, cmd),
    ...channels.modules,
    ...storyModules({ ...parts, store, revoke: (msg) => actions.revoke(msg) }),

    // Places where whatsapp-web.js hooks itself in
    WAWebAddonReactionTableMode: { reactionTableMode: { bulkUpsert: nothing } },
    WAWebAddonPollVoteTableMode: { pollVoteTableMode: { bulkUpsert: nothing } },
    WAWebBackendJobsCommon: { mediaTypeFromProtobuf: () => null },
    WAWebE2EProtoUtils: { typeAttributeFromProtobuf: () => 'text' },
    WAWebNonMessageDataRequestPlaceholderMessageResendUtils: { handlePlaceholderMsgsSeen: nothing },
  };
}

interface FoundLink {
  href: string;
  value: string;
}

/** What WhatsApp's server tells about a page. The sandbox asks no page: the title is the host. */
function previewOf({ href, value }: FoundLink): object {
  return { title: new URL(href).host, description: '', canonicalUrl: href, matchedText: value };
}

function findLinks(text: string | undefined): FoundLink[] {
  // A quick check first: most messages have no link, and whatsapp-web.js looks at each several times.
  if (!text?.includes('://')) return [];
  return Array.from(text.matchAll(LINK), ([href]) => ({ href, value: href }));
}
