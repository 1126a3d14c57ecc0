import { randomBytes } from 'node:crypto';
import {
  Body,
  ConflictException,
  Controller,
  Delete,
  Get,
  HttpCode,
  NotFoundException,
  Param,
  Patch,
  Post,
  StreamableFile,
} from '@nestjs/common';
import { digitsOf, isGroupId } from '../addresses.js';
import type { Content, MediaPointer } from '../journal/content.js';
import { Ledger, type LedgerEntry } from '../journal/ledger.js';
import type { ActionType } from '../journal/message-actions.js';
import { Delivery } from '../network/delivery.js';
import { GroupRegistry } from '../network/groups.js';
import { MediaStore } from '../network/media.js';
import { PhoneRegistry } from '../network/phones.js';
import { EditMessageDto, PhoneMessageDto, PinDto, ReactDto, RespondDto, VoteDto } from './messages.dto.js';

/** The messages of the simulated phones: a caller sends and acts as the owner of a phone. */
@Controller('phones/:phone/messages')
export class SandboxMessagesController {
  constructor(
    private readonly phones: PhoneRegistry,
    private readonly groups: GroupRegistry,
    private readonly ledger: Ledger,
    private readonly media: MediaStore,
    private readonly delivery: Delivery,
  ) {}

  @Post()
  async send(@Param('phone') number: string, @Body() body: PhoneMessageDto): Promise<LedgerEntry> {
    const { phone } = this.phones.require(number);
    const address = isGroupId(body.to) ? this.groups.require(body.to).id : this.phones.require(body.to).phone;
    if (!this.delivery.maySend(phone, address))
      throw new ConflictException(
        `${phone} may not send to ${body.to}: it is not a member, only admins may send, or it has blocked that number.`,
      );
    return this.delivery.sendFromPhone(phone, address, {
      type: body.type,
      text: body.text ?? '',
      ...(await this.contentOf(body)),
    });
  }

  /** The owner votes in a poll, sent or received. Without options, the vote is removed. */
  @Post(':whatsappId/vote')
  @HttpCode(200)
  vote(
    @Param('phone') number: string,
    @Param('whatsappId') whatsappId: string,
    @Body() { options }: VoteDto,
  ): Promise<LedgerEntry> {
    return this.act(number, whatsappId, 'vote', JSON.stringify(options));
  }

  /** The phone's browsers can decrypt a message that they have received undecrypted. */
  @Post(':whatsappId/decrypt')
  @HttpCode(200)
  decrypt(@Param('phone') number: string, @Param('whatsappId') whatsappId: string): Promise<LedgerEntry> {
    return this.delivery.decrypt(this.phones.require(number).phone, whatsappId);
  }

  /** The plain media of a message, sent or received. */
  @Get(':whatsappId/media')
  async readMedia(
    @Param('phone') number: string,
    @Param('whatsappId') whatsappId: string,
  ): Promise<StreamableFile> {
    const media = await this.requireMedia(number, whatsappId);
    return new StreamableFile(await this.media.decrypt(media), { type: media.mimetype });
  }

  /** WhatsApp loses the media of a message, as it does after some weeks. */
  @Delete(':whatsappId/media')
  @HttpCode(204)
  async deleteMedia(@Param('phone') number: string, @Param('whatsappId') whatsappId: string): Promise<void> {
    const { directPath } = await this.requireMedia(number, whatsappId);
    await this.media.delete(directPath);
  }

  /** The owner reacts to a message, sent or received. */
  @Post(':whatsappId/reaction')
  @HttpCode(200)
  react(
    @Param('phone') number: string,
    @Param('whatsappId') whatsappId: string,
    @Body() { emoji }: ReactDto,
  ): Promise<LedgerEntry> {
    return this.act(number, whatsappId, 'reaction', emoji);
  }

  /** The owner pins a message in its chat, for everybody. */
  @Post(':whatsappId/pin')
  @HttpCode(200)
  pin(
    @Param('phone') number: string,
    @Param('whatsappId') whatsappId: string,
    @Body() { seconds }: PinDto,
  ): Promise<LedgerEntry> {
    return this.act(number, whatsappId, 'pin', String(seconds));
  }

  /** The owner responds to a scheduled event. */
  @Post(':whatsappId/response')
  @HttpCode(200)
  respond(
    @Param('phone') number: string,
    @Param('whatsappId') whatsappId: string,
    @Body() { response }: RespondDto,
  ): Promise<LedgerEntry> {
    return this.act(number, whatsappId, 'rsvp', String(response));
  }

  /** The owner edits a message that was sent from this phone's account. */
  @Patch(':whatsappId')
  edit(
    @Param('phone') number: string,
    @Param('whatsappId') whatsappId: string,
    @Body() { text }: EditMessageDto,
  ): Promise<LedgerEntry> {
    return this.act(number, whatsappId, 'edit', text);
  }

  /** The owner deletes a message for everyone. */
  @Delete(':whatsappId')
  revoke(@Param('phone') number: string, @Param('whatsappId') whatsappId: string): Promise<LedgerEntry> {
    return this.act(number, whatsappId, 'revoke', '');
  }

  private async act(
    number: string,
    whatsappId: string,
    type: ActionType,
    text: string,
  ): Promise<LedgerEntry> {
    return this.delivery.actFromPhone(this.phones.require(number).phone, whatsappId, type, text);
  }

  private async requireMedia(number: string, whatsappId: string): Promise<MediaPointer> {
    const message = await this.ledger.find(this.phones.require(number).phone, whatsappId);
    if (!message?.media) throw new NotFoundException(`${number} has no message ${whatsappId} with media.`);
    return message.media;
  }

  /** What a message from a phone carries, with its media in the store. */
  private async contentOf({
    media,
    location,
    contacts,
    poll,
    event,
    replyTo,
    mentions,
    as,
    isUndecrypted,
    invite,
    viewOnce,
    gif,
    duration,
  }: PhoneMessageDto): Promise<Content> {
    const pointer =
      media && (await this.media.encrypt(Buffer.from(media.data, 'base64'), media.mimetype, media.filename));
    return {
      media: pointer && { ...pointer, sha256: Buffer.from(pointer.filehash, 'base64').toString('hex') },
      location,
      contacts,
      poll,
      event,
      replyTo,
      mentions: mentions?.map(digitsOf),
      as,
      undecrypted: isUndecrypted ? true : undefined,
      invite,
      ...(viewOnce ? { viewOnce } : {}),
      ...(gif ? { gif } : {}),
      duration,
      ...(poll ? { secret: randomBytes(32).toString('base64') } : {}),
    };
  }
}
