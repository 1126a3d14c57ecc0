import type { PipeTransform } from '@nestjs/common';
import { parseRecipient, recipientHint } from '../messages/recipient.js';
import { ValidationFailed } from '../platform/errors/problem.js';

/** Turns a phone number in any usual notation, or the chat id of a person, into the chat id. */
export class ContactIdPipe implements PipeTransform<string, string> {
  transform(value: string): string {
    const chatId = parseRecipient(value)?.chatId;
    if (!chatId || chatId.endsWith('@g.us'))
      throw new ValidationFailed([{ path: 'contactId', message: recipientHint(value, '@c.us or @lid') }]);
    return chatId;
  }
}

/** Turns a phone number, the chat id of a person or the id of a group into the chat id. */
export class ChatIdPipe implements PipeTransform<string, string> {
  transform(value: string): string {
    const chatId = parseRecipient(value)?.chatId;
    if (!chatId) throw new ValidationFailed([{ path: 'chatId', message: recipientHint(value) }]);
    return chatId;
  }
}

/** Accepts the id of a group. */
export class GroupIdPipe implements PipeTransform<string, string> {
  transform(value: string): string {
    const chatId = parseRecipient(value)?.chatId;
    if (!chatId?.endsWith('@g.us'))
      throw new ValidationFailed([{ path: 'groupId', message: 'must be the id of a group (…@g.us)' }]);
    return chatId;
  }
}
