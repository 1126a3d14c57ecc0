import type { PagePerson } from '../whatsapp/in-page/page-functions.js';
import type { Person } from './content.dto.js';

/** A person as the contract shows one. */
export function personOf({ chatId, alias }: PagePerson): Person {
  const ids = [chatId, alias ?? ''];
  const phone = ids.find((id) => id.endsWith('@c.us'));
  return {
    phone: phone === undefined ? null : addressOf(phone),
    lid: ids.find((id) => id.endsWith('@lid')) ?? null,
  };
}

/** What a person may be called where only one name is kept. */
export function addressesOf({ chatId, alias }: PagePerson): string[] {
  return alias === null ? [addressOf(chatId)] : [addressOf(chatId), addressOf(alias)];
}

/** A phone number's digits, or the chat id of what is none. */
export function addressOf(chatId: string): string {
  return chatId.endsWith('@c.us') ? chatId.slice(0, -'@c.us'.length) : chatId;
}
