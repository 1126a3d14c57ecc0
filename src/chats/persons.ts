import type { Person } from '../messages/content.dto.js';
import { personOf as personOfIds } from '../messages/incoming.js';
import type { PagePerson } from '../whatsapp/page-reads.js';

/** A person of a list, as the contract shows one. */
export function personOf({ id, alias }: PagePerson): Person {
  return personOfIds({ chatId: id, alias });
}

/** The person of a chat; of a group, nobody. */
export function chatPersonOf(chat: PagePerson): Person {
  return chat.id.endsWith('@g.us') ? { phone: null, lid: null } : personOf(chat);
}

/** A time of WhatsApp's, in seconds since 1970. */
export function iso(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}
