import { build } from './build.js';
import type { Groups } from './groups.js';
import { createWid, MsgKey, type WidLike } from './ids.js';
import type { Messages } from './messages.js';
import type { Account, Chat } from './models.js';

/** An invite to send. */
interface Invite {
  chat_: Chat;
  gid: string;
  name: string;
  code: string;
  exp: number | string;
  caption: string;
}

/** Invites to groups that are made for one person, who gets them as a message. */
export class Invites {
  #account: Account;
  #groups: Groups;
  #messages: Messages;

  constructor(account: Account, groups: Groups, messages: Messages) {
    this.#account = account;
    this.#groups = groups;
    this.#messages = messages;
  }

  /** The modules of WhatsApp Web that send such an invite and accept one. */
  get modules() {
    const one = (invite: Invite) => this.#send(invite);
    const seven = (
      chat: Chat,
      gid: string,
      name: string,
      code: string,
      exp: number | string,
      caption: string,
    ) => this.#send({ chat_: chat, gid, name, code, exp, caption });
    return {
      WAWebChatSendMessages: { sendGroupInviteMessage: build.inviteIsOneObject ? one : seven },
      WAWebGroupInviteV4Job: {
        // The expiry and the inviter follow: the server knows both.
        joinGroupViaInviteV4: (code: string, _expiration: string, group: WidLike) =>
          this.#groups.acceptInvite(group, code),
      },
    };
  }

  async #send({ chat_: chat, gid, name, code, exp, caption }: Invite) {
    const me = this.#account.me!;
    const id = new MsgKey({ fromMe: true, remote: chat.id, id: await MsgKey.newId() });
    const [, sent] = this.#messages.addAndSend({
      id,
      t: Math.floor(Date.now() / 1000),
      ack: 0,
      type: 'groups_v4_invite',
      from: me,
      inviteCode: code,
      inviteCodeExp: Number(exp),
      inviteGrp: createWid(gid)._serialized,
      inviteGrpName: name,
      comment: caption,
    });
    return sent;
  }
}
