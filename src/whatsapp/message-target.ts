/** What WhatsApp Web needs to find a message. */
export interface MessageTarget {
  chatId: string;
  whatsappId: string;
  fromMe: boolean;
  /** For a message in a group: the chat id of its author. */
  author: string | null;
}
