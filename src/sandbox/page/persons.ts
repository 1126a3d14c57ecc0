import { lidOfPhone } from './ids.js';
import { Chat, type Collections } from './models.js';

/**
 * Moves the chats with persons from their numbers to their LIDs, as WhatsApp does with an account at some time. The messages that
 * the page has keep their keys.
 */
export function hideChats({ Chat: chats, Contact: contacts, Msg: messages }: Collections): void {
  for (const chat of chats.filter(({ id }) => id.isUser() && !id.isLid())) {
    const lid = lidOfPhone(chat.id.user);
    const { name, formattedTitle, t, unreadCount, archive, pin, lastReceivedKey, mute } = chat;
    chats.remove(chat);
    if (!contacts.get(lid)) contacts.gadd(lid);
    const moved = chats.get(lid) ?? chats.add(new Chat(lid, name, messages));
    moved.set({ formattedTitle, t, unreadCount, archive, pin, lastReceivedKey });
    moved.mute.expiration = mute.expiration;
  }
}
