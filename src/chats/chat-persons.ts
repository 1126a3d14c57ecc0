import type { Person } from '../messages/content.dto.js';
import { personOf } from '../messages/persons.js';
import type { PagePerson } from '../whatsapp/in-page/page-functions.js';

/** The person of a chat. For a group, both fields are null. */
export function chatPersonOf(chat: PagePerson): Person {
  return chat.chatId.endsWith('@g.us') ? { phone: null, lid: null } : personOf(chat);
}

/** @param seconds a time from WhatsApp, in seconds since 1970 */
export function iso(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}
