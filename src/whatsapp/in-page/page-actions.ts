import type { MessageTarget } from '../message-target.js';
import type { PageChange, PagePerson, PageWindow } from './page-functions.js';

/*
 * Changes sent messages and reads their changes, inside the WhatsApp Web page. See page-functions.ts for the rules of such
 * functions.
 */

/** A change of a message to make. */
export type PageAction =
  | { kind: 'edit'; text: string; linkPreview?: boolean }
  | { kind: 'revoke' }
  /** An empty emoji removes the reaction. */
  | { kind: 'react'; emoji: string }
  /** Marks the chat of the message as read. */
  | { kind: 'read' };

/** The result of an action. */
export type PageActionResult =
  /** WhatsApp has had the change since `at` (milliseconds since 1970). */
  | { outcome: 'done'; at: number }
  /** The page does not have the message. */
  | { outcome: 'not_found' }
  /** The account is no longer in the group of the message. Nothing was done: WhatsApp would not answer. */
  | { outcome: 'not_member' }
  /** WhatsApp does not allow it: it is too late, or impossible for such a message. */
  | { outcome: 'not_allowed' }
  /** The page was reloaded and is not ready yet. Nothing was done. */
  | { outcome: 'not_ready' }
  /** It is unknown whether the change was made. */
  | { outcome: 'timed_out' };

declare const window: PageWindow;

/** Changes a message as WhatsApp Web's own menu does. A second call with the same action changes nothing more. */
export async function actOn(
  target: MessageTarget,
  action: PageAction,
  timeoutMs: number,
): Promise<PageActionResult> {
  const { flotilla } = window;
  if (!flotilla) return { outcome: 'not_ready' };
  const found = await flotilla.locate(target);
  if (!found) return { outcome: 'not_found' };
  const { chat, message } = found;
  if (chat.id._serialized.endsWith('@g.us') && !flotilla.isMember(chat)) return { outcome: 'not_member' };
  const capability = window.require('WAWebMsgActionCapability');
  const isStory = chat.id._serialized === 'status@broadcast';

  const ownReaction = async (): Promise<{ reactionText?: string; timestamp: number } | undefined> => {
    const { Reactions } = window.require('WAWebCollections');
    const held = await Reactions.find(message.id._serialized).catch(() => null);
    const senders = held?.reactions.serialize().flatMap((group) => group.senders) ?? [];
    return senders.find(({ msgKey }) => msgKey.fromMe);
  };

  const act = async (): Promise<PageActionResult> => {
    if (action.kind === 'react') {
      if (message.type === 'revoked') return { outcome: 'not_allowed' };
      const before = await ownReaction();
      await window.require('WAWebSendReactionMsgAction').sendReactionToMsg(message, action.emoji);
      const now = await ownReaction();
      // The page's own event for this reaction carries this time. With a time from another clock, the event could seem newer
      // than the next reaction.
      const at = now && now.reactionText === action.emoji ? now.timestamp : Date.now();
      return { outcome: 'done', at: Math.max(at, (before?.timestamp ?? 0) + 1) };
    }
    if (action.kind === 'read') {
      await window.WWebJS.sendSeen(chat.id._serialized);
      return { outcome: 'done', at: Date.now() };
    }
    if (action.kind === 'edit' && flotilla.textOf(message) !== action.text) {
      if (!capability.canEditText(message) && !capability.canEditCaption(message))
        return { outcome: 'not_allowed' };
      const preview = action.linkPreview !== false ? await flotilla.previewOf(action.text) : {};
      await window.WWebJS.editMessage(message, action.text, { ...preview, mentionedJidList: [] });
    } else if (action.kind === 'revoke' && isStory) {
      if (message.type === 'revoked') return { outcome: 'done', at: Date.now() };
      const status = window.require('WAWebCollections').Status?.getMyStatus?.();
      const revoke = flotilla.optional('WAWebRevokeStatusAction')?.sendStatusRevokeMsgAction;
      if (!status || !revoke) return { outcome: 'not_allowed' };
      await revoke(status, message);
    } else if (action.kind === 'revoke' && message.type !== 'revoked') {
      if (!capability.canSenderRevokeMsg(message) && !capability.canAdminRevokeMsg(message))
        return { outcome: 'not_allowed' };
      await window
        .require('WAWebCmd')
        .Cmd.sendRevokeMsgs(chat, { list: [message], type: 'message' }, { clearMedia: true });
    }
    return { outcome: 'done', at: Date.now() };
  };

  let timer;
  const timeout = new Promise<PageActionResult>((resolve) => {
    timer = setTimeout(() => resolve({ outcome: 'timed_out' }), timeoutMs);
  });
  try {
    const deadline = Date.now() + timeoutMs;
    const result = await Promise.race([act(), timeout]);
    // The page may forget a story that was revoked.
    if (result.outcome !== 'done' || action.kind === 'react' || action.kind === 'read' || isStory)
      return result;
    // WhatsApp Web answers some calls before it has done anything, so only the message itself shows the result.
    for (;;) {
      const now = (await flotilla.find(message.id._serialized, true)) ?? message;
      if (action.kind === 'revoke' && now.type === 'revoked')
        return { outcome: 'done', at: flotilla.revocationOf(now).at };
      const editedAt = now.latestEditSenderTimestampMs;
      // WhatsApp Web may remove white space around the text.
      if (action.kind === 'edit' && flotilla.textOf(now).trim() === action.text.trim())
        return { outcome: 'done', at: editedAt ?? result.at };
      if (Date.now() >= deadline) return { outcome: 'timed_out' };
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Changes of the messages that the page holds, including changes that arrived while nothing listened.
 * @param since milliseconds since 1970
 * @param limit how many changed messages to look at, the latest
 */
export async function recentChanges(since: number, limit: number): Promise<PageChange[]> {
  const { flotilla } = window;
  if (!flotilla) return [];
  const { Msg, Reactions } = window.require('WAWebCollections');
  const { getMaybeMePnUser, getMaybeMeLidUser } = window.require('WAWebUserPrefsMeUser');
  const own = [getMaybeMePnUser(), getMaybeMeLidUser()].map((wid) => wid?._serialized);
  const changed = Msg.getModelsArray().filter(
    ({ type, latestEditSenderTimestampMs, hasReaction }) =>
      type === 'revoked' || type === 'poll_creation' || latestEditSenderTimestampMs || hasReaction,
  );
  const found = await flotilla.eachInTurn('changed messages', changed.slice(-limit), async (model) => {
    const changes: PageChange[] = [];
    const { id, type, latestEditSenderTimestampMs: editedAt, hasReaction } = model;
    if (type === 'revoked') changes.push(flotilla.revocationOf(model));
    else if (editedAt)
      changes.push({ kind: 'edited', whatsappId: id.id, text: flotilla.textOf(model), at: editedAt });
    if (type === 'poll_creation') {
      const table = window.require('WAWebPollsVotesSchema').getTable();
      const votes = await table.equals(['parentMsgKey'], id._serialized).catch(() => []);
      for (const { sender, selectedOptionLocalIds, senderTimestampMs } of votes) {
        const voter = typeof sender === 'string' ? sender : sender._serialized;
        const from = own.includes(voter) ? null : flotilla.personOf(voter);
        const options = flotilla.optionsOf(model, new Uint8Array(selectedOptionLocalIds));
        changes.push({ kind: 'vote', whatsappId: id.id, from, options, at: senderTimestampMs });
      }
    }
    if (!hasReaction) return changes;
    const held = await Reactions.find(id._serialized).catch(() => null);
    for (const { senders } of held?.reactions.serialize() ?? []) {
      for (const { msgKey, senderUserJid, reactionText, timestamp } of senders) {
        const from = msgKey.fromMe ? null : flotilla.personOf(senderUserJid);
        changes.push({ kind: 'reaction', whatsappId: id.id, from, emoji: reactionText ?? '', at: timestamp });
      }
    }
    return changes;
  });
  return found.flat().filter(({ at }) => at >= since);
}

/**
 * The present reactions to messages. The result omits messages that the page does not know. If a person removed a reaction
 * while nothing listened, only its absence here shows that.
 */
export async function reactionsTo(
  targets: MessageTarget[],
): Promise<{ whatsappId: string; from: (PagePerson | null)[] }[]> {
  const { flotilla } = window;
  if (!flotilla) return [];
  const { Reactions } = window.require('WAWebCollections');
  const present = await flotilla.eachInTurn('reactions', targets, async (target) => {
    const found = await flotilla.locate(target);
    if (!found) return [];
    const held = await Reactions.find(found.message.id._serialized).catch(() => null);
    // Without an answer it is unknown whether there are reactions.
    if (!held) return [];
    const senders = held.reactions.serialize().flatMap((group) => group.senders);
    const from = senders.map(({ msgKey, senderUserJid }) =>
      msgKey.fromMe ? null : flotilla.personOf(senderUserJid),
    );
    return [{ whatsappId: target.whatsappId, from }];
  });
  return present.flat();
}
