import type { PagePerson } from '../whatsapp/in-page/page-functions.js';
import type { Person } from './content.dto.js';

/** A person as the API shows it. */
export function personOf({ chatId, alias }: PagePerson): Person {
  const ids = [chatId, alias ?? ''];
  const phone = ids.find((id) => id.endsWith('@c.us'));
  return {
    phone: phone === undefined ? null : addressOf(phone),
    lid: ids.find((id) => id.endsWith('@lid')) ?? null,
  };
}

/** All addresses of a person: a row that keeps only one address may have any of them. */
export function addressesOf({ chatId, alias }: PagePerson): string[] {
  return alias === null ? [addressOf(chatId)] : [addressOf(chatId), addressOf(alias)];
}

/** The digits of a phone number; the chat id itself if it has no phone number. */
export function addressOf(chatId: string): string {
  return chatId.endsWith('@c.us') ? chatId.slice(0, -'@c.us'.length) : chatId;
}
