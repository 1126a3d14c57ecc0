import type { PagePerson } from '../whatsapp/page-reads.js';
import type { Person } from './chats.dto.js';

/** A person by both ids, as far as the page knows them. */
export function personOf({ id, alias }: PagePerson): Person {
  const ids = alias === null ? [id] : [id, alias];
  const phone = ids.find((one) => one.endsWith('@c.us'))?.slice(0, -'@c.us'.length);
  return { phone: phone ?? null, lid: ids.find((one) => one.endsWith('@lid')) ?? null };
}

/** The person of a chat; of a group, nobody. */
export function chatPersonOf(chat: PagePerson): Person {
  return chat.id.endsWith('@g.us') ? { phone: null, lid: null } : personOf(chat);
}

/** A time of WhatsApp's, in seconds since 1970. */
export function iso(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}
