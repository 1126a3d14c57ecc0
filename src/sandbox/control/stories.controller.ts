import { randomBytes } from 'node:crypto';
import { Body, Controller, Param, Post } from '@nestjs/common';
import { given } from '../../platform/database/given.js';
import type { LedgerEntry } from '../journal/ledger.js';
import { MediaStore } from '../network/media.js';
import { PhoneRegistry } from '../network/phones.js';
import { Stories } from '../network/stories.js';
import { toWhatsAppType } from '../network/whatsapp-types.js';
import { StoryDto } from './stories.dto.js';

/** The stories of the simulated phones: a caller acts as the owner of a phone. */
@Controller('phones/:phone/stories')
export class SandboxStoriesController {
  constructor(
    private readonly phones: PhoneRegistry,
    private readonly stories: Stories,
    private readonly media: MediaStore,
  ) {}

  /** The people who have this phone in their address books, and are in its own, see the story. */
  @Post()
  async post(@Param('phone') number: string, @Body() { type, text, media }: StoryDto): Promise<LedgerEntry> {
    const { phone } = this.phones.require(number);
    const pointer = media && (await this.media.encrypt(Buffer.from(media.data, 'base64'), media.mimetype));
    return this.stories.post(phone, {
      id: `AC${randomBytes(15).toString('hex').toUpperCase()}`,
      type: toWhatsAppType(type, {}),
      text: text ?? '',
      content: given({ media: pointer }),
    });
  }
}
