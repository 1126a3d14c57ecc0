import { sessionProblems } from '../accounts/account-errors.js';
import { Problem } from '../platform/errors/problem.js';

export class ChatNotFound extends Problem {
  constructor(chatId: string) {
    super(404, 'chat.not_found', `The account has no chat ${chatId}: GET …/chats lists them.`);
  }
}

export class ContactNotFound extends Problem {
  constructor(contactId: string) {
    super(404, 'contact.not_found', `${contactId} is nobody that WhatsApp knows: GET …/contacts lists them.`);
  }
}

/** It has none, or shows it to others only. */
export class NoPicture extends Problem {
  constructor(isGroup: boolean) {
    super(
      404,
      isGroup ? 'group.no_picture' : 'contact.no_picture',
      `${isGroup ? 'The group' : 'The contact'} has no picture, or does not show it to this account.`,
    );
  }
}

export class PictureTooLarge extends Problem {
  constructor(bytes: number) {
    super(502, 'contact.picture_too_large', `WhatsApp's picture has more than ${bytes} bytes.`);
  }
}

export class CannotPin extends Problem {
  constructor() {
    super(409, 'chat.cannot_pin', 'WhatsApp lets only three chats be pinned. Unpin another one first.');
  }
}

export class GroupNotFound extends Problem {
  constructor(groupId: string) {
    super(404, 'group.not_found', `The account has no group ${groupId}: GET …/groups lists them.`);
  }
}

export class NotInGroup extends Problem {
  constructor(groupId: string) {
    super(409, 'group.not_member', `The account is not in the group ${groupId} any more.`);
  }
}

export class NotGroupAdmin extends Problem {
  constructor() {
    super(
      409,
      'group.not_admin',
      'The account is not an admin of this group. Let one of its admins promote the account first.',
    );
  }
}

export class GroupRefused extends Problem {
  /** @param status WhatsApp's own, where it gives one */
  constructor(what: string, status = 0) {
    super(
      409,
      'group.refused',
      `WhatsApp refused to ${what}${reasonOf(status)}. Try later, or on the phone.`,
    );
  }
}

function reasonOf(status: number): string {
  if (status === 419) return ': the group is full';
  if (status === 429) return ': this account asks too much of it';
  return status === 0 ? '' : ` (status ${status})`;
}

export class InviteInvalid extends Problem {
  constructor() {
    super(
      404,
      'group.invite_invalid',
      'This invite leads to no group: it was reset, or the account was removed from the group. Ask for a new one.',
    );
  }
}

/** The page gave no answer, or none that says what came of it: of a change nobody can tell whether it was made. */
export class PageSilent extends Problem {
  constructor(cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(
      504,
      'whatsapp.no_answer',
      `WhatsApp Web did not answer (${reason}). A read may be repeated; of a change, look whether it was made first.`,
    );
    this.cause = cause;
  }
}

export class TooManyNumberChecks extends Problem {
  constructor(perMinute: number) {
    super(
      429,
      'account.too_many_number_checks',
      `A live account asks WhatsApp for at most ${perMinute} new numbers a minute, lest it be taken for a harvester. Try again in a minute.`,
      undefined,
      60,
    );
  }
}

export class NumberInvalid extends Problem {
  constructor() {
    super(
      422,
      'number.invalid',
      'This is no phone number. Write it with its country code, such as +6281234567890.',
    );
  }
}

/** What may happen when the page of an account is asked. */
export const chatProblems = [...sessionProblems, PageSilent];
