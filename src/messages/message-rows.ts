import type { MessageTarget } from '../whatsapp/message-target.js';
import type { Message } from './message.entity.js';

/** How WhatsApp Web finds a message. */
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
    // Rows from before the column `content` keep the author of a group message as the sender.
    const writer = content?.author ?? (sender === chatId ? null : sender);
    author = writer === null || writer.includes('@') ? writer : `${writer}@c.us`;
  }
  return { chatId, whatsappId, fromMe, author };
}
