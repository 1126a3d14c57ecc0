/*
 * Functions that run inside the WhatsApp Web page. Puppeteer sends their source text, so each may use nothing from
 * outside itself; what they share lies in `window.flotilla`, which `installFlotilla` makes.
 */

/** What an attempt to send came to, as the page tells it. */
export type PageSendResult =
  | { outcome: 'known'; ack: number; whatsappId: string }
  | { outcome: 'not_registered' }
  | { outcome: 'timed_out' };

/** An incoming message, reduced to what is stored. */
export interface PageMessage {
  whatsappId: string;
  chatId: string;
  from: string;
  to: string;
  type: string;
  text: string;
  timestamp: number;
}

interface PageModel {
  id: { id: string; fromMe: boolean; _serialized: string };
  ack?: number;
}

interface PageWindow {
  require(name: string): any; // eslint-disable-line @typescript-eslint/no-explicit-any -- WhatsApp's modules have no types
  WWebJS: any; // eslint-disable-line @typescript-eslint/no-explicit-any -- nor has the injected library
  onAppStateHasSyncedEvent?: () => void;
  flotilla: {
    nextId: string | null;
    find(key: string, thorough: boolean): Promise<PageModel | undefined>;
  };
}

declare const window: PageWindow;

/** Patches `WAWebMsgKey.newId`, so that a send uses the id that was made for its message before the first attempt. */
export function installFlotilla(): void {
  const MsgKey = window.require('WAWebMsgKey');
  const { Msg } = window.require('WAWebCollections');
  const newId = MsgKey.newId.bind(MsgKey);
  MsgKey.newId = () => {
    const fixed = window.flotilla.nextId;
    window.flotilla.nextId = null;
    return fixed ? Promise.resolve(fixed) : newId();
  };
  window.flotilla = {
    nextId: null,
    // A page that was reloaded has its older messages in storage only.
    find: async (key, thorough) =>
      Msg.get(key) ?? (thorough ? (await Msg.getMessagesById([key]))?.messages?.[0] : undefined),
  };
}

/**
 * Sends a text under a given id, unless the page knows that id already: then it says how far that message got.
 * @param thorough looks into the page's storage too; for every attempt but the first
 */
export async function sendText(
  chatId: string,
  text: string,
  id: string,
  thorough: boolean,
  timeoutMs: number,
): Promise<PageSendResult> {
  const isRegistered = async () => {
    const wid = window.require('WAWebWidFactory').createWid(chatId);
    if (typeof wid.isUser === 'function' && !wid.isUser()) return true;
    const found = await window.require('WAWebQueryExistsJob').queryWidExists(wid);
    return found?.wid !== undefined;
  };
  let chat: { id: { _serialized: string } } | undefined;
  try {
    chat = await window.WWebJS.getChat(chatId, { getAsModel: false });
  } catch (error) {
    if (await isRegistered()) throw error;
  }
  if (!chat) return { outcome: 'not_registered' };

  const key = `true_${chat.id._serialized}_${id}`;
  let message = await window.flotilla.find(key, thorough);
  const deadline = Date.now() + timeoutMs;
  if (!message) {
    window.flotilla.nextId = id;
    const timeout = new Promise<'timeout'>((resolve) => setTimeout(() => resolve('timeout'), timeoutMs));
    try {
      const sent = await Promise.race([
        window.WWebJS.sendMessage(chat, text, {
          linkPreview: true,
          parseVCards: false,
          waitUntilMsgSent: true,
        }),
        timeout,
      ]);
      message = sent === 'timeout' ? await window.flotilla.find(key, false) : sent;
    } finally {
      window.flotilla.nextId = null;
    }
  }
  // A message that is known but has no ack yet is on its way: WhatsApp sends it again by itself after a reconnect.
  while (message && (message.ack ?? 0) === 0 && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    message = await window.flotilla.find(key, false);
  }
  if (!message || (message.ack ?? 0) === 0) return { outcome: 'timed_out' };
  return { outcome: 'known', ack: message.ack ?? 0, whatsappId: message.id.id };
}

/** How far messages got that this account sent, by their ids; those the page does not know are left out. */
export async function acksOf(
  messages: { chatId: string; whatsappId: string }[],
): Promise<{ whatsappId: string; ack: number }[]> {
  const found: { whatsappId: string; ack: number }[] = [];
  for (const { chatId, whatsappId } of messages) {
    const message = await window.flotilla.find(`true_${chatId}_${whatsappId}`, true);
    if (message) found.push({ whatsappId, ack: message.ack ?? 0 });
  }
  return found;
}

/** The latest incoming messages that the page holds: those that came while nobody listened are among them. */
export function recentIncoming(limit: number): PageMessage[] {
  const { Msg } = window.require('WAWebCollections');
  const models: (PageModel & Record<string, any>)[] = Msg.getModelsArray(); // eslint-disable-line @typescript-eslint/no-explicit-any
  return models
    .filter((model) => !model.id.fromMe)
    .slice(-limit)
    .map((model) => ({
      whatsappId: model.id.id,
      chatId: model.from?._serialized ?? String(model.from),
      from: model.author?._serialized ?? model.from?._serialized ?? String(model.from),
      to: model.to?._serialized ?? String(model.to),
      type: model.type,
      text: model.body ?? '',
      timestamp: model.t,
    }));
}

/** Where the page's connection stands. */
export function connectionState(): { state: string; hasSynced: boolean } {
  const { Socket } = window.require('WAWebSocketModel');
  return { state: Socket.state, hasSynced: Socket.hasSynced === true };
}

/** Tells the library what it may have missed: it waits for a change of `hasSynced` that can come before it listens. */
export function announceSynced(): void {
  window.onAppStateHasSyncedEvent?.();
}

export function logOut(): Promise<void> {
  return window.require('WAWebSocketModel').Socket.logout();
}
