import type {
  PageEvent,
  PageFlotilla,
  PageMessage,
  PageModel,
  PageSource,
  PageWindow,
} from './page-functions.js';
import type { PageWidLike } from './page-modules.js';

/*
 * The events that the WhatsApp Web page reports. See page-functions.ts for the rules of such functions.
 */

declare const window: PageWindow;

/**
 * Replaces the library's listeners and reports the needed events in batches over one binding, once per page load. The library
 * makes a round trip for each event, even for unused events, and that costs more than the send itself.
 * @param gatherMs how long to collect events for a batch
 * @param noticeTypes WhatsApp's types of notices, which no person wrote
 */
export function installEvents(gatherMs: number, noticeTypes: readonly string[]): void {
  const flotilla: PageFlotilla = window.flotilla!;
  if (flotilla.messageOf) return;
  const notices = new Set(noticeTypes);
  flotilla.notices = notices;

  const serialized = (wid: PageWidLike | undefined) => wid?._serialized ?? String(wid);

  const nameOf = (writer: string, pushname: string | undefined) => {
    try {
      const contact = flotilla.contactOf?.(writer);
      return contact?.name || pushname || contact?.pushname || null;
    } catch {
      // A message without the name of its author is better than no message.
      return pushname || null;
    }
  };
  const channelNameOf = (channelId: string) => {
    const chat = window.require('WAWebCollections').WAWebNewsletterCollection?.get(channelId);
    return chat?.name || chat?.formattedTitle || null;
  };
  const subjectOf = (groupId: string) => {
    const chat = window.require('WAWebCollections').Chat.get(groupId);
    return chat?.groupMetadata?.subject || chat?.formattedTitle || chat?.name || null;
  };

  flotilla.messageOf = (model) => {
    const { id, from, to, author, type, body, t, directPath, mimetype, size, filename } = model;
    const { fromMe } = id;
    const source = flotilla.sourceOf(model);
    const chatId = source === 'stories' ? 'status@broadcast' : serialized(fromMe ? id.remote : from);
    const writer = serialized(author ?? id.participant ?? from);
    const isMedia = typeof directPath === 'string' && directPath !== '';
    const quoted = model.quotedStanzaID;
    const number = (value: unknown) => (Number.isFinite(Number(value)) ? Number(value) : null);
    // The bodies of these types are not text but, for example, a card or a small picture of the place.
    const isShown = !['vcard', 'multi_vcard', 'location', 'live_location', 'poll_creation'].includes(
      type ?? '',
    );
    const cards = (model.vcardList ?? []).map(({ vcard }) => String(vcard));
    return {
      whatsappId: id.id,
      fromMe,
      ack: Number(model.ack ?? 0),
      chatId,
      source,
      alias: flotilla.aliasOf(chatId),
      from: writer,
      fromAlias: flotilla.aliasOf(writer),
      fromName: fromMe
        ? null
        : chatId.endsWith('@newsletter')
          ? channelNameOf(chatId)
          : nameOf(writer, model.notifyName),
      subject: chatId.endsWith('@g.us') ? subjectOf(chatId) : null,
      to: serialized(to),
      type: String(type),
      text: isShown ? flotilla.textOf(model) : '',
      timestamp: Number(t),
      media: isMedia
        ? {
            mimetype: String(mimetype ?? 'application/octet-stream'),
            size: number(size),
            filename: typeof filename === 'string' ? filename : null,
          }
        : null,
      location:
        type === 'location' || type === 'live_location'
          ? {
              latitude: Number(model.lat),
              longitude: Number(model.lng),
              description: typeof model.loc === 'string' && model.loc !== '' ? model.loc : null,
            }
          : null,
      vcards: type === 'vcard' ? [body ?? ''] : type === 'multi_vcard' ? cards : [],
      poll:
        type === 'poll_creation'
          ? {
              question: String(model.pollName ?? ''),
              options: (model.pollOptions ?? []).map(({ name }) => String(name)),
              multiple: model.pollSelectableOptionsCount !== 1,
            }
          : null,
      quoted: typeof quoted === 'string' && quoted !== '' ? quoted : null,
      mentions: (model.mentionedJidList ?? []).map((wid) => {
        const mentioned = serialized(wid);
        return (mentioned.endsWith('@lid') && flotilla.aliasOf(mentioned)) || mentioned;
      }),
      isViewOnce: model.isViewOnce === true,
      isGif: type === 'gif' || model.isGif === true,
    };
  };

  let events: PageEvent[] = [];
  const report = (event: PageEvent) => {
    if (events.push(event) > 1) return;
    setTimeout(() => {
      window.flotillaEmit(JSON.stringify(events));
      events = [];
    }, gatherMs);
  };
  window.onMessageAckEvent = (message, ack) => {
    // Nobody says that a story or a post was delivered, and that the page gave it up does not say that it did not leave.
    if (ack !== 1 && flotilla.sourceOf(message) !== null) return;
    if (message.id.fromMe) report({ kind: 'ack', whatsappId: message.id.id, ack });
  };
  window.onAddMessageEvent = (message) => {
    // A message that was revoked before it arrived leaves a mark, which is not a message.
    if (message.type === 'revoked') return report(flotilla.revocationOf(message));
    if (message.type === 'gp2') return report(flotilla.noticeOf(message));
    reportMessage(message);
  };
  const reportMessage = (message: PageModel) => {
    if (notices.has(String(message.type))) return;
    if (!message.id.fromMe || flotilla.isFromElsewhere(message))
      report({ kind: 'message', message: flotilla.messageOf!(message) });
  };
  // Nothing waits for a message that the page cannot decrypt yet: it comes when its type changes.
  window.onAddMessageCiphertextEvent = () => undefined;
  window.onCiphertextFailedEvent = ({ id }) => {
    const text = `WhatsApp Web cannot decrypt the message ${id.id} yet. It is stored when WhatsApp Web can.`;
    report({ kind: 'warning', text });
  };
  window.onChangeMessageTypeEvent = (message) => {
    if (message.type === 'revoked') report(flotilla.revocationOf(message));
    // The page can decrypt it now. After a reload of the page, the library does not notice that.
    else reportMessage(message);
  };
  window.onEditMessageEvent = (message) => {
    const { id, type, latestEditMsgKey, latestEditSenderTimestampMs: at } = message;
    // The text also changes when a message is revoked, when it is decrypted late, and when a picture gets its preview.
    if (type === 'revoked' || (!latestEditMsgKey && !at)) return;
    report({ kind: 'edited', whatsappId: id.id, text: flotilla.textOf(message), at: at ?? Date.now() });
  };
  const { Msg } = window.require('WAWebCollections');
  const { rekeyed } = flotilla;
  const rekey = (oldKey: object, newKey: object) => {
    rekeyed.set(String(oldKey), String(newKey));
    if (rekeyed.size > 5_000) rekeyed.delete(rekeyed.keys().next().value!);
  };
  for (const { id, protocolMessageKey } of Msg.getModelsArray())
    if (protocolMessageKey) rekey(protocolMessageKey, id);
  // A revoked message gets a new key. Older pages name the old key only here.
  Msg.on('change:msgKey', ({ newKey, oldKey }) => {
    rekey(oldKey, newKey);
    const message = Msg.get(String(newKey));
    if (message?.type === 'revoked') report({ ...flotilla.revocationOf(message), whatsappId: oldKey.id });
  });
  window.onReaction = (reactions) => {
    for (const { id, reactionParentKey, reactionText, reactionTimestamp, senderUserJid } of reactions) {
      report({
        kind: 'reaction',
        whatsappId: reactionParentKey.id,
        from: id.fromMe ? null : flotilla.personOf(senderUserJid),
        emoji: reactionText ?? '',
        at: reactionTimestamp,
      });
    }
  };
  window.onPollVoteEvent = (votes) => {
    for (const vote of votes) {
      // Only a page that has the poll can read its votes.
      if (!vote.parentMessage) continue;
      report({
        kind: 'vote',
        whatsappId: vote.parentMsgKey.id,
        from: vote.id?.fromMe ? null : flotilla.personOf(vote.senderUserJid),
        options: flotilla.optionsOf(vote.parentMessage, vote.selectedOptionLocalIds),
        at: vote.senderTimestampMs,
      });
    }
  };
  window.onChangeMessageEvent = () => undefined;
  window.onChatUnreadCountEvent = () => undefined;
}

/**
 * The latest incoming messages that the page holds, including those that arrived while nothing listened, with some of this account, in
 * the order of the page: WhatsApp's times have whole seconds only.
 * @param sources which messages outside of chats to read too
 * @param ownIds the WhatsApp ids of the messages of this account
 */
export function recentMessages(limit: number, sources: PageSource[], ownIds: string[]): PageMessage[] {
  const { flotilla } = window;
  if (!flotilla?.messageOf) return [];
  const own = new Set(ownIds);
  const models = window.require('WAWebCollections').Msg.getModelsArray();
  const incoming = models.filter((model) => {
    if (model.id.fromMe || flotilla.notices!.has(String(model.type))) return false;
    const source = flotilla.sourceOf(model);
    return source === null || sources.includes(source);
  });
  const wanted = new Set(incoming.slice(-limit));
  const found = models.filter((model) => wanted.has(model) || (model.id.fromMe && own.has(model.id.id)));
  return flotilla.each('messages', found, flotilla.messageOf);
}

/**
 * The ids of the latest messages of this account that the page holds and may not have sent itself. Most of them were sent by an earlier
 * page of the same account.
 * @param since seconds since 1970
 */
export function recentOwnIds(since: number, limit: number): string[] {
  const { flotilla } = window;
  if (!flotilla?.messageOf) return [];
  return window
    .require('WAWebCollections')
    .Msg.getModelsArray()
    .filter((model) => flotilla.isFromElsewhere(model) && !flotilla.notices!.has(String(model.type)))
    .filter(({ t }) => Number(t) >= since)
    .slice(-limit)
    .map(({ id }) => id.id);
}
