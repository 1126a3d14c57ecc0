import type {
  PageChat,
  PageFlotilla,
  PageModel,
  PageSend,
  PageSendResult,
  PageWindow,
} from './page-functions.js';

/*
 * Stories and posts in channels, inside the WhatsApp Web page. See page-functions.ts for the rules of such functions.
 */

declare const window: PageWindow;

/** Adds `sendPost` to `window.flotilla`, once per page load. */
export function installPosts(): void {
  const flotilla: PageFlotilla = window.flotilla!;
  if (flotilla.sendPost) return;
  /** The results of stories with media, by WhatsApp id: the library does not pass them on. */
  const results = new Map<string, unknown>();
  /** Running posts by WhatsApp id. */
  const running = new Map<string, Promise<PageSendResult>>();
  const storyColor = 0xff7acca5;

  const stories = flotilla.optional('WAWebSendStatusMsgAction');
  const texts = flotilla.optional('WAWebStatusMsgDataUtils');
  const channels = flotilla.optional('WAWebNewsletterSendMessageJob');

  // WhatsApp Web gives the text of a story an id of its own. Ours was made before the first attempt.
  const createText = texts?.createTextStatusMsgData;
  let keepsTextIds = false;
  if (texts && typeof createText === 'function') {
    texts.createTextStatusMsgData = async (options, ...more) => {
      const data = await createText(options, ...more);
      if (!data || typeof options.flotillaId !== 'string') return data;
      const { fromMe, remote, participant } = data.id;
      const MsgKey = window.require('WAWebMsgKey');
      return { ...data, id: new MsgKey({ fromMe, remote, participant, id: options.flotillaId }) };
    };
    keepsTextIds = texts.createTextStatusMsgData !== createText;
  }
  const sendMedia = stories?.sendStatusMediaMsgAction;
  let tellsResults = false;
  if (stories && typeof sendMedia === 'function') {
    stories.sendStatusMediaMsgAction = async (message, ...more) => {
      const result = await sendMedia(message, ...more);
      results.set(message.id.id, result?.messageSendResult);
      return result;
    };
    tellsResults = stories.sendStatusMediaMsgAction !== sendMedia;
  }
  // The library takes a post for sent also if WhatsApp has refused it.
  const sendToChannel = channels?.sendNewsletterMessageJob;
  let tellsRefusals = false;
  if (channels && typeof sendToChannel === 'function') {
    channels.sendNewsletterMessageJob = async (call) => {
      const answer = await sendToChannel(call);
      if (answer?.success !== true) throw new Error('WhatsApp did not take the post.');
      return answer;
    };
    tellsRefusals = channels.sendNewsletterMessageJob !== sendToChannel;
  }
  // Builds since September 2026: prepared media brings `__x_id`, which overwrites the id of the message. The shim `media` of
  // page-shims.ts does the same for the messages of chats, which are made elsewhere.
  const process = window.WWebJS.processMediaData;
  window.WWebJS.processMediaData = async (media, options) => {
    const prepared = await process(media, options);
    if (options.sendToChannel === true || options.sendToStatus === true) delete prepared.__x_id;
    return prepared;
  };

  /** What this page lacks for a post. Undefined if it has all. */
  const lacking = ({ chatId, content }: PageSend): string | undefined => {
    if (chatId.endsWith('@newsletter'))
      return tellsRefusals ? undefined : 'WAWebNewsletterSendMessageJob.sendNewsletterMessageJob';
    if (content.type === 'text') {
      const canSend = typeof stories?.sendStatusTextMsgAction === 'function';
      if (!canSend) return 'WAWebSendStatusMsgAction.sendStatusTextMsgAction';
      return keepsTextIds ? undefined : 'WAWebStatusMsgDataUtils.createTextStatusMsgData';
    }
    return tellsResults ? undefined : 'WAWebSendStatusMsgAction.sendStatusMediaMsgAction';
  };

  const isAdmin = (chat: PageChat) =>
    ['owner', 'admin'].includes(String(chat.newsletterMetadata?.membershipType).toLowerCase());

  /** Posts once. What the page holds without an ack it does not post again: it may have left. */
  const post = async (chat: PageChat, send: PageSend): Promise<PageSendResult> => {
    const { chatId, content, whatsappId } = send;
    const isStory = chatId === 'status@broadcast';
    let failure: unknown;
    let result: unknown;
    try {
      if (isStory && content.type === 'text') {
        const options = { text: content.text, color: storyColor, font: 0, flotillaId: whatsappId };
        result = (await stories!.sendStatusTextMsgAction!(options))?.messageSendResult;
      } else {
        const [text, { extraOptions, ...options }] = await flotilla.argumentsOf!(send);
        await window.WWebJS.sendMessage(chat, text, {
          ...options,
          extraOptions: { ...(extraOptions as object), id: flotilla.keyOf(chat, whatsappId) },
        });
        result = isStory ? results.get(whatsappId) : 'OK';
      }
    } catch (error) {
      failure = error;
    } finally {
      results.delete(whatsappId);
    }
    if (failure === undefined && result === 'OK') return { outcome: 'known', ack: 1, whatsappId };
    const refusal = failure === undefined ? null : flotilla.refusalOf(failure);
    if (refusal !== null && refusal >= 400 && refusal < 500) return { outcome: 'known', ack: -1, whatsappId };
    const held = await flotilla.findOwn(chat, whatsappId, true);
    if (!held && failure !== undefined) return { outcome: 'not_sent', detail: String(failure) };
    return { outcome: 'unsent' };
  };

  const resultOf = ({ ack = 0 }: PageModel, whatsappId: string): PageSendResult =>
    ack >= 1 ? { outcome: 'known', ack: 1, whatsappId } : { outcome: 'unsent' };

  flotilla.sendPost = async (send) => {
    const { chatId, whatsappId, searchStorage, lookOnly, timeoutMs } = send;
    if (!running.has(whatsappId)) {
      if (window.require('WAWebSocketModel').Socket.state !== 'CONNECTED') return { outcome: 'not_ready' };
      const chat = await window.WWebJS.getChat(chatId, { getAsModel: false }).catch(() => undefined);
      // A post that may have left is looked up, whatever else the page has.
      const place = chat ?? { id: window.require('WAWebWidFactory').createWid(chatId) };
      const known = await flotilla.findOwn(place, whatsappId, searchStorage);
      if (known) return resultOf(known, whatsappId);
      if (lookOnly) return { outcome: 'absent' };
      const missing = lacking(send);
      if (missing !== undefined) return { outcome: 'cannot_post', detail: missing };
      if (chatId.endsWith('@newsletter') && !(chat && isAdmin(chat))) return { outcome: 'not_admin' };
      if (!chat) return { outcome: 'cannot_post', detail: 'the chat of stories' };
      const posting = post(chat, send).finally(() => running.delete(whatsappId));
      running.set(whatsappId, posting);
      // It may fail when no caller waits for it any more. The next attempt finds out the result.
      posting.catch(() => undefined);
    }
    let timer;
    const timeout = new Promise<PageSendResult>((resolve) => {
      timer = setTimeout(() => resolve({ outcome: 'timed_out' }), timeoutMs);
    });
    try {
      return await Promise.race([running.get(whatsappId) ?? timeout, timeout]);
    } finally {
      clearTimeout(timer);
    }
  };
}
