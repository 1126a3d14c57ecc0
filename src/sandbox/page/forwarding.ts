import type { Actions } from './actions.js';
import type { OutgoingMessage } from './content.js';
import { lidOfPhone, MsgKey } from './ids.js';
import type { Messages } from './messages.js';
import type { Account, Chat, Msg } from './models.js';

interface Forward {
  chat: Chat;
  msgs: Msg[];
  includeCaption?: boolean;
}

/** The modules of WhatsApp Web that forward messages and vote in polls. */
export function forwardingModules(account: Account, messages: Messages, actions: Actions) {
  const forward = async (chat: Chat, msg: Msg, includeCaption: boolean): Promise<void> => {
    if (msg.isNotification || msg.type === 'revoked') throw new Error(`A ${msg.type} cannot be forwarded.`);
    const participant = chat.id.isGroup() ? lidOfPhone(account.me!.user) : undefined;
    const id = new MsgKey({ fromMe: true, remote: chat.id, id: await MsgKey.newId(), participant });
    // The attributes of a message are those that it was sent with.
    const copy = {
      ...msg,
      id,
      t: Math.floor(Date.now() / 1000),
      ack: 0,
      caption: includeCaption ? msg.caption : undefined,
      forwardingScore: (msg.forwardingScore ?? 0) + 1,
      quotedStanzaID: undefined,
      mentionedJidList: [],
    } as unknown as OutgoingMessage;
    const [added] = messages.addAndSend(copy);
    await added;
  };
  return {
    WAWebChatForwardMessage: {
      forwardMessages: async ({ chat, msgs, includeCaption = false }: Forward): Promise<void> => {
        for (const msg of msgs) await forward(chat, msg, includeCaption);
      },
    },
    WAWebPollsSendVoteMsgAction: {
      sendVote: (msg: Msg, localIds: Set<number>) => {
        const chosen = (msg.pollOptions ?? []).filter(({ localId }) => localIds.has(localId));
        return actions.act('vote', msg, JSON.stringify(chosen.map(({ name }) => name)));
      },
    },
  };
}
