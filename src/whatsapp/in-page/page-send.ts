import type { OutgoingContent } from '../outgoing-content.js';
import type {
  PageChat,
  PageFileInput,
  PageFlotilla,
  PageModel,
  PageSend,
  PageSendResult,
  PageWindow,
} from './page-functions.js';

/*
 * Sending, inside the WhatsApp Web page. See page-functions.ts for the rules of such functions.
 */

declare const window: PageWindow;
declare const document: { createElement(name: 'input'): PageFileInput & { type: string } };
declare const File: new (parts: unknown[], name: string, options: { type: string }) => object;

/** Adds `send` to `window.flotilla`, once per page load. */
export function installSending(): void {
  const flotilla: PageFlotilla = window.flotilla!;
  if (flotilla.send) return;
  /** Running sends by WhatsApp id, also repetitions. An attempt may still upload after its caller has given up. */
  const running = new Map<string, Promise<'no_quoted' | undefined>>();
  const track = (whatsappId: string, sending: Promise<'no_quoted' | undefined>) => {
    const tracked = sending.finally(() => running.delete(whatsappId));
    running.set(whatsappId, tracked);
    // It may fail when no caller waits for it any more. The next attempt finds out the result.
    tracked.catch(() => undefined);
    return tracked;
  };

  // The library makes files from base64 text. Our files come from the disk.
  const toFile = window.WWebJS.mediaInfoToFile;
  window.WWebJS.mediaInfoToFile = (media: { file?: object }) => media.file ?? toFile(media);

  const mediaOptions = async (
    content: Extract<OutgoingContent, { file: unknown }>,
    whatsappId: string,
  ): Promise<Record<string, unknown>> => {
    const { mimetype, filename } = content.file;
    const file = flotilla.files.get(whatsappId)?.files?.[0];
    if (!file) throw new Error('The page did not receive the file.');
    // Read it now: the file on the disk is removed after this attempt, but WhatsApp Web may need the bytes later.
    const bytes = await file.arrayBuffer();
    const media = { mimetype, filename, file: new File([bytes], filename, { type: mimetype }) };
    if (content.type === 'sticker')
      return { media: await window.WWebJS.toStickerData(media), sendMediaAsSticker: true };
    return {
      media,
      caption: content.caption ?? undefined,
      isCaptionByUser: content.caption !== null,
      sendAudioAsVoice: content.type === 'voice',
      sendVideoAsGif: content.gif,
      isViewOnce: content.viewOnce,
      sendMediaAsDocument: content.type === 'document',
    };
  };

  /** The arguments for the library's sendMessage: the text and the options. */
  const libraryArguments = async ({
    content,
    whatsappId,
  }: PageSend): Promise<[string, Record<string, unknown>]> => {
    switch (content.type) {
      case 'text':
        return [
          content.text,
          content.linkPreview !== false ? { ...(await flotilla.previewOf(content.text)) } : {},
        ];
      case 'location': {
        const { latitude, longitude, description } = content;
        return ['', { location: { latitude, longitude, description: description ?? undefined } }];
      }
      case 'contact': {
        const [first] = content.cards;
        // The library does the same, but only for contacts of the account. These persons may be strangers to the account.
        const cards = content.cards.map(({ name, vcard }) => ({ displayName: name, vcard }));
        return content.cards.length === 1
          ? ['', { extraOptions: { type: 'vcard', body: first!.vcard, vcardFormattedName: first!.name } }]
          : ['', { extraOptions: { type: 'multi_vcard', body: null, vcardList: cards } }];
      }
      case 'poll': {
        const { question, options, multiple, secret } = content;
        const pollOptions = options.map((name, localId) => ({ name, localId }));
        const settings = { allowMultipleAnswers: multiple, messageSecret: secret };
        return ['', { poll: { pollName: question, pollOptions, options: settings } }];
      }
      default:
        return ['', await mediaOptions(content, whatsappId)];
    }
  };

  flotilla.argumentsOf = libraryArguments;

  const startSend = async (chat: PageChat, send: PageSend): Promise<'no_quoted' | undefined> => {
    const { quoted, mentions, whatsappId } = send;
    const answered = quoted && (await flotilla.locate(quoted));
    if (quoted && !answered) return 'no_quoted';
    const [text, { extraOptions, ...options }] = await libraryArguments(send);
    await window.WWebJS.sendMessage(chat, text, {
      ...options,
      ...(answered ? { quotedMessageId: answered.message.id._serialized } : {}),
      ...(mentions.length > 0 ? { mentionedJidList: mentions } : {}),
      // These override the library's own values. The id was made before the first attempt.
      extraOptions: { ...(extraOptions as object), id: flotilla.keyOf(chat, whatsappId) },
      waitUntilMsgSent: true,
    });
    return undefined;
  };

  /**
   * Sends a message that the page has again, under its id, as a click on its red mark does. Resolves when that has ended, well
   * or not: the ack tells.
   */
  const resend = async (chat: PageChat, message: PageModel): Promise<undefined> => {
    const { resendMsgToChat } = window.require('WAWebSendMsgChatAction');
    const resendMsg = flotilla.optional('WAWebResendMsgAction')?.resendMsg;
    const toChat = () => {
      // It leaves the mark, which would then stay on a message that was sent.
      message.isSendFailure = false;
      return resendMsgToChat!(chat, Promise.resolve(message));
    };
    // What a click does is no help to uploaded media, because it uploads the file again, and a page that was reloaded does not
    // have the file. Nor to a message without the mark: it does nothing.
    if (resendMsgToChat && (message.directPath || !message.isSendFailure)) await toChat();
    else if (resendMsg) await resendMsg(message);
    else if (message.resend) await message.resend();
    else if (resendMsgToChat) await toChat();
    return undefined;
  };

  /** Whether the page has taken in what came while it was away: the receipt of a message may be among that. */
  const hasCaughtUp = () => {
    if (window.require('WAWebSocketModel').Socket.state !== 'CONNECTED') return false;
    try {
      const handler = flotilla.optional('WAWebOfflineHandler')?.OfflineMessageHandler;
      return handler?.isResumeComplete?.() ?? true;
    } catch {
      return false;
    }
  };

  /**
   * The result of a failure in the page.
   * @throws the failure, if the message may be on its way nevertheless; or if there is no connection, because then every
   * message fails and the page must reconnect
   */
  const notSent = (whatsappId: string, failure: unknown): PageSendResult => {
    // Looks in all chats, because WhatsApp Web may have moved the message to another id of the same person.
    const models = window.require('WAWebCollections').Msg.getModelsArray();
    const isHeld = models.some(({ id }) => id.fromMe && id.id === whatsappId);
    const isConnected = window.require('WAWebSocketModel').Socket.state === 'CONNECTED';
    if (isHeld || running.has(whatsappId) || !isConnected) throw failure;
    return { outcome: 'not_sent', detail: String(failure) };
  };

  /** The result of a send whose recipient cannot be reached under this id, or could not be checked; else undefined. */
  const recipientFailure = async (
    { chatId, whatsappId, numberCheck = 'allowed' }: PageSend,
    isChecked: boolean,
  ): Promise<PageSendResult | undefined> => {
    try {
      const reach = await flotilla.reach!(chatId, numberCheck, isChecked);
      return reach.outcome === 'reached' ? undefined : reach;
    } catch (error) {
      return notSent(whatsappId, error);
    }
  };

  flotilla.send = async (send) => {
    const { chatId, content, whatsappId, searchStorage, lookOnly, timeoutMs, typingMs, checkNumber } = send;
    let { mayResend } = send;
    flotilla.sentIds.add(whatsappId);
    if (flotilla.sentIds.size > 5_000) flotilla.sentIds.delete(flotilla.sentIds.values().next().value!);
    // Before the chat is made: WhatsApp refuses a chat under another id than its own.
    const isChecked = checkNumber && !searchStorage && chatId.endsWith('@c.us');
    const unreachable = running.has(whatsappId) ? undefined : await recipientFailure(send, isChecked);
    if (unreachable) return unreachable;
    if (/@(broadcast|newsletter)$/.test(chatId)) {
      const { sendPost } = flotilla;
      return sendPost ? sendPost(send) : { outcome: 'cannot_post', detail: 'what posts are made with' };
    }
    let chat: PageChat | undefined;
    let failure: unknown = new Error(`WhatsApp gave no chat for ${chatId}`);
    try {
      chat = await window.WWebJS.getChat(chatId, { getAsModel: false });
    } catch (error) {
      failure = error;
    }
    if (!chat) {
      if (!chatId.endsWith('@c.us') && !chatId.endsWith('@lid'))
        return { outcome: 'no_chat', detail: String(failure) };
      return (await recipientFailure(send, true)) ?? notSent(whatsappId, failure);
    }

    // Before the first attempt the page cannot know the id under another key, and a search of all its messages would cost more
    // with each message that it holds.
    let message = searchStorage
      ? await flotilla.findOwn(chat, whatsappId, true)
      : await flotilla.find(flotilla.keyOf(chat, whatsappId)._serialized, false);
    const isRunning = running.has(whatsappId);
    if (!message && !isRunning) {
      if (lookOnly) return { outcome: 'absent' };
      if (typingMs > 0)
        await flotilla.showTyping!(chat, typingMs, content.type === 'voice' ? 'recording' : 'typing');
    }
    const isOutside = chatId.endsWith('@g.us') && chat.groupMetadata?.participants?.iAmMember?.() === false;
    if (!message && !isRunning && isOutside)
      return { outcome: 'no_chat', detail: 'the account is no longer in this group' };
    const deadline = Date.now() + timeoutMs;
    if (!message) {
      let timer;
      let hasFailed = false;
      const timeout = new Promise<undefined>((resolve) => {
        timer = setTimeout(() => resolve(undefined), timeoutMs);
      });
      const sending = running.get(whatsappId) ?? track(whatsappId, startSend(chat, send));
      try {
        const ended = await Promise.race([sending, timeout]);
        if (ended === 'no_quoted') return { outcome: 'no_quoted' };
      } catch (error) {
        hasFailed = true;
        failure = error;
      } finally {
        clearTimeout(timer);
      }
      message = await flotilla.findOwn(chat, whatsappId, hasFailed);
      if (!message && hasFailed) return notSent(whatsappId, failure);
      const isDuplicate = hasFailed && (failure as Error).name === 'DuplicateMessageError';
      if (isDuplicate) {
        // The database has the message already, and the page has added a second model to its memory, without the ack.
        const ack = Math.max(...(await flotilla.rowsOf(chat, whatsappId)).map((row) => row.ack));
        if (Number.isFinite(ack) && ack !== 0) return { outcome: 'known', ack, whatsappId };
      } else mayResend = false;
    }
    // A page that sends by itself what an earlier page left does so at once. One that does not marks such messages as failed.
    const patientUntil = Date.now() + timeoutMs / 2;
    while (message && (message.ack ?? 0) === 0 && Date.now() < deadline) {
      const isSent = running.has(whatsappId);
      if (!isSent && message.isSendFailure && !mayResend && hasCaughtUp()) return { outcome: 'unsent' };
      const isLeft = !isSent && (message.isSendFailure || Date.now() >= patientUntil);
      if (isLeft && mayResend && hasCaughtUp()) {
        mayResend = false;
        void track(whatsappId, resend(chat, message));
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
      message = (await flotilla.findOwn(chat, whatsappId, false)) ?? message;
    }
    if (!message) return { outcome: 'timed_out' };
    if ((message.ack ?? 0) === 0)
      return { outcome: message.isSendFailure && hasCaughtUp() ? 'unsent' : 'pending' };
    return { outcome: 'known', ack: message.ack ?? 0, whatsappId: message.id.id };
  };
}

/** Sends a message under the given id. If the page already knows the id, it only reports the ack of that message. */
export function sendMessage(send: PageSend): Promise<PageSendResult> {
  if (!window.flotilla?.send) return Promise.resolve({ outcome: 'not_ready' });
  return window.flotilla.send(send);
}

/** Makes the input that receives the file of a message. Null if the page is not ready. */
export function expectFile(whatsappId: string): PageFileInput | null {
  const { flotilla } = window;
  if (!flotilla?.send) return null;
  const input = document.createElement('input');
  input.type = 'file';
  flotilla.files.set(whatsappId, input);
  return input;
}

/** Releases the file of a message. */
export async function forgetFile(whatsappId: string): Promise<void> {
  window.flotilla?.files.delete(whatsappId);
}
