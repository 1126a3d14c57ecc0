/** What a message can be, in the words of the contract. */
export const messageTypes = [
  'text',
  'image',
  'video',
  'audio',
  'voice',
  'document',
  'sticker',
  'location',
  'contact',
  'poll',
] as const;
export type MessageType = (typeof messageTypes)[number];

export const mediaTypes = ['image', 'video', 'audio', 'voice', 'document', 'sticker'] as const;
export type MediaType = (typeof mediaTypes)[number];

export function isMediaType(type: string): type is MediaType {
  return (mediaTypes as readonly string[]).includes(type);
}

/** WhatsApp's names that are not ours. */
const ours: Record<string, MessageType> = {
  chat: 'text',
  gif: 'video',
  ptt: 'voice',
  ptv: 'video',
  live_location: 'location',
  vcard: 'contact',
  multi_vcard: 'contact',
  poll_creation: 'poll',
};

/** What WhatsApp Web shows between messages, and what it tells itself: nobody wrote it. */
const notices = new Set([
  'broadcast_notification',
  'call_log',
  'ciphertext',
  'debug',
  'e2e_notification',
  'gp2',
  'group_notification',
  'keep_in_chat',
  'newsletter_notification',
  'notification',
  'notification_template',
  'pin_in_chat',
  'pinned_message',
  'poll_update',
  'protocol',
  'reaction',
  'revoked',
]);

/**
 * A type of WhatsApp Web in our words: `unsupported` when we have none for it.
 * @returns null when it is no message at all
 */
export function typeOf(whatsappType: string): MessageType | 'unsupported' | null {
  if (notices.has(whatsappType)) return null;
  const type = ours[whatsappType] ?? whatsappType;
  return (messageTypes as readonly string[]).includes(type) ? (type as MessageType) : 'unsupported';
}
