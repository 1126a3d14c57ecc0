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
  onMessageAckEvent: (message: PageModel, ack: number) => void;
  onAddMessageEvent: (message: PageModel & Record<string, string>) => void;
  onChangeMessageEvent: () => void;
  onChatUnreadCountEvent: () => void;
  /** The binding that hands a batch of {@link PageEvent}s to the instance, as JSON. */
  flotillaEmit: (events: string) => void;
  flotilla?: {
    nextId: string | null;
    find(key: string, thorough: boolean): Promise<PageModel | undefined>;
    send(
      chatId: string,
      text: string,
      id: string,
      thorough: boolean,
      timeoutMs: number,
    ): Promise<PageSendResult>;
  };
}

/** What the page tells the instance of messages. */
export type PageEvent =
  { kind: 'ack'; whatsappId: string; ack: number } | { kind: 'message'; message: PageMessage };

declare const window: PageWindow;

/**
 * Makes `window.flotilla`, once a page load, when the library has attached its listeners:
 * - patches `WAWebMsgKey.newId`, so that a send uses the id that was made for its message before the first attempt;
 * - takes over the events that we need from the library's listeners and tells them in batches over one binding. The
 *   library makes a round trip of each, and of events that nobody here listens to: more work than the send itself.
 */
export function installFlotilla(gatherMs: number): void {
  if (window.flotilla) return;
  const MsgKey = window.require('WAWebMsgKey');
  const { Msg } = window.require('WAWebCollections');
  const newId = MsgKey.newId.bind(MsgKey);
  MsgKey.newId = () => {
    const fixed = flotilla.nextId;
    flotilla.nextId = null;
    return fixed ? Promise.resolve(fixed) : newId();
  };

  const isRegistered = async (chatId: string) => {
    const wid = window.require('WAWebWidFactory').createWid(chatId);
    if (typeof wid.isUser === 'function' && !wid.isUser()) return true;
    const found = await window.require('WAWebQueryExistsJob').queryWidExists(wid);
    return found?.wid !== undefined;
  };

  const flotilla: NonNullable<PageWindow['flotilla']> = {
    nextId: null,
    // A page that was reloaded has its older messages in storage only.
    find: async (key, thorough) =>
      Msg.get(key) ?? (thorough ? (await Msg.getMessagesById([key]))?.messages?.[0] : undefined),
    send: async (chatId, text, id, thorough, timeoutMs) => {
      let chat: { id: { _serialized: string } } | undefined;
      try {
        chat = await window.WWebJS.getChat(chatId, { getAsModel: false });
      } catch (error) {
        if (await isRegistered(chatId)) throw error;
      }
      if (!chat) return { outcome: 'not_registered' };

      const key = `true_${chat.id._serialized}_${id}`;
      const deadline = Date.now() + timeoutMs;
      let message = await flotilla.find(key, thorough);
      if (!message) {
        flotilla.nextId = id;
        let timer;
        const timeout = new Promise<'timeout'>((resolve) => {
          timer = setTimeout(() => resolve('timeout'), timeoutMs);
        });
        try {
          const sending = window.WWebJS.sendMessage(chat, text, {
            linkPreview: true,
            waitUntilMsgSent: true,
          });
          const sent = await Promise.race([sending, timeout]);
          message = sent === 'timeout' ? await flotilla.find(key, false) : sent;
        } finally {
          clearTimeout(timer);
          flotilla.nextId = null;
        }
      }
      // A message that is known but has no ack yet is on its way: WhatsApp sends it again by itself after a reconnect.
      while (message && (message.ack ?? 0) === 0 && Date.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        message = await flotilla.find(key, false);
      }
      if (!message || (message.ack ?? 0) === 0) return { outcome: 'timed_out' };
      return { outcome: 'known', ack: message.ack ?? 0, whatsappId: message.id.id };
    },
  };
  window.flotilla = flotilla;

  let events: PageEvent[] = [];
  const tell = (event: PageEvent) => {
    if (events.push(event) > 1) return;
    setTimeout(() => {
      window.flotillaEmit(JSON.stringify(events));
      events = [];
    }, gatherMs);
  };
  window.onMessageAckEvent = (message, ack) => {
    if (message.id.fromMe) tell({ kind: 'ack', whatsappId: message.id.id, ack });
  };
  window.onAddMessageEvent = (message) => {
    if (message.id.fromMe) return;
    const { from, to, author, type, body, t } = message;
    const serialized = (wid: unknown) =>
      (wid as { _serialized?: string } | undefined)?._serialized ?? (wid as string);
    tell({
      kind: 'message',
      message: {
        whatsappId: message.id.id,
        chatId: serialized(from),
        from: serialized(author ?? from),
        to: serialized(to),
        type: type!,
        text: body ?? '',
        timestamp: Number(t),
      },
    });
  };
  window.onChangeMessageEvent = () => undefined;
  window.onChatUnreadCountEvent = () => undefined;
}

/**
 * Sends a text under a given id, unless the page knows that id already: then it says how far that message got.
 * @param thorough looks into the page's storage too; for every attempt but the first
 */
export function sendText(
  chatId: string,
  text: string,
  id: string,
  thorough: boolean,
  timeoutMs: number,
): Promise<PageSendResult> {
  return window.flotilla!.send(chatId, text, id, thorough, timeoutMs);
}

/** How far messages got that this account sent, by their ids; those the page does not know are left out. */
export async function acksOf(
  messages: { chatId: string; whatsappId: string }[],
): Promise<{ whatsappId: string; ack: number }[]> {
  const found: { whatsappId: string; ack: number }[] = [];
  for (const { chatId, whatsappId } of messages) {
    const message = await window.flotilla!.find(`true_${chatId}_${whatsappId}`, true);
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
