import type { PageModules } from './page-modules.js';
import type { PageWindow } from './page-functions.js';

/*
 * The page contract: everything of a page that Flotilla and the functions of whatsapp-web.js that it calls need. See
 * page-functions.ts for the rules of functions that run in the page.
 */

/** What a part of the page is needed for. */
export type ContractNeed =
  | 'starting'
  | 'connection'
  | 'receiving'
  | 'sending'
  | 'media'
  | 'actions'
  | 'reads'
  | 'groups'
  | 'calls'
  | 'posts';

/** Without these parts messages wait. The others are missed only by the calls that use them. */
export const essentialNeeds: readonly ContractNeed[] = ['connection', 'receiving', 'sending', 'media'];
/** Without these parts whatsapp-web.js does not start. Once it has started, they are no longer needed. */
export const startNeeds: readonly ContractNeed[] = ['starting', 'connection'];

/**
 * The parts by need: `Module`, `Module.member`, or with `()` if it must be a function. `WWebJS` and `Debug` are of the window. A
 * module that whatsapp-web.js only uses when it is there is not in the list. test/whatsapp/page-contract.unit.spec.ts compares
 * the list with our code and the library's.
 */
export const pageContract: Record<ContractNeed, readonly string[]> = {
  starting: [
    'WAWebMiscBrowserUtils.info()',
    'WAWebCmd.Cmd.on()',
    'WAWebConnModel.Conn.on()',
    'WAWebConnModel.Conn.serialize()',
    'WAWebOfflineHandler.OfflineMessageHandler',
    'WAWebAltDeviceLinkingApi',
    'WABase64.encodeB64()',
    'WAWebCompanionRegClientUtils',
    'WAWebAdvSignatureApi',
    'WAWebUserPrefsInfoStore.waNoiseInfo.get()',
    'WAWebSignalStoreApi.waSignalStore.getRegistrationInfo()',
    'WAWebUserPrefsMultiDevice.getADVSecretKey()',
    'WAWebSyncGatingUtils',
    'WAWebCallCollection',
  ],
  connection: [
    'Debug.VERSION',
    'WAWebSocketModel.Socket.state',
    'WAWebSocketModel.Socket.on()',
    'WAWebSocketModel.Socket.reconnect()',
    'WAWebUserPrefsMeUser.getMaybeMeLidUser()',
    'WAWebUserPrefsMeUser.getMaybeMePnUser()',
  ],
  receiving: [
    'WAWebCollections.Msg.on()',
    'WAWebCollections.Msg.getModelsArray()',
    'WAWebCollections.Chat.on()',
    'WAWebCollections.Chat.getModelsArray()',
    'WALinkify.findLinks()',
    'WWebJS.getMessageModel()',
  ],
  sending: [
    'WAWebCollections.Msg.get()',
    'WAWebCollections.Msg.getMessagesById()',
    'WAWebCollections.Chat.get()',
    'WAWebMsgKey()',
    'WAWebMsgKey.newId()',
    'WAWebWidFactory.createWid()',
    'WAWebWidFactory.asUserWidOrThrow()',
    'WAWebFindChatAction.findOrCreateLatestChat()',
    'WAWebQueryExistsJob.queryWidExists()',
    'WAWebChatGetters.getIsNewsletter()',
    'WAWebChatGetters.getIsBroadcast()',
    'WALinkify.findLink()',
    'WAWebGetEphemeralFieldsMsgActionsUtils.getEphemeralFields()',
    'WAWebSendMsgChatAction.addAndSendMsgToChat()',
    'WWebJS.getChat()',
    'WWebJS.sendMessage()',
  ],
  media: [
    'WAWebMediaOpaqueData.createFromData()',
    'WAWebPrepRawMedia.prepRawMedia()',
    'WAWebMediaStorage.getOrCreateMediaObject()',
    'WAWebMmsMediaTypes.msgToMediaType()',
    'WAWebMmsMediaTypes.castToV4()',
    'WAWebMediaDataUtils.shouldUseMediaCache()',
    'WAWebMediaMmsV4Upload.uploadMedia()',
    'WAWebUploadManager.encryptAndUpload()',
    'WAWebStartMediaUploadQpl.startMediaUploadQpl()',
    'WAWebImageUtils.toWebpSticker()',
    'WWebJS.mediaInfoToFile()',
    'WWebJS.processMediaData()',
    'WWebJS.processStickerData()',
    'WWebJS.toStickerData()',
  ],
  actions: [
    // Older and newer pages have other ways as well.
    'WAWebSendMsgChatAction.resendMsgToChat()',
    'WAWebMsgActionCapability.canEditText()',
    'WAWebMsgActionCapability.canEditCaption()',
    'WAWebMsgActionCapability.canSenderRevokeMsg()',
    'WAWebMsgActionCapability.canAdminRevokeMsg()',
    'WAWebCmd.Cmd.sendRevokeMsgs()',
    'WAWebSendMessageEditAction.sendMessageEdit()',
    'WAWebSendReactionMsgAction.sendReactionToMsg()',
    'WAWebMsgReply.canReplyMsg()',
    'WAWebPollsVotesSchema.getTable()',
    'WAWebCollections.Reactions.find()',
    'WAWebAddonReactionTableMode.reactionTableMode.bulkUpsert()',
    'WAWebAddonPollVoteTableMode.pollVoteTableMode.bulkUpsert()',
    'WAWebLinkPreviewChatAction.getLinkPreview()',
    'WWebJS.editMessage()',
  ],
  reads: [
    'WAWebUnpairDeviceJob.unpairDevice()',
    'WAWebCollections.Contact.get()',
    'WAWebCollections.Contact.getModelsArray()',
    'WAWebCollections.Blocklist.get()',
    'WAWebApiContact.getCurrentLid()',
    'WAWebApiContact.getPhoneNumber()',
    'WAWebContactGetters.getIsMe()',
    'WAWebContactGetters.getName()',
    'WAWebContactGetters.getPushname()',
    'WAWebFrontendContactGetters.getIsMyContact()',
    'WAWebContactProfilePicThumbBridge.requestProfilePicFromServer()',
    'WAWebChatLoadMessages.loadEarlierMsgs()',
    'WAWebDownloadManager.downloadManager.downloadAndMaybeDecrypt()',
    'WAWebStreamModel.Stream.markAvailable()',
    'WAWebStreamModel.Stream.markUnavailable()',
    'WAWebUpdateUnreadChatAction.sendSeen()',
    'WAWebChatStateBridge.sendChatStateComposing()',
    'WWebJS.sendChatstate()',
    'WWebJS.sendSeen()',
  ],
  groups: [
    'WAWebGroupCreateJob.createGroup()',
    'WAWebGroupInviteJob.joinGroupViaInvite()',
    'WAWebGroupQueryJob.queryAndUpdateGroupMetadataById()',
    'WAWebMexFetchGroupInviteCodeJob.fetchMexGroupInviteCode()',
    'WAWebExitGroupAction.sendExitGroup()',
    'WAWebGroupModifyInfoJob.setGroupSubject()',
    'WAWebGroupModifyInfoJob.setGroupDescription()',
    'WAWebSetPropertyGroupAction.setGroupProperty()',
    'WAWebModifyParticipantsGroupAction.removeParticipants()',
    'WAWebModifyParticipantsGroupAction.promoteParticipants()',
    'WAWebModifyParticipantsGroupAction.demoteParticipants()',
    'WASmaxGroupsAddParticipantsRPC.sendAddParticipantsRPC()',
  ],
  calls: [
    'WAWap.wap()',
    'WAWap.generateId()',
    'WADeprecatedSendIq.deprecatedCastStanza()',
    'WWebJS.rejectCall()',
  ],
  posts: [
    'WAWebSendStatusMsgAction.sendStatusTextMsgAction()',
    'WAWebSendStatusMsgAction.sendStatusMediaMsgAction()',
    'WAWebStatusMsgDataUtils.createTextStatusMsgData()',
    'WAWebStatusGatingUtils.canCheckStatusRankingPosterGating()',
    'WAWebMediaUpdateMsg()',
    'WAWebRevokeStatusAction.sendStatusRevokeMsgAction()',
    'WAWebCollections.Status.getMyStatus()',
    'WAWebCollections.WAWebNewsletterCollection.get()',
    'WAWebLoadNewsletterPreviewChatAction.loadNewsletterPreviewChat()',
    'WAWebMsgDataFromModel.msgDataFromMsgModel()',
    'WAWebNewsletterUpdateMsgsRecordsJob.addNewsletterMsgsRecords()',
    'WAWebNewsletterUpdateMsgsRecordsJob.updateNewsletterMsgRecord()',
    'WAWebNewsletterSendMessageJob.sendNewsletterMessageJob()',
    'WAMediaCalculateFilehash.getRandomFilehash()',
    'WAWebMediaMmsV4Upload.uploadUnencryptedMedia()',
  ],
};

/** What the page lacks. */
export interface PageFinding {
  /** What `Debug.VERSION` says; null if the page does not say it. */
  version: string | null;
  missing: { need: ContractNeed; name: string }[];
}

declare const window: PageWindow & { Debug?: { VERSION?: unknown } };

/**
 * Compares the page with the contract. It changes nothing and asks WhatsApp nothing. It runs after the shims: what they mend is
 * not missing.
 * @param isInjected whether the library must be in the page already
 * @returns null if the page is not WhatsApp Web, for example the browser's page for a network error
 */
export function findMissing(
  contract: Record<ContractNeed, readonly string[]>,
  isInjected: boolean,
): PageFinding | null {
  if (typeof window.require !== 'function') return null;
  const missing: PageFinding['missing'] = [];
  const note = (need: ContractNeed, name: string) => {
    if (!missing.some((known) => known.name === name)) missing.push({ need, name });
  };
  const moduleOf = (name: string): unknown => {
    if (name === 'WWebJS') return window.WWebJS;
    if (name === 'Debug') return window.Debug;
    try {
      return window.require(name as keyof PageModules);
    } catch {
      // WhatsApp Web throws for a module that it does not have.
      return undefined;
    }
  };
  for (const need of Object.keys(contract) as ContractNeed[]) {
    for (const name of contract[need]) {
      const isFunction = name.endsWith('()');
      const [moduleName, ...members] = name.replace('()', '').split('.') as [string, ...string[]];
      if (moduleName === 'WWebJS' && !isInjected) continue;
      let value = moduleOf(moduleName);
      if (value === undefined || value === null) {
        note(need, moduleName);
        continue;
      }
      try {
        for (const member of members) value = (value as Record<string, unknown> | undefined)?.[member];
      } catch {
        value = undefined;
      }
      // A member that is null is there, and has no value yet.
      if (isFunction ? typeof value !== 'function' : value === undefined) note(need, name);
    }
  }

  /** Checks a shape that the shims have made. It is missing if the check fails or throws. */
  const check = (need: ContractNeed, name: string, holds: () => boolean) => {
    // Without the module, its name says enough.
    if (!isInjected || missing.some((known) => name.startsWith(known.name.replace('()', '')))) return;
    try {
      if (holds()) return;
    } catch {
      // It throws, so it is not usable.
    }
    note(need, name);
  };
  check('sending', 'WAWebMsgKey: a key has its text in an own field', () => {
    const MsgKey = window.require('WAWebMsgKey');
    const remote = window.require('WAWebWidFactory').createWid('0@c.us');
    const key = new MsgKey({ fromMe: true, remote, id: 'FLOTILLA' });
    const text = String(key);
    return text.includes('FLOTILLA') && Object.hasOwn(key, '_serialized') && key._serialized === text;
  });
  check('sending', 'WAWebCollections.Msg.get: a message that the page holds is found by its key', () => {
    const { Msg } = window.require('WAWebCollections');
    if (Msg.get('true_0@c.us_FLOTILLA') !== undefined) return false;
    const held = Msg.getModelsArray().at(-1);
    return held === undefined || Msg.get(held.id._serialized) === held;
  });
  check('media', 'WAWebSendMsgChatAction.addAndSendMsgToChat: media comes without __x_id', () => {
    return window.require('WAWebSendMsgChatAction').isMendedByFlotilla === true;
  });
  check('media', 'WAWebMmsMediaTypes.castToV4: it takes IMAGE', () => {
    return window.require('WAWebMmsMediaTypes').castToV4('IMAGE') !== undefined;
  });

  const version = window.Debug?.VERSION;
  return { version: typeof version === 'string' ? version : null, missing };
}
