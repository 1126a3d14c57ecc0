import { addressOf, createWid, encodeB64, lidOfPhone, MsgKey, phoneOfWid, Wid, widOfPhone } from './ids.js';

const LINK = /\bhttps?:\/\/[^\s<>"']+/gi;

/** Everything that whatsapp-web.js asks `window.require` for in the flows that the sandbox has. */
export function createModules({ app, socket, cmd, conn, collections, messages, groups, actions, media }) {
  const pn = () => app.account.me;
  const lid = () => app.account.me && lidOfPhone(app.account.me.user);
  const isMe = (contact) => Boolean(pn()) && phoneOfWid(contact.id) === pn().user;
  const nothing = async () => undefined;
  const chatState = (state) => async (wid) => {
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
      startAltLinkingFlow: (phone) => app.requestPairingCode(phone),
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
      isWidlike: (value) => value instanceof Wid || typeof value?._serialized === 'string',
    },
    WAWebMsgKey: MsgKey,
    WAWebLidMigrationUtils: {
      toPn: (wid) => {
        if (!wid.isLid()) return wid;
        return messages.isKnown(phoneOfWid(wid)) ? widOfPhone(phoneOfWid(wid)) : undefined;
      },
      toLid: (wid) => (wid.isLid() ? wid : lidOfPhone(wid.user)),
    },
    WAWebApiContact: {
      getCurrentLid: (wid) => (messages.isKnown(wid.user) ? lidOfPhone(wid.user) : undefined),
      getPhoneNumber: (wid) => {
        const phone = phoneOfWid(wid);
        return messages.isKnown(phone) ? widOfPhone(phone) : undefined;
      },
      getAlternateUserWid: (wid) => {
        if (!wid.isUser()) return undefined;
        if (!wid.isLid()) return lidOfPhone(wid.user);
        return messages.isKnown(phoneOfWid(wid)) ? widOfPhone(phoneOfWid(wid)) : undefined;
      },
    },
    WAWebPhoneUtils: { formattedPhoneNumber: (id) => `+${String(id).split('@')[0]}` },
    WAWebQueryExistsJob: {
      queryWidExists: async (wid) => {
        const found = wid.isUser() ? await messages.exists(phoneOfWid(wid), wid.isLid()) : null;
        return found ? { wid, biz: Boolean(found.isBusiness) } : null;
      },
    },

    // Chats, contacts, messages
    WAWebCollections: collections,
    WAWebFindChatAction: { findOrCreateLatestChat: (wid) => messages.findOrCreateChat(createWid(wid)) },
    WAWebChatGetters: {
      getIsNewsletter: (chat) => chat.id.isNewsletter(),
      getIsBroadcast: (chat) => chat.id.isBroadcast(),
      getIsGroup: (chat) => chat.id.isGroup(),
      getIsUser: (chat) => chat.id.isUser(),
    },
    WAWebUpdateUnreadChatAction: { sendSeen: ({ chat }) => messages.sendSeen(chat) },
    WAWebChatLoadMessages: { loadEarlierMsgs: ({ chat }) => messages.loadEarlier(chat) },
    WAWebChatStateBridge: {
      sendChatStateComposing: chatState('composing'),
      sendChatStateRecording: chatState('recording'),
      sendChatStatePaused: chatState('paused'),
    },
    WAWebPresenceChatAction: { sendPresenceAvailable: nothing, sendPresenceUnavailable: nothing },
    WAWebContactGetters: {
      getIsMe: isMe,
      getIsUser: (contact) => contact.id.isUser(),
      getIsGroup: (contact) => contact.id.isGroup(),
      getIsWAContact: (contact) => contact.id.isUser(),
      getUserid: (contact) => phoneOfWid(contact.id),
      getVerifiedName: () => undefined,
      getVerifiedLevel: () => undefined,
      getStatusMute: () => false,
      getName: (contact) => contact.name,
      getShortName: (contact) => contact.name?.split(' ')[0],
      getPushname: (contact) => contact.pushname,
      getIsEnterprise: () => false,
    },
    WAWebFrontendContactGetters: { getIsMyContact: (contact) => contact.isAddressBookContact === 1 },
    WAWebContactProfilePicThumbBridge: {
      requestProfilePicFromServer: ({ id }) => app.link.ask('picture', { of: addressOf(createWid(id)) }),
    },
    WAWebMsgReply: { canReplyMsg: () => true },
    WAWebQuotedMsgModelUtils: {
      getQuotedMsgObj: (msg) =>
        collections.Msg.getModelsArray().find((other) => other.id.id === msg.quotedStanzaID),
    },
    WAWebGetEphemeralFieldsMsgActionsUtils: { getEphemeralFields: () => ({}) },
    WAWebSendMsgChatAction: { addAndSendMsgToChat: (chat, message) => messages.addAndSend(chat, message) },
    WALinkify: { findLink: (text) => findLinks(text)[0], findLinks },
    WAWebLinkPreviewChatAction: { getLinkPreview: async () => ({}) },
    WAWebMsgActionCapability: {
      canSenderRevokeMsg: (msg) => actions.canRevoke(msg),
      canAdminRevokeMsg: () => false,
      canEditText: (msg) => actions.canEdit(msg),
      canEditCaption: (msg) => actions.canEditCaption(msg),
    },
    WAWebSendMessageEditAction: { sendMessageEdit: (msg, text) => actions.edit(msg, text) },
    WAWebPollsVotesSchema: {
      getTable: () => ({ equals: (_index, key) => actions.votesOf(key) }),
    },
    ...media.modules,
    WAWebSendReactionMsgAction: { sendReactionToMsg: (msg, emoji) => actions.react(msg, emoji) },

    // Groups
    WAWebGroupCreateJob: { createGroup: (settings, participants) => groups.create(settings, participants) },
    WAWebGroupQueryJob: {
      queryAndUpdateGroupMetadataById: ({ id }) => groups.query(id),
      queryGroupInvite: (code) => groups.join(code, 'look'),
      resetGroupInviteCode: (wid) => groups.invite(wid, 'reset-invite'),
    },
    WAWebMexFetchGroupInviteCodeJob: { fetchMexGroupInviteCode: (id) => groups.invite(id, 'invite') },
    WAWebGroupInviteJob: { joinGroupViaInvite: (code) => groups.join(code) },
    WAWebExitGroupAction: { sendExitGroup: (chat) => groups.leave(chat) },
    WAWebGroupModifyInfoJob: {
      setGroupSubject: (wid, subject) => groups.set(wid, { subject }),
      setGroupDescription: (wid, description) => groups.set(wid, { description }),
    },
    WAWebSetPropertyGroupAction: {
      setGroupProperty: (chat, property, value) => groups.setProperty(chat, property, value),
    },
    WAWebModifyParticipantsGroupAction: {
      removeParticipants: (chat, participants) => groups.change('remove', chat, participants),
      promoteParticipants: (chat, participants) => groups.change('promote', chat, participants),
      demoteParticipants: (chat, participants) => groups.change('demote', chat, participants),
    },
    WASmaxGroupsAddParticipantsRPC: { sendAddParticipantsRPC: (call) => groups.add(call) },
    WAWebWidToJid: { widToGroupJid: (wid) => wid.toJid(), widToUserJid: (wid) => wid.toJid() },

    // Places where whatsapp-web.js hooks itself in
    WAWebCallCollection: { calls: new Map(), on() {} },
    WAWebAddonReactionTableMode: { reactionTableMode: { bulkUpsert: nothing } },
    WAWebAddonPollVoteTableMode: { pollVoteTableMode: { bulkUpsert: nothing } },
    WAWebBackendJobsCommon: { mediaTypeFromProtobuf: () => null },
    WAWebE2EProtoUtils: { typeAttributeFromProtobuf: () => 'text' },
    WAWebNonMessageDataRequestPlaceholderMessageResendUtils: { handlePlaceholderMsgsSeen: nothing },
  };
}

function findLinks(text) {
  // Most messages have no link, and each is looked at several times.
  if (!text?.includes('://')) return [];
  return Array.from(text.matchAll(LINK), ([href]) => ({ href, value: href }));
}
