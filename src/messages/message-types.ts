import { noticeTypes } from '../whatsapp/notices.js';

/** The types of messages, as the API names them. */
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

/** Our types for the WhatsApp types with other names. */
const renamedTypes: Record<string, MessageType> = {
  chat: 'text',
  gif: 'video',
  ptt: 'voice',
  ptv: 'video',
  live_location: 'location',
  vcard: 'contact',
  multi_vcard: 'contact',
  poll_creation: 'poll',
};

const notices = new Set(noticeTypes);

/**
 * Our type for a type of WhatsApp Web: `unsupported` if we have no such type.
 * @returns null if it is not a message of a person
 */
export function typeOf(whatsappType: string): MessageType | 'unsupported' | null {
  if (notices.has(whatsappType)) return null;
  const type = renamedTypes[whatsappType] ?? whatsappType;
  return (messageTypes as readonly string[]).includes(type) ? (type as MessageType) : 'unsupported';
}
