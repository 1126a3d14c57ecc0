/*
 * Functions that run inside the WhatsApp Web page. Puppeteer sends their source text, so each may use nothing from
 * outside itself; what they share lies in `window.flotilla`, which `installFlotilla` makes.
 */

/** What an attempt to send came to, as the page tells it. */
export type PageSendResult =
  | { outcome: 'known'; ack: number; whatsappId: string }
  | { outcome: 'not_registered' }
  /** There is no such group, or the account is not in it: nothing was sent. */
  | { outcome: 'no_chat'; detail: string }
  /** The page has the message and will send it by itself, as WhatsApp Web does when it is connected again. */
  | { outcome: 'pending' }
  /** The page was loaded anew and is not ready yet: nothing was done. */
  | { outcome: 'not_ready' }
  /** It was only looked for, and the page does not know it. */
  | { outcome: 'absent' }
  | { outcome: 'timed_out' };

/** An incoming message, reduced to what is stored. */
export interface PageMessage {
  whatsappId: string;
  chatId: string;
  /** The other chat id of the same person, who has a phone number and a hidden one, where the page knows it. */
  alias: string | null;
  from: string;
  to: string;
  type: string;
  text: string;
  timestamp: number;
}

/** What became of a message after it was sent. `at` is when, in milliseconds since 1970, by the clock of whoever did it. */
export type PageChange = { whatsappId: string; at: number } & (
  | { kind: 'edited'; text: string }
  | { kind: 'revoked' }
  /** `from` is a chat id, and null for this account itself; an empty emoji takes the reaction back. */
  | { kind: 'reaction'; from: string | null; emoji: string }
);

/** What somebody did to a group, as its chat shows it. */
export interface PageGroupNotice {
  kind: 'group';
  noticeId: string;
  chatId: string;
  /** WhatsApp's own word: `add`, `remove`, `leave`, `subject`, … */
  change: string;
  /** Persons, each with the other chat id where the page knows it. */
  by: { id: string; alias: string | null } | null;
  whom: { id: string; alias: string | null }[];
  /** The new subject and the like. */
  text: string;
  /** Seconds since 1970. */
  timestamp: number;
}

/** A text to be sent. */
export interface PageSend {
  chatId: string;
  text: string;
  /** The id that it gets, or has already. */
  whatsappId: string;
  /** Looks for that id in the page's storage too; for every attempt but the first. */
  thorough: boolean;
  /** Only looks: what is not there is not sent. */
  lookOnly: boolean;
  /** How long an ack is waited for. */
  timeoutMs: number;
  /** Shows the recipient "typing…" for that long before the send; 0 does not. */
  typingMs: number;
  /** Asks WhatsApp whether the number is registered, and sends nothing when it is not. */
  checkNumber: boolean;
}

/** Which message of the page is meant. */
export interface PageTarget {
  chatId: string;
  whatsappId: string;
  fromMe: boolean;
  /** The chat id of whoever wrote it, for one that came from a group. */
  author: string | null;
}

export interface PageModel {
  id: { id: string; fromMe: boolean; _serialized: string };
  ack?: number;
  type?: string;
  body?: string;
  latestEditSenderTimestampMs?: number;
  /** Of a revoked message: the one that it stands for. */
  protocolMessageKey?: { id: string };
  revokeTimestamp?: number;
  hasReaction?: boolean;
}

export interface PageChat {
  id: { _serialized: string; isLid(): boolean; isGroup?(): boolean };
  groupMetadata?: { isLidAddressingMode?: boolean };
  msgs?: { getModelsArray(): PageModel[] };
}

/** A reaction as the library hands it over. */
interface PageReaction {
  id: { fromMe: boolean };
  reactionParentKey: { id: string };
  reactionText: string;
  reactionTimestamp: number;
  senderUserJid: string;
}

export interface PageWindow {
  require(name: string): any; // eslint-disable-line @typescript-eslint/no-explicit-any -- WhatsApp's modules have no types
  WWebJS: any; // eslint-disable-line @typescript-eslint/no-explicit-any -- nor has the injected library
  onAppStateHasSyncedEvent?: () => void;
  onMessageAckEvent: (message: PageModel, ack: number) => void;
  onAddMessageEvent: (message: PageModel & Record<string, any>) => void; // eslint-disable-line @typescript-eslint/no-explicit-any
  onChangeMessageEvent: () => void;
  onChangeMessageTypeEvent: (message: PageModel) => void;
  onEditMessageEvent: (message: PageModel, text: string) => void;
  onReaction: (reactions: PageReaction[]) => void;
  onChatUnreadCountEvent: () => void;
  /** The binding that hands a batch of {@link PageEvent}s to the instance, as JSON. */
  flotillaEmit: (events: string) => void;
  flotilla?: {
    nextId: string | null;
    keyOf(chat: PageChat, id: string): string;
    aliasOf(chatId: string): string | null;
    find(key: string, thorough: boolean): Promise<PageModel | undefined>;
    locate(target: PageTarget): Promise<{ chat: PageChat; message: PageModel } | null>;
    previewOf(text: string): Promise<object>;
    revocationOf(message: PageModel): PageChange;
    noticeOf(message: PageModel): PageGroupNotice;
    send(send: PageSend): Promise<PageSendResult>;
  };
}

/** What the page tells the instance of messages. */
export type PageEvent =
  | { kind: 'ack'; whatsappId: string; ack: number }
  | { kind: 'message'; message: PageMessage }
  | PageChange
  | PageGroupNotice;

/** What is used of an element of the page. */
interface PageElement {
  innerText: string;
  click(): void;
  getAttribute(name: string): string | null;
  getClientRects(): ArrayLike<unknown>;
  querySelectorAll(selector: string): Iterable<PageElement>;
}

declare const window: PageWindow;
declare const document: PageElement;

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

  /** A typing indicator delays no message: it is not waited for, and one that fails is missed by nobody. */
  const showTyping = async (chat: PageChat, ms: number) => {
    const show = (state: string) => {
      window.WWebJS.sendChatstate(state, chat.id._serialized).catch(() => undefined);
    };
    show('typing');
    await new Promise((resolve) => setTimeout(resolve, ms));
    show('stop');
  };

  /** What the library's own link preview adds to a message, within a time of its own: a slow site delays no message long. */
  const previewOf = async (text: string): Promise<object> => {
    const link = window.require('WALinkify').findLink(text);
    if (!link) return {};
    const preview = window.require('WAWebLinkPreviewChatAction').getLinkPreview(link);
    const late = new Promise<null>((resolve) => setTimeout(() => resolve(null), 3_000));
    const found = await Promise.race([preview, late]).catch(() => null);
    return found?.data ? { ...found.data, preview: true, subtype: 'url' } : {};
  };

  const flotilla: NonNullable<PageWindow['flotilla']> = {
    nextId: null,
    previewOf,
    revocationOf: ({ id, protocolMessageKey, revokeTimestamp }) => ({
      kind: 'revoked',
      whatsappId: protocolMessageKey?.id ?? id.id,
      at: revokeTimestamp ? revokeTimestamp * 1000 : Date.now(),
    }),
    noticeOf: (message) => {
      const { id, author, recipients, subtype, body, t } = message as PageModel & Record<string, any>; // eslint-disable-line @typescript-eslint/no-explicit-any
      const person = (wid: { _serialized?: string }) => {
        const chatId = wid._serialized ?? String(wid);
        return { id: chatId, alias: flotilla.aliasOf(chatId) };
      };
      const remote = (id as Record<string, any>)['remote']; // eslint-disable-line @typescript-eslint/no-explicit-any
      return {
        kind: 'group',
        noticeId: id.id,
        chatId: remote._serialized ?? String(remote),
        change: String(subtype),
        by: author ? person(author) : null,
        whom: (recipients ?? []).map(person),
        text: body ?? '',
        timestamp: Number(t),
      };
    },
    locate: async ({ chatId, whatsappId, fromMe, author }) => {
      const chat: PageChat | null = await window.WWebJS.getChat(chatId, { getAsModel: false }).catch(
        () => null,
      );
      if (!chat) return null;
      // The page may know the chat under another address than the one that the message came with.
      const held = chat.msgs?.getModelsArray().find(({ id }) => id.id === whatsappId && id.fromMe === fromMe);
      if (held) return { chat, message: held };
      const participant = author && window.require('WAWebWidFactory').createWid(author);
      const key = fromMe
        ? flotilla.keyOf(chat, whatsappId)
        : new MsgKey({
            fromMe: false,
            remote: chat.id,
            id: whatsappId,
            ...(participant ? { participant } : {}),
          })._serialized;
      const message = await flotilla.find(key, true);
      return message ? { chat, message } : null;
    },
    aliasOf: (chatId) => {
      if (!chatId.endsWith('@c.us') && !chatId.endsWith('@lid')) return null;
      try {
        const wid = window.require('WAWebWidFactory').createWid(chatId);
        const { getCurrentLid, getPhoneNumber } = window.require('WAWebApiContact');
        return (chatId.endsWith('@lid') ? getPhoneNumber(wid) : getCurrentLid(wid))?._serialized ?? null;
      } catch {
        // A message without its sender's other id is better than no message.
        return null;
      }
    },
    // The key exactly as the library's sendMessage makes it: in a group it names the participant too.
    keyOf: (chat, id) => {
      const { getMaybeMeLidUser, getMaybeMePnUser } = window.require('WAWebUserPrefsMeUser');
      const isGroup = typeof chat.id.isGroup === 'function' && chat.id.isGroup();
      const usesLid = isGroup ? chat.groupMetadata?.isLidAddressingMode : chat.id.isLid();
      const from = usesLid ? getMaybeMeLidUser() : getMaybeMePnUser();
      const participant = isGroup ? window.require('WAWebWidFactory').asUserWidOrThrow(from) : undefined;
      return new MsgKey({ from, to: chat.id, id, participant, selfDir: 'out' })._serialized;
    },
    // A page that was reloaded has its older messages in storage only.
    find: async (key, thorough) =>
      Msg.get(key) ?? (thorough ? (await Msg.getMessagesById([key]))?.messages?.[0] : undefined),
    send: async ({ chatId, text, whatsappId: id, thorough, lookOnly, timeoutMs, typingMs, checkNumber }) => {
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
        if (await isRegistered(chatId)) throw failure;
        return { outcome: 'not_registered' };
      }

      const key = flotilla.keyOf(chat, id);
      let message = await flotilla.find(key, thorough);
      // A hidden number cannot be asked for; whoever has one wrote from it.
      if (!message && lookOnly) return { outcome: 'absent' };
      if (!message && checkNumber && chatId.endsWith('@c.us') && !(await isRegistered(chatId)))
        return { outcome: 'not_registered' };
      if (!message && typingMs > 0) await showTyping(chat, typingMs);
      const deadline = Date.now() + timeoutMs;
      if (!message) {
        const preview = await previewOf(text);
        let timer;
        const timeout = new Promise<'timeout'>((resolve) => {
          timer = setTimeout(() => resolve('timeout'), timeoutMs);
        });
        try {
          // Without a preview to make, sendMessage asks for the id before it awaits anything: nobody else can take it.
          flotilla.nextId = id;
          const sending = window.WWebJS.sendMessage(chat, text, { ...preview, waitUntilMsgSent: true });
          flotilla.nextId = null;
          const sent = await Promise.race([sending, timeout]);
          message = sent === 'timeout' ? await flotilla.find(key, false) : sent;
        } finally {
          clearTimeout(timer);
        }
      }
      // A message that is known but has no ack yet is on its way: WhatsApp sends it again by itself after a reconnect.
      while (message && (message.ack ?? 0) === 0 && Date.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        message = await flotilla.find(key, false);
      }
      if (!message) return { outcome: 'timed_out' };
      if ((message.ack ?? 0) === 0) return { outcome: 'pending' };
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
    // What was revoked before it came here leaves a mark, which is no message.
    if (message.type === 'revoked') return tell(flotilla.revocationOf(message));
    if (message.type === 'gp2') return tell(flotilla.noticeOf(message));
    if (message.id.fromMe) return;
    const { from, to, author, type, body, t } = message;
    const serialized = (wid: unknown) =>
      (wid as { _serialized?: string } | undefined)?._serialized ?? (wid as string);
    tell({
      kind: 'message',
      message: {
        whatsappId: message.id.id,
        chatId: serialized(from),
        alias: flotilla.aliasOf(serialized(from)),
        from: serialized(author ?? from),
        to: serialized(to),
        type: type!,
        text: body ?? '',
        timestamp: Number(t),
      },
    });
  };
  window.onChangeMessageTypeEvent = (message) => {
    if (message.type === 'revoked') tell(flotilla.revocationOf(message));
  };
  window.onEditMessageEvent = ({ id, type, latestEditSenderTimestampMs: at }, text) => {
    // A revoked message loses its text too.
    if (type !== 'revoked')
      tell({ kind: 'edited', whatsappId: id.id, text: text ?? '', at: at ?? Date.now() });
  };
  window.onReaction = (reactions) => {
    for (const { id, reactionParentKey, reactionText, reactionTimestamp, senderUserJid } of reactions) {
      tell({
        kind: 'reaction',
        whatsappId: reactionParentKey.id,
        from: id.fromMe ? null : senderUserJid,
        emoji: reactionText ?? '',
        at: reactionTimestamp,
      });
    }
  };
  window.onChangeMessageEvent = () => undefined;
  window.onChatUnreadCountEvent = () => undefined;
}

/** Sends a text under a given id, unless the page knows that id already: then it says how far that message got. */
export function sendText(send: PageSend): Promise<PageSendResult> {
  if (!window.flotilla) return Promise.resolve({ outcome: 'not_ready' });
  return window.flotilla.send(send);
}

/** How far messages got that this account sent, by their ids; those the page does not know are left out. */
export async function acksOf(
  messages: { chatId: string; whatsappId: string }[],
): Promise<{ whatsappId: string; ack: number }[]> {
  const found: { whatsappId: string; ack: number }[] = [];
  for (const { chatId, whatsappId } of messages) {
    const chat = await window.WWebJS.getChat(chatId, { getAsModel: false }).catch(() => null);
    const message = chat && (await window.flotilla!.find(window.flotilla!.keyOf(chat, whatsappId), true));
    if (message) found.push({ whatsappId, ack: message.ack ?? 0 });
  }
  return found;
}

/** The latest incoming messages that the page holds: those that came while nobody listened are among them. */
export function recentIncoming(limit: number): PageMessage[] {
  const { Msg } = window.require('WAWebCollections');
  const models: (PageModel & Record<string, any>)[] = Msg.getModelsArray(); // eslint-disable-line @typescript-eslint/no-explicit-any
  return models
    .filter((model) => !model.id.fromMe && model.type !== 'revoked' && model.type !== 'gp2')
    .slice(-limit)
    .map((model) => ({
      whatsappId: model.id.id,
      chatId: model.from?._serialized ?? String(model.from),
      alias: window.flotilla?.aliasOf(model.from?._serialized ?? String(model.from)) ?? null,
      from: model.author?._serialized ?? model.from?._serialized ?? String(model.from),
      to: model.to?._serialized ?? String(model.to),
      type: String(model.type),
      text: model.body ?? '',
      timestamp: model.t,
    }));
}

/** What was done to groups since a time (seconds since 1970), of what the page holds, oldest first. */
export function recentNotices(since: number, limit: number): PageGroupNotice[] {
  const { flotilla } = window;
  if (!flotilla) return [];
  const models: (PageModel & { t?: number })[] = window.require('WAWebCollections').Msg.getModelsArray();
  return models
    .filter(({ type, t }) => type === 'gp2' && Number(t) >= since)
    .slice(-limit)
    .map((model) => flotilla.noticeOf(model));
}

/** Whether this load of the page has what {@link installFlotilla} makes. */
export function hasFlotilla(): boolean {
  return window.flotilla !== undefined;
}

/** Where the page's connection stands. */
export function connectionState(): { state: string; hasSynced: boolean } {
  const { Socket } = window.require('WAWebSocketModel');
  return { state: Socket.state, hasSynced: Socket.hasSynced === true };
}

/**
 * Looks for a dialog that WhatsApp Web shows ("what's new" and the like), and presses it away when that agrees to nothing.
 * @returns its text, and the label of what was pressed; null when there is none
 */
export function lookForDialog(mayPress: boolean): { text: string; pressed: string | null } | null {
  const isShown = (element: PageElement) => element.getClientRects().length > 0;
  const dialogs = [...document.querySelectorAll('div[role="dialog"], [data-animate-modal-popup]')].filter(
    isShown,
  );
  const dialog = dialogs.at(-1);
  if (!dialog) return null;
  const labelOf = (element: PageElement) =>
    (element.getAttribute('aria-label') ?? element.innerText).replace(/\s+/g, ' ').trim();
  const text = dialog.innerText.replace(/\s+/g, ' ').trim();
  const buttons = [...dialog.querySelectorAll('button, [role="button"]')].filter(isShown);
  const find = (labels: RegExp) => buttons.find((button) => labels.test(labelOf(button)));

  // "Use here" takes the account from another browser, and to close that dialog gives it up: neither is ours to do.
  const isConflict = find(/^use here$/i) !== undefined;
  const asksForMore =
    /\blog(ged)?[ -]?out\b|\bunlink|\bdelete|\bremove|\b(phone|your|new) number\b|\breset\b/i.test(text);
  const away = find(/^(not now|maybe later|later|skip|dismiss|close)$/i);
  // These agree to whatever the dialog says.
  const onward = asksForMore ? undefined : find(/^(continue|ok|okay|got it|done)$/i);
  const button = isConflict ? undefined : (onward ?? away);
  if (!mayPress || !button) return { text, pressed: null };
  button.click();
  return { text, pressed: labelOf(button) };
}

/** Tells the library what it may have missed: it waits for a change of `hasSynced` that can come before it listens. */
export function announceSynced(): void {
  window.onAppStateHasSyncedEvent?.();
}

/** Makes the page's connection anew; it sends again, under the same ids, what has no ack yet. */
export function reconnectSocket(): void {
  window.require('WAWebSocketModel').Socket.reconnect();
}

export function logOut(): Promise<void> {
  return window.require('WAWebSocketModel').Socket.logout();
}
