import type { OutgoingContent } from '../outgoing-content.js';
import type {
  PageChat,
  PageFileInput,
  PageFlotilla,
  PageSend,
  PageSendResult,
  PageWindow,
} from './page-functions.js';

/*
 * Sending, inside the WhatsApp Web page: see page-functions.ts for the rules that such functions follow.
 */

declare const window: PageWindow;
declare const document: { createElement(name: 'input'): PageFileInput & { type: string } };
declare const File: new (parts: unknown[], name: string, options: { type: string }) => object;

/** Adds `send` to what is shared, once a page load. */
export function installSending(): void {
  const flotilla: PageFlotilla = window.flotilla!;
  if (flotilla.send) return;
  /** Sends that run, by WhatsApp id: an attempt whose caller has given up may still be at its upload. */
  const running = new Map<string, Promise<'no_quoted' | undefined>>();

  // The library makes its files of base64 text; ours come from the disk.
  const toFile = window.WWebJS.mediaInfoToFile;
  window.WWebJS.mediaInfoToFile = (media: { file?: object }) => media.file ?? toFile(media);

  /** A typing indicator delays no message: it is not waited for, and one that fails is missed by nobody. */
  const showTyping = async (chat: PageChat, ms: number, state: 'typing' | 'recording') => {
    const show = (shown: string) => {
      window.WWebJS.sendChatstate(shown, chat.id._serialized).catch(() => undefined);
    };
    show(state);
    await new Promise((resolve) => setTimeout(resolve, ms));
    show('stop');
  };

  const mediaOptions = async (
    content: Extract<OutgoingContent, { file: unknown }>,
    whatsappId: string,
  ): Promise<Record<string, unknown>> => {
    const { mimetype, filename } = content.file;
    const given = flotilla.files.get(whatsappId)?.files?.[0];
    if (!given) throw new Error('The page was not given the file.');
    // Read now: the file on the disk is removed after this attempt, and WhatsApp Web may want it later.
    const bytes = await given.arrayBuffer();
    const media = { mimetype, filename, file: new File([bytes], filename, { type: mimetype }) };
    if (content.type === 'sticker')
      return { media: await window.WWebJS.toStickerData(media), sendMediaAsSticker: true };
    return {
      media,
      caption: content.caption ?? undefined,
      isCaptionByUser: content.caption !== null,
      sendAudioAsVoice: content.type === 'voice',
      sendMediaAsDocument: content.type === 'document',
    };
  };

  /** What the library's sendMessage is told: the text, and its options. */
  const toLibrary = async ({ content, whatsappId }: PageSend): Promise<[string, Record<string, unknown>]> => {
    switch (content.type) {
      case 'text':
        return [content.text, { ...(await flotilla.previewOf(content.text)) }];
      case 'location': {
        const { latitude, longitude, description } = content;
        return ['', { location: { latitude, longitude, description: description ?? undefined } }];
      }
      case 'contact': {
        const [first] = content.cards;
        // As the library does it for contacts that the account has; these may be strangers to it.
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

  const begin = async (chat: PageChat, send: PageSend): Promise<'no_quoted' | undefined> => {
    const { quoted, mentions, whatsappId } = send;
    const answered = quoted && (await flotilla.locate(quoted));
    if (quoted && !answered) return 'no_quoted';
    const [text, { extraOptions, ...options }] = await toLibrary(send);
    await window.WWebJS.sendMessage(chat, text, {
      ...options,
      ...(answered ? { quotedMessageId: answered.message.id._serialized } : {}),
      ...(mentions.length > 0 ? { mentionedJidList: mentions } : {}),
      // The last word on the message: its id was made before the first attempt.
      extraOptions: { ...(extraOptions as object), id: flotilla.keyOf(chat, whatsappId) },
      waitUntilMsgSent: true,
    });
    return undefined;
  };

  /**
   * What a failure in the page comes to.
   * @throws it, when the message may be on its way all the same, or there is no connection: then everything fails, whatever
   * the message, and the connection is to be made anew
   */
  const notSent = (whatsappId: string, failure: unknown): PageSendResult => {
    // Under whichever chat: WhatsApp Web may have moved it to another address of the same person meanwhile.
    const models = window.require('WAWebCollections').Msg.getModelsArray();
    const isHeld = models.some(({ id }) => id.fromMe && id.id === whatsappId);
    const isConnected = window.require('WAWebSocketModel').Socket.state === 'CONNECTED';
    if (isHeld || running.has(whatsappId) || !isConnected) throw failure;
    return { outcome: 'not_sent', detail: String(failure) };
  };

  /** What a send comes to when its recipient cannot be written to, or nobody says; undefined when it can. */
  const withoutRecipient = async ({ chatId, whatsappId }: PageSend): Promise<PageSendResult | undefined> => {
    try {
      return (await flotilla.isRegistered(chatId)) ? undefined : { outcome: 'not_registered' };
    } catch (error) {
      return notSent(whatsappId, error);
    }
  };

  flotilla.send = async (send) => {
    const { chatId, content, whatsappId, thorough, lookOnly, timeoutMs, typingMs, checkNumber } = send;
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
      return (await withoutRecipient(send)) ?? notSent(whatsappId, failure);
    }

    const key = flotilla.keyOf(chat, whatsappId)._serialized;
    let message = await flotilla.find(key, thorough);
    const isRunning = running.has(whatsappId);
    if (!message && !isRunning) {
      if (lookOnly) return { outcome: 'absent' };
      // A hidden number cannot be asked for; whoever has one wrote from it.
      const unreachable = checkNumber && chatId.endsWith('@c.us') ? await withoutRecipient(send) : undefined;
      if (unreachable) return unreachable;
      if (typingMs > 0) await showTyping(chat, typingMs, content.type === 'voice' ? 'recording' : 'typing');
    }
    const isOutside = chatId.endsWith('@g.us') && chat.groupMetadata?.participants?.iAmMember?.() === false;
    if (!message && !isRunning && isOutside)
      return { outcome: 'no_chat', detail: 'the account is not in this group any more' };
    const deadline = Date.now() + timeoutMs;
    if (!message) {
      let timer;
      let hasFailed = false;
      const timeout = new Promise<undefined>((resolve) => {
        timer = setTimeout(() => resolve(undefined), timeoutMs);
      });
      let sending = running.get(whatsappId);
      if (!sending) {
        sending = begin(chat, send).finally(() => running.delete(whatsappId));
        running.set(whatsappId, sending);
        // It may fail after nobody waits for it any more: the next attempt sees what became of it.
        sending.catch(() => undefined);
      }
      try {
        const ended = await Promise.race([sending, timeout]);
        if (ended === 'no_quoted') return { outcome: 'no_quoted' };
      } catch (error) {
        hasFailed = true;
        failure = error;
      } finally {
        clearTimeout(timer);
      }
      message = await flotilla.find(key, hasFailed);
      if (!message && hasFailed) return notSent(whatsappId, failure);
    }
    // A message that is known but has no ack yet is on its way: WhatsApp sends it again by itself after a reconnect.
    while (message && (message.ack ?? 0) === 0 && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      message = await flotilla.find(key, false);
    }
    if (!message) return { outcome: 'timed_out' };
    if ((message.ack ?? 0) === 0) return { outcome: 'pending' };
    return { outcome: 'known', ack: message.ack ?? 0, whatsappId: message.id.id };
  };
}

/** Sends a message under a given id, unless the page knows that id already: then it says how far that message got. */
export function sendMessage(send: PageSend): Promise<PageSendResult> {
  if (!window.flotilla?.send) return Promise.resolve({ outcome: 'not_ready' });
  return window.flotilla.send(send);
}

/** Makes the input that takes the file of a message. */
export function expectFile(whatsappId: string): PageFileInput | null {
  const { flotilla } = window;
  if (!flotilla?.send) return null;
  const input = document.createElement('input');
  input.type = 'file';
  flotilla.files.set(whatsappId, input);
  return input;
}

/** Lets go of the file of a message. */
export async function forgetFile(whatsappId: string): Promise<void> {
  window.flotilla?.files.delete(whatsappId);
}
