import type { PageCallModel } from './page-modules.js';
import type { PageFlotilla, PageModel, PagePerson, PageWindow } from './page-functions.js';

/*
 * Calls, inside the WhatsApp Web page. See page-functions.ts for the rules of such functions.
 */

/** A call to the account. */
export interface PageCall {
  callId: string;
  /** `missed`: nobody took it. A page does not tell such a call from one that was rejected on another device. */
  state: 'ringing' | 'missed';
  from: PagePerson;
  /** The caller's name in the address book; without such a name, the name that the caller has set. */
  fromName: string | null;
  /** The group that was called, if WhatsApp Web tells it. */
  group: { id: string; subject: string | null } | null;
  isGroupCall: boolean;
  isVideo: boolean;
  /** When it began, in seconds since 1970. Null if the page does not tell it, and the call may be an old one. */
  timestamp: number | null;
}

/** `over`: the page has no such call any more. `unsupported`: this page has no rejection as Flotilla knows it. */
export type PageRejection = 'rejected' | 'over' | 'unsupported';

declare const window: PageWindow;

/**
 * Adds the reading of calls to `window.flotilla` and reports each call, once per page load.
 * @param correctionMs how long the page may take to correct the outcome of a call
 */
export function installCalls(correctionMs: number): void {
  const flotilla: PageFlotilla = window.flotilla!;
  if (flotilla.calls) return;
  const serialized = (wid: { _serialized?: string }) => wid._serialized ?? String(wid);
  const nameOf = (chatId: string, pushname: string | undefined) => {
    try {
      const contact = flotilla.contactOf?.(chatId);
      return contact?.name || pushname || contact?.pushname || null;
    } catch {
      // A call without the name of its caller is better than no call.
      return pushname || null;
    }
  };
  const groupOf = (id: string) => {
    const chat = window.require('WAWebCollections').Chat.get(id);
    return { id, subject: chat?.groupMetadata?.subject || chat?.formattedTitle || chat?.name || null };
  };
  const secondsOf = (time: unknown) => (Number(time) > 0 ? Number(time) : null);
  /** The time of a call without one: what the page tells while it is connected and has caught up is new. */
  const now = () => {
    if (window.require('WAWebSocketModel').Socket.state !== 'CONNECTED') return null;
    try {
      const handler = flotilla.optional('WAWebOfflineHandler')?.OfflineMessageHandler;
      return (handler?.isResumeComplete?.() ?? true) ? Date.now() / 1000 : null;
    } catch {
      return null;
    }
  };

  flotilla.calls = {
    held: () => {
      const collection = flotilla.optional('WAWebCallCollection');
      const maps = Object.values(collection ?? {}).filter((value) => value instanceof Map);
      const values = maps.flatMap((map) => [...(map as Map<unknown, PageCallModel | null>).values()]);
      return values.filter((value) => typeof value === 'object' && value !== null);
    },
    ringing: (call, isNew) => {
      if (call.outgoing === true || !call.peerJid || typeof call.id !== 'string') return null;
      const from = serialized(call.peerJid);
      const group = call.groupJid ? serialized(call.groupJid) : from.endsWith('@g.us') ? from : null;
      return {
        callId: call.id,
        state: 'ringing',
        from: flotilla.personOf(from),
        fromName: from === group ? null : nameOf(from, undefined),
        group: group === null ? null : groupOf(group),
        isGroupCall: call.isGroup === true || group !== null,
        isVideo: call.isVideo === true,
        timestamp: secondsOf(call.offerTime) ?? (isNew ? now() : null),
      };
    },
    missed: (message) => {
      const outcomes = flotilla.optional('WAWebCallLogMsgData.flow')?.CallOutcome;
      const { id, callOutcome, author, from, notifyName, isVideoCall, t } = message;
      const missed = outcomes?.Missed ?? 'Missed';
      if (message.type !== 'call_log' || id.fromMe || callOutcome !== missed) return null;
      if (flotilla.rejectedCalls?.has(id.id)) return null;
      const chatId = serialized(id.remote);
      const isGroup = chatId.endsWith('@g.us');
      const caller = serialized(author ?? id.participant ?? from ?? id.remote);
      return {
        callId: id.id,
        state: 'missed',
        from: flotilla.personOf(caller),
        fromName: nameOf(caller, notifyName),
        group: isGroup ? groupOf(chatId) : null,
        isGroupCall: isGroup || message.isGroupCall === true,
        isVideo: isVideoCall === true,
        timestamp: secondsOf(t),
      };
    },
  };

  const report = (call: PageCall | null) => {
    if (call) window.flotillaEmit(JSON.stringify([{ kind: 'call', ...call }]));
  };
  // The library reports a call before the page has it, and without its time.
  window.onIncomingCall = (told) => {
    setTimeout(() => {
      const held = flotilla.calls!.held().find(({ id }) => id === told.id);
      report(flotilla.calls!.ringing(held ?? told, true));
    }, 0);
  };
  // The page may first take a call that another device has answered for a missed one.
  const look = (message: PageModel) => {
    if (message.type === 'call_log') setTimeout(() => report(flotilla.calls!.missed(message)), correctionMs);
  };
  const { Msg } = window.require('WAWebCollections');
  Msg.on('add', look);
  Msg.on('change:callOutcome', look);
}

/**
 * The calls that the page holds: those that ring, and missed ones.
 * @param since seconds since 1970
 * @param limit how many missed calls, the latest
 */
export function recentCalls(since: number, limit: number): PageCall[] {
  const { flotilla } = window;
  const calls = flotilla?.calls;
  if (!flotilla || !calls) return [];
  const logs = window
    .require('WAWebCollections')
    .Msg.getModelsArray()
    .filter(({ type, t }) => type === 'call_log' && Number(t) >= since)
    .slice(-limit);
  const missed = flotilla.each('calls', logs, calls.missed);
  const ringing = flotilla.each('calls', calls.held(), (call) => calls.ringing(call, false), limit);
  return [...missed, ...ringing].filter((call) => call !== null);
}

/** Rejects a call that rings. @param peer the chat id of the caller */
export async function rejectCall(callId: string, peer: string): Promise<PageRejection> {
  const flotilla: PageFlotilla = window.flotilla!;
  const canReject =
    typeof window.WWebJS.rejectCall === 'function' &&
    typeof flotilla.optional('WAWap')?.wap === 'function' &&
    typeof flotilla.optional('WADeprecatedSendIq')?.deprecatedCastStanza === 'function';
  if (!canReject || !flotilla.calls) return 'unsupported';
  if (!flotilla.calls.held().some(({ id }) => id === callId)) return 'over';
  // The page itself notes a call that was rejected as a missed one.
  const rejected = (flotilla.rejectedCalls ??= new Set<string>());
  rejected.add(callId);
  if (rejected.size > 1_000) rejected.delete(rejected.values().next().value!);
  try {
    await window.WWebJS.rejectCall(peer, callId);
    return 'rejected';
  } catch (error) {
    rejected.delete(callId);
    throw error;
  }
}
