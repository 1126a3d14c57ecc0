import { v7 as uuidv7 } from 'uuid';
import { isMediaType, typeOf } from '../messages/message-types.js';
import type { PageMessage, PageSource } from '../whatsapp/in-page/page-functions.js';
import type { MessageContact, MessageMedia } from '../messages/content.dto.js';
import { addressOf, personOf } from '../messages/persons.js';
import { storableValue } from '../messages/storable-text.js';
import type { MessageContent } from '../messages/message.entity.js';
import { fromVcard, maxVcardLength, splitVcards } from '../messages/vcard.js';

/** A message that an account received. A missing field means that the message does not have it. */
export type Incoming = Pick<PageMessage, 'whatsappId' | 'chatId' | 'from' | 'type' | 'text'> &
  Partial<PageMessage>;

/** Whether a person wrote this to the account. A notice, a story and a post of a channel say nothing about that. */
export function isToAccount({ type, source = null }: Pick<Incoming, 'type' | 'source'>): boolean {
  return source === null && typeOf(type) !== null;
}

/** The stored form of an incoming message. */
export interface IncomingRow {
  id: string;
  type: string;
  chatId: string;
  sender: string;
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

/** The row of an incoming message; null if it is a notice and not a message of a person. */
export function toRow(message: Incoming): IncomingRow | null {
  const type = typeOf(message.type);
  if (type === null) return null;
  const { chatId, text, whatsappId, from, fromAlias = null, media = null, quoted, mentions, poll } = message;
  const { source = null } = message;
  const content: MessageContent = {
    participant: personOf({ chatId: from, alias: fromAlias }),
    ...(chatId.endsWith('@g.us') ? { author: from } : {}),
    ...(type === 'unsupported' ? { whatsappType: message.type } : {}),
    ...(type === 'location' && message.location ? { location: locationOf(message.location) } : {}),
    ...(type === 'contact' ? { contact: contactsOf(message.vcards ?? []) } : {}),
    ...(type === 'poll' && poll ? { poll } : {}),
    ...(mentions?.length ? { mentions: mentions.map(addressOf) } : {}),
    ...(quoted ? { quotedWhatsappId: quoted } : {}),
  };
  // Only a text message may have an empty text. For other types, an empty text means no text.
  const ownText = text === '' && type !== 'text' ? null : text;
  return {
    id: uuidv7(),
    ...storableValue({ chatId, sender: addressOf(chatId), text: ownText, whatsappId, content }),
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
