import { Injectable } from '@nestjs/common';
import type { LedgerEntry } from '../journal/ledger.js';
import type { NewPost } from './channel.js';
import { Delivery, MAX_TEXT_LENGTH } from './delivery.js';
import { MediaStore } from './media.js';
import { fromWhatsAppType } from './whatsapp-types.js';

/** Accepts stories. People who have each other in their address books see them. */
@Injectable()
export class Stories {
  constructor(
    private readonly delivery: Delivery,
    private readonly media: MediaStore,
  ) {}

  /**
   * The owner of a phone posts a story.
   * @throws Error when WhatsApp refuses it
   */
  async post(from: string, { id, type, text, content }: NewPost): Promise<LedgerEntry> {
    if (text.length > MAX_TEXT_LENGTH) throw new Error('WhatsApp refuses this story: it is too long.');
    return this.delivery.accept({
      from,
      to: 'status@broadcast',
      whatsappId: id,
      type: fromWhatsAppType(type),
      text,
      ...(await this.media.withHash(content)),
      as: 'story',
    });
  }
}
