import { v7 as uuidv7 } from 'uuid';
import { isMediaType, typeOf } from '../messages/message-types.js';
import type { PageMessage, PagePerson, PageSource } from '../whatsapp/in-page/page-functions.js';
import type { MessageContact, MessageMedia } from '../messages/content.dto.js';
import { addressOf, personOf } from '../messages/persons.js';
import { storableValue } from '../messages/storable-text.js';
import type { MessageContent } from '../messages/message.entity.js';
import { fromVcard, maxVcardLength, splitVcards } from '../messages/vcard.js';
import { timeOf } from './foreign-time.js';

/** A message that an account received, or that its owner wrote elsewhere. A missing field means that the message does not have it. */
export type Incoming = Pick<PageMessage, 'whatsappId' | 'chatId' | 'from' | 'type' | 'text'> &
  Partial<PageMessage>;

/** Whether a person wrote this to the account. A notice, a story and a post of a channel say nothing about that. */
export function isToAccount({
  type,
  source = null,
  fromMe = false,
}: Pick<Incoming, 'type' | 'source' | 'fromMe'>): boolean {
  return !fromMe && source === null && typeOf(type) !== null;
}

/** The stored form of an incoming message, or of one that the account's owner wrote elsewhere. */
export interface IncomingRow {
  id: string;
  /** The account's owner wrote it. */
  fromMe: boolean;
  type: string;
  chatId: string;
  /** The other side of the chat. */
  address: string;
  /** WhatsApp's own time of the message. */
  sentAt: string;
  /** Null for a message in a chat. */
  source: PageSource | null;
  text: string | null;
  whatsappId: string;
  media: MessageMedia | null;
  content: MessageContent;
  /** Whether its media must be downloaded. */
  hasFile: boolean;
}

const maxContacts = 257;
/** Of the cards that one message keeps whole, in characters. */
const maxVcardsLength = 4 * maxVcardLength;
/** Longer than WhatsApp allows the name of a person and the subject of a group. */
const maxNameLength = 500;

/** The row of an incoming message; null if it is a notice and not a message of a person. */
export function toRow(message: Incoming): IncomingRow | null {
  const type = typeOf(message.type);
  if (type === null) return null;
  const { chatId, text, whatsappId, from, fromAlias = null, media = null, quoted, mentions, poll } = message;
  const { source = null, fromMe = false, alias = null, fromName = null, subject = null } = message;
  const { isViewOnce = false, isGif = false } = message;
  const isInGroup = chatId.endsWith('@g.us');
  const content: MessageContent = {
    ...(fromMe
      ? {}
      : { participant: { ...personOf({ chatId: from, alias: fromAlias }), name: nameOf(fromName) } }),
    ...(fromMe && !isInGroup ? { recipient: personOf({ chatId, alias }) } : {}),
    ...(isInGroup ? { group: { id: chatId, subject: nameOf(subject) } } : {}),
    ...(isInGroup && !fromMe ? { author: from } : {}),
    ...(type === 'unsupported' ? { whatsappType: message.type } : {}),
    ...(type === 'location' && message.location ? { location: locationOf(message.location) } : {}),
    ...(type === 'contact' ? { contact: contactsOf(message.vcards ?? []) } : {}),
    ...(type === 'poll' && poll ? { poll } : {}),
    ...(mentions?.length ? { mentions: mentions.map(addressOf) } : {}),
    ...(isViewOnce ? { viewOnce: true } : {}),
    ...(isGif ? { gif: true } : {}),
    ...(quoted ? { quotedWhatsappId: quoted } : {}),
  };
  // Only a text message may have an empty text. For other types, an empty text means no text.
  const ownText = text === '' && type !== 'text' ? null : text;
  return {
    id: uuidv7(),
    ...storableValue({
      chatId,
      address: fromMe ? recipientOf({ chatId, alias }) : addressOf(chatId),
      text: ownText,
      whatsappId,
      content,
    }),
    fromMe,
    sentAt: timeOf((message.timestamp ?? NaN) * 1000).toISOString(),
    type,
    source,
    media: media ? fileOf(media) : isMediaType(type) ? noFile : null,
    hasFile: media !== null,
  };
}

/** The contacts of all cards. When the cards are too long together, the last ones are not kept whole. */
function contactsOf(vcards: string[]): MessageContact[] {
  let length = 0;
  return vcards
    .flatMap(splitVcards)
    .slice(0, maxContacts)
    .map(fromVcard)
    .map((contact) => {
      length += contact.vcard?.length ?? 0;
      return length <= maxVcardsLength ? contact : { ...contact, vcard: null };
    });
}

/** The digits of the phone number of a person, so that `to` is as in every message to the person. */
function recipientOf(chat: PagePerson): string {
  return personOf(chat).phone ?? addressOf(chat.chatId);
}

function nameOf(name: string | null): string | null {
  return name === null ? null : name.slice(0, maxNameLength);
}

/** The media of a message before it is downloaded. */
function fileOf({ mimetype, size, filename }: NonNullable<Incoming['media']>): MessageMedia {
  return storableValue({
    mediaId: null,
    mimetype,
    size,
    filename,
    sha256: null,
    converted: null,
    error: null,
  });
}

/** Media that WhatsApp does not give to WhatsApp Web, for example view-once media. */
const noFile: MessageMedia = {
  mediaId: null,
  mimetype: 'application/octet-stream',
  size: null,
  filename: null,
  sha256: null,
  converted: null,
  error: {
    code: 'media.unavailable',
    message: 'WhatsApp does not give this media to linked devices. Open it on the phone.',
  },
};

/** WhatsApp's programs write the name of a place in the first line, and its address in the lines below. */
function locationOf({ latitude, longitude, description }: NonNullable<Incoming['location']>) {
  const [name = null, ...address] = description?.split('\n') ?? [];
  return { latitude, longitude, name, address: address.length > 0 ? address.join('\n') : null };
}
