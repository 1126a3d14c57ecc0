import type { PageFlotilla, PagePerson, PageWindow } from './page-functions.js';

/*
 * Who is online and who types, inside the WhatsApp Web page. See page-functions.ts for the rules of such functions.
 */

/** What the other side of a chat does now. */
export interface PagePresence {
  /** As `findChat` returned it. */
  chatId: string;
  alias: string | null;
  state: 'available' | 'unavailable' | 'typing' | 'recording' | 'unknown';
  /** In a group: who types or records. */
  who: PagePerson | null;
  /** Seconds since 1970. Null while the person is online, and if WhatsApp does not tell it. */
  lastSeen: number | null;
}

export type PageWatchResult =
  | { outcome: 'watched'; presence: PagePresence }
  /** This page has no presence as Flotilla knows it. */
  | { outcome: 'unsupported' }
  /** The page already watches as many chats as it may. */
  | { outcome: 'too_many' };

declare const window: PageWindow;

/**
 * Watches a chat for a time, and reports each change. Another call for the same chat sets the time anew. While the page watches, the
 * account shows itself as online, because WhatsApp tells others only then.
 * @param chatId as `findChat` returned it
 */
export async function watchPresence(chatId: string, ms: number, maxChats: number): Promise<PageWatchResult> {
  const flotilla: PageFlotilla = window.flotilla!;
  const { Stream } = window.require('WAWebStreamModel');
  const presence = window.require('WAWebCollections').Chat.get(chatId)?.presence;
  if (typeof presence?.subscribe !== 'function') return { outcome: 'unsupported' };
  const watches = (flotilla.watches ??= new Map<string, ReturnType<typeof setInterval>>());
  if (!watches.has(chatId) && watches.size >= maxChats) return { outcome: 'too_many' };

  const states: Record<string, PagePresence['state']> = {
    composing: 'typing',
    typing: 'typing',
    recording: 'recording',
    recording_audio: 'recording',
    available: 'available',
    unavailable: 'unavailable',
  };
  const read = (): PagePresence => {
    const members = chatId.endsWith('@g.us') ? (presence.chatstates?.getModelsArray() ?? []) : [];
    const active = members.find(({ type }) => ['typing', 'recording'].includes(states[String(type)] ?? ''));
    const { type, t, deny } = active ?? presence.chatstate ?? {};
    const state = presence.hasData === false ? 'unknown' : (states[String(type)] ?? 'unknown');
    const isGone = state === 'unavailable' && deny !== true && Number(t) > 0;
    return {
      chatId,
      alias: flotilla.aliasOf(chatId),
      state,
      who: active ? flotilla.personOf(active.id._serialized ?? String(active.id)) : null,
      lastSeen: isGone ? Number(t) : null,
    };
  };

  Stream.markAvailable();
  await presence.subscribe();
  // WhatsApp's answer comes a moment after the subscription. It gives none for groups.
  for (let tries = 0; tries < 20 && presence.hasData === false && !chatId.endsWith('@g.us'); tries += 1)
    await new Promise((resolve) => setTimeout(resolve, 100));
  const now = read();
  let last = JSON.stringify(now);
  clearInterval(watches.get(chatId));
  const until = Date.now() + ms;
  // Builds differ in the events of presence. What they hold is the same.
  const timer = setInterval(() => {
    if (Date.now() >= until) {
      clearInterval(timer);
      if (watches.get(chatId) === timer) watches.delete(chatId);
      if (watches.size === 0) Stream.markUnavailable();
      return;
    }
    const changed = read();
    if (JSON.stringify(changed) === last) return;
    last = JSON.stringify(changed);
    window.flotillaEmit(JSON.stringify([{ kind: 'presence', ...changed }]));
  }, 250);
  watches.set(chatId, timer);
  return { outcome: 'watched', presence: now };
}
