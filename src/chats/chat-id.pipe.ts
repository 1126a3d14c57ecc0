import type { PipeTransform } from '@nestjs/common';
import { parseRecipient } from '../messages/recipient.js';
import { ValidationFailed } from '../platform/errors/problem.js';

/** A phone number in any usual notation, or the chat id of a person: becomes the chat id. */
export class ContactIdPipe implements PipeTransform<string, string> {
  transform(value: string): string {
    const chatId = parseRecipient(value)?.chatId;
    if (!chatId || chatId.endsWith('@g.us'))
      throw new ValidationFailed([
        {
          path: 'contactId',
          message: 'must be a phone number with country code, or a chat id (…@c.us, …@lid)',
        },
      ]);
    return chatId;
  }
}

/** The same, or the id of a group. */
export class ChatIdPipe implements PipeTransform<string, string> {
  transform(value: string): string {
    const chatId = parseRecipient(value)?.chatId;
    if (!chatId)
      throw new ValidationFailed([
        {
          path: 'chatId',
          message: 'must be a chat id (…@c.us, …@lid, …@g.us), or a phone number with country code',
        },
      ]);
    return chatId;
  }
}

/** The id of a group. */
export class GroupIdPipe implements PipeTransform<string, string> {
  transform(value: string): string {
    const chatId = parseRecipient(value)?.chatId;
    if (!chatId?.endsWith('@g.us'))
      throw new ValidationFailed([{ path: 'groupId', message: 'must be the id of a group (…@g.us)' }]);
    return chatId;
  }
}
