import { isMediaType } from '../messages/message-types.js';
import type { OutgoingContent, OutgoingFile } from '../whatsapp/outgoing-content.js';
import { pollSecretOf } from '../messages/message.entity.js';
import type { Claim } from './lane-runner.js';
import { toVcard } from '../messages/vcard.js';

/** What a session is to send for a message of the ledger. @param file the copy of its media on this machine */
export function toOutgoingContent(
  { id, type, text, content }: Pick<Claim, 'id' | 'type' | 'text' | 'content'>,
  file: OutgoingFile | null,
): OutgoingContent {
  if (isMediaType(type) && file) return { type, caption: text, file };
  if (type === 'location' && content?.location) {
    const { latitude, longitude, name, address } = content.location;
    const description = [name, address].filter((line) => line !== null).join('\n');
    return { type, latitude, longitude, description: description === '' ? null : description };
  }
  if (type === 'contact' && content?.contact)
    return {
      type,
      cards: content.contact.map((contact) => ({ name: contact.name, vcard: toVcard(contact) })),
    };
  if (type === 'poll' && content?.poll) return { type, ...content.poll, secret: pollSecretOf(id) };
  return { type: 'text', text: text ?? '' };
}
