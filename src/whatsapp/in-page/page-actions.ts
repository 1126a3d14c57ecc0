import type { MessageTarget } from '../message-target.js';
import type { PageChange, PagePerson, PageWindow } from './page-functions.js';

/*
 * What is done to messages that were sent, and read of them, inside the WhatsApp Web page: see page-functions.ts for the
 * rules that such functions follow.
 */

/** What is to be done to a message. */
export type PageAction =
  | { kind: 'edit'; text: string }
  | { kind: 'revoke' }
  /** An empty emoji takes the reaction back. */
  | { kind: 'react'; emoji: string };

/** What it came to. */
export type PageActionResult =
  /** WhatsApp has it, since `at` (milliseconds since 1970). */
  | { outcome: 'done'; at: number }
  /** The page does not have the message. */
  | { outcome: 'not_found' }
  /** WhatsApp does not allow it: too late, or not with such a message. */
  | { outcome: 'not_allowed' }
  /** The page was loaded anew and is not ready yet: nothing was done. */
  | { outcome: 'not_ready' }
  /** Whether it was done is not known. */
  | { outcome: 'timed_out' };

declare const window: PageWindow;

/** Does something to a message as WhatsApp Web's own menu would. Doing it twice is doing it once. */
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
  const may = window.require('WAWebMsgActionCapability');

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
      // The page tells of it with the time that it shows. By another clock, what it tells a moment later of one reaction could
      // be taken for newer than the next.
      const at = now && now.reactionText === action.emoji ? now.timestamp : Date.now();
      return { outcome: 'done', at: Math.max(at, (before?.timestamp ?? 0) + 1) };
    }
    if (action.kind === 'edit' && flotilla.textOf(message) !== action.text) {
      if (!may.canEditText(message) && !may.canEditCaption(message)) return { outcome: 'not_allowed' };
      const preview = await flotilla.previewOf(action.text);
      await window.WWebJS.editMessage(message, action.text, { ...preview, mentionedJidList: [] });
    } else if (action.kind === 'revoke' && message.type !== 'revoked') {
      if (!may.canSenderRevokeMsg(message) && !may.canAdminRevokeMsg(message))
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
    if (result.outcome !== 'done' || action.kind === 'react') return result;
    // WhatsApp Web answers some calls before it has done anything: what the message shows is what counts.
    for (;;) {
      const now = (await flotilla.find(message.id._serialized, true)) ?? message;
      if (action.kind === 'revoke' && now.type === 'revoked')
        return { outcome: 'done', at: flotilla.revocationOf(now).at };
      const editedAt = now.latestEditSenderTimestampMs;
      // It may strip the text of white space.
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
 * What became of messages since a time (milliseconds since 1970), of those that the page holds: changes that came while
 * nobody listened are among them.
 * @param limit how many changed messages are looked at, the latest ones
 */
export async function recentChanges(since: number, limit: number): Promise<PageChange[]> {
  const { flotilla } = window;
  if (!flotilla) return [];
  const { Msg, Reactions } = window.require('WAWebCollections');
  const { getMaybeMePnUser, getMaybeMeLidUser } = window.require('WAWebUserPrefsMeUser');
  const own = [getMaybeMePnUser(), getMaybeMeLidUser()].map((wid) => wid?._serialized);
  const changes: PageChange[] = [];
  const changed = Msg.getModelsArray().filter(
    ({ type, latestEditSenderTimestampMs, hasReaction }) =>
      type === 'revoked' || type === 'poll_creation' || latestEditSenderTimestampMs || hasReaction,
  );
  for (const model of changed.slice(-limit)) {
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
    if (!hasReaction) continue;
    const found = await Reactions.find(id._serialized).catch(() => null);
    for (const { senders } of found?.reactions.serialize() ?? []) {
      for (const { msgKey, senderUserJid, reactionText, timestamp } of senders) {
        const from = msgKey.fromMe ? null : flotilla.personOf(senderUserJid);
        changes.push({ kind: 'reaction', whatsappId: id.id, from, emoji: reactionText ?? '', at: timestamp });
      }
    }
  }
  return changes.filter(({ at }) => at >= since);
}

/**
 * Who reacts to messages now, by their chat ids; messages that the page does not know are left out. A reaction that was
 * taken back while nobody listened leaves no trace but its absence.
 */
export async function reactionsTo(
  targets: MessageTarget[],
): Promise<{ whatsappId: string; from: (PagePerson | null)[] }[]> {
  const { flotilla } = window;
  if (!flotilla) return [];
  const { Reactions } = window.require('WAWebCollections');
  const standing: { whatsappId: string; from: (PagePerson | null)[] }[] = [];
  for (const target of targets) {
    const found = await flotilla.locate(target);
    if (!found) continue;
    const held = await Reactions.find(found.message.id._serialized).catch(() => null);
    // Not to know is not to know that there are none.
    if (!held) continue;
    const senders = held.reactions.serialize().flatMap((group) => group.senders);
    const from = senders.map(({ msgKey, senderUserJid }) =>
      msgKey.fromMe ? null : flotilla.personOf(senderUserJid),
    );
    standing.push({ whatsappId: target.whatsappId, from });
  }
  return standing;
}
