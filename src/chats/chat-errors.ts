import { sessionProblems } from '../accounts/account-errors.js';
import { Problem } from '../platform/errors/problem.js';

export { NotInGroup } from '../messages/message-actions.service.js';

export class ChatNotFound extends Problem {
  constructor(chatId: string) {
    super(404, 'chat.not_found', `The account has no chat ${chatId}. GET …/chats lists its chats.`);
  }
}

export class ContactNotFound extends Problem {
  constructor(contactId: string) {
    super(
      404,
      'contact.not_found',
      `WhatsApp does not know ${contactId}. GET …/contacts lists the contacts of the account.`,
    );
  }
}

/** The contact or group has no picture, or hides it from this account. */
export class NoPicture extends Problem {
  constructor(isGroup: boolean) {
    super(
      404,
      isGroup ? 'group.no_picture' : 'contact.no_picture',
      `${isGroup ? 'The group' : 'The contact'} has no picture, or hides it from this account.`,
    );
  }
}

export class PictureTooLarge extends Problem {
  constructor(bytes: number) {
    super(
      502,
      'contact.picture_too_large',
      `The picture from WhatsApp is larger than the limit of ${bytes} bytes. Flotilla cannot return it.`,
    );
  }
}

/** This build of WhatsApp Web shows presence in a way that Flotilla does not know. */
export class NoPresence extends Problem {
  constructor() {
    super(
      502,
      'chat.no_presence',
      'This version of WhatsApp Web does not show the presence of a chat as Flotilla knows it. Pin a version that does: docs/whatsapp-web.md.',
    );
  }
}

export class TooManyWatches extends Problem {
  constructor(max: number) {
    super(
      429,
      'account.too_many_watches',
      `An account watches at most ${max} chats at the same time. Wait until earlier ones end, or use shorter times.`,
      undefined,
      60,
    );
  }
}

export class CannotPin extends Problem {
  constructor() {
    super(409, 'chat.cannot_pin', 'WhatsApp allows only three pinned chats. Unpin another chat first.');
  }
}

export class GroupNotFound extends Problem {
  constructor(groupId: string) {
    super(404, 'group.not_found', `The account has no group ${groupId}. GET …/groups lists its groups.`);
  }
}

export class NotGroupAdmin extends Problem {
  constructor() {
    super(
      409,
      'group.not_admin',
      'The account is not an admin of this group. Let an admin of the group promote the account first.',
    );
  }
}

export class GroupRefused extends Problem {
  /** @param status the status from WhatsApp, or 0 if it gave none */
  constructor(what: string, status = 0) {
    super(409, 'group.refused', `WhatsApp refused to ${what}${reasonOf(status)}. ${cureOf(status)}`);
  }
}

function reasonOf(status: number): string {
  if (status === 419) return ': the group is full';
  if (status === 429) return ': this account has made too many requests';
  return status === 0 ? '' : ` (status ${status})`;
}

/** A refusal that holds, such as for a group that is full, does not change when it is asked again. */
function cureOf(status: number): string {
  if (status === 419) return 'Remove somebody first.';
  if (status >= 400 && status < 429)
    return 'Look at the group on the phone: asking again does not change it.';
  return 'Try again later, or use the phone.';
}

export class InviteInvalid extends Problem {
  constructor() {
    super(
      404,
      'group.invite_invalid',
      'This invite is not valid: it was reset, or the account was removed from the group. Ask for a new invite.',
    );
  }
}

/** The page gave no answer, or an answer without an outcome. The outcome of a change is then unknown. */
export class PageSilent extends Problem {
  constructor(cause: unknown) {
    super(
      504,
      'whatsapp.no_answer',
      'WhatsApp Web did not answer. You may repeat a read. Before you repeat a change, check whether it was made.',
    );
    this.cause = cause;
  }
}

export class TooManyNumberChecks extends Problem {
  constructor(perMinute: number) {
    super(
      429,
      'account.too_many_number_checks',
      `A live account may check at most ${perMinute} new numbers per minute, because WhatsApp bans accounts that check many. Try again in a minute.`,
      undefined,
      60,
    );
  }
}

export class NumberInvalid extends Problem {
  /** @param hint what is wrong with the number, and the cure */
  constructor(hint: string) {
    super(422, 'number.invalid', `The number ${hint}.`);
  }
}

/** The problems of every call to the page of an account. */
export const chatProblems = [...sessionProblems, PageSilent];
