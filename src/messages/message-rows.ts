import type { DataSource } from 'typeorm';
import type { MessageTarget } from '../whatsapp/message-target.js';
import { Message } from './message.entity.js';

/** A row of `messages` as raw SQL returns it, made into the entity. */
export function toMessage(sql: DataSource, row: Record<string, unknown>): Message {
  const message = new Message();
  for (const column of sql.getMetadata(Message).columns) {
    column.setEntityValue(message, row[column.databaseName] ?? null);
  }
  return message;
}

/** Where WhatsApp Web finds a message. */
export function targetOf({
  chatId,
  whatsappId,
  direction,
  sender,
  content,
}: Pick<Message, 'chatId' | 'whatsappId' | 'direction' | 'sender' | 'content'>): MessageTarget {
  const fromMe = direction === 'outgoing';
  let author: string | null = null;
  if (!fromMe && chatId.endsWith('@g.us')) {
    // Before there was `content`, the sender of a group's message was whoever wrote it.
    const writer = content?.author ?? (sender === chatId ? null : sender);
    author = writer === null || writer.includes('@') ? writer : `${writer}@c.us`;
  }
  return { chatId, whatsappId, fromMe, author };
}
