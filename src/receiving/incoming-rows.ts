import { v7 as uuidv7 } from 'uuid';
import { isMediaType, typeOf } from '../messages/message-types.js';
import type { PageMessage } from '../whatsapp/in-page/page-functions.js';
import type { MessageMedia } from '../messages/content.dto.js';
import { addressOf, personOf } from '../messages/persons.js';
import { storableValue } from '../messages/storable-text.js';
import type { MessageContent } from '../messages/message.entity.js';
import { fromVcard } from '../messages/vcard.js';

/** A message that an account received; what is left out, it does not have. */
export type Incoming = Pick<PageMessage, 'whatsappId' | 'chatId' | 'from' | 'type' | 'text'> &
  Partial<PageMessage>;

/** What is stored of it. */
export interface IncomingRow {
  id: string;
  type: string;
  chatId: string;
  sender: string;
  text: string | null;
  whatsappId: string;
  media: MessageMedia | null;
  content: MessageContent;
  /** Its media is still to be downloaded. */
  hasFile: boolean;
}

const mostContacts = 257;

/** An incoming message as the ledger has it; null when nobody wrote it. */
export function toRow(message: Incoming): IncomingRow | null {
  const type = typeOf(message.type);
  if (type === null) return null;
  const { chatId, text, whatsappId, from, fromAlias = null, media = null, quoted, mentions, poll } = message;
  const content: MessageContent = {
    participant: personOf({ chatId: from, alias: fromAlias }),
    ...(chatId.endsWith('@g.us') ? { author: from } : {}),
    ...(type === 'unsupported' ? { whatsappType: message.type } : {}),
    ...(type === 'location' && message.location ? { location: locationOf(message.location) } : {}),
    ...(type === 'contact' ? { contact: (message.vcards ?? []).slice(0, mostContacts).map(fromVcard) } : {}),
    ...(type === 'poll' && poll ? { poll } : {}),
    ...(mentions?.length ? { mentions: mentions.map(addressOf) } : {}),
    ...(quoted ? { quotedWhatsappId: quoted } : {}),
  };
  // Only what a person wrote may be empty; of the others there is no text at all.
  const words = text === '' && type !== 'text' ? null : text;
  return {
    id: uuidv7(),
    ...storableValue({ chatId, sender: addressOf(chatId), text: words, whatsappId, content }),
    type,
    media: media ? fileOf(media) : isMediaType(type) ? noFile : null,
    hasFile: media !== null,
  };
}

/** The media of a message before it is downloaded. */
function fileOf({ mimetype, size, filename }: NonNullable<Incoming['media']>): MessageMedia {
  return storableValue({ mediaId: null, mimetype, size, filename, sha256: null, error: null });
}

/** Media that WhatsApp Web is not given, such as what may be seen only once. */
const noFile: MessageMedia = {
  mediaId: null,
  mimetype: 'application/octet-stream',
  size: null,
  filename: null,
  sha256: null,
  error: { code: 'media.unavailable', message: 'WhatsApp does not give linked devices this media.' },
};

/** WhatsApp's programs write the name of a place in the first line, and its address below. */
function locationOf({ latitude, longitude, description }: NonNullable<Incoming['location']>) {
  const [name = null, ...address] = description?.split('\n') ?? [];
  return { latitude, longitude, name, address: address.length > 0 ? address.join('\n') : null };
}
