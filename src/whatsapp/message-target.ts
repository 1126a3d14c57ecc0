/** How WhatsApp Web finds a message. */
export interface MessageTarget {
  chatId: string;
  whatsappId: string;
  fromMe: boolean;
  /** The chat id of the person who wrote it, for a message from a group. */
  author: string | null;
}
