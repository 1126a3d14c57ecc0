import {
  BadRequestException,
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
  Put,
  Query,
  StreamableFile,
} from '@nestjs/common';
import { Readable } from 'node:stream';
import { given } from '../../platform/database/given.js';
import {
  ChangePhoneDto,
  CreatePhoneDto,
  EditMessageDto,
  EnterCodeDto,
  FaultsDto,
  LedgerQueryDto,
  PageDto,
  ReactDto,
  SaveContactDto,
  ScanDto,
  UnlinkDto,
} from './network.dto.js';
import { toContent, VoteDto, WriteMessageDto } from './messages.dto.js';
import { NO_FAULTS, type Faults } from '../network/faults.js';
import type { InboxEntry, LedgerEntry } from '../journal/ledger.js';
import type { MediaPointer } from '../network/media.js';
import type { SandboxStats } from '../network/network.js';
import { isGroupId } from '../network/groups.js';
import { digitsOf, type Phone, type PhoneContact } from '../network/phones.js';
import { SandboxServer } from '../wire/server.js';

interface Page<T> {
  items: T[];
  nextCursor: string | null;
}

const PAGE_SIZE = 10_000;

/** The simulated phones, in the hands of whoever calls this. */
@Controller('phones')
export class SandboxPhonesController {
  constructor(private readonly sandbox: SandboxServer) {}

  @Post()
  create(@Body() body?: CreatePhoneDto): Promise<Phone> {
    return this.sandbox.network.phones.create(body?.phone, body?.name);
  }

  /** Changes what its owner can change: name, picture, privacy. */
  @Patch(':phone')
  async change(
    @Param('phone') number: string,
    @Body() { picture, ...settings }: ChangePhoneDto,
  ): Promise<Phone> {
    const { phones, pictures } = this.sandbox.network;
    const phone = phones.require(number);
    const kept = picture ? await pictures.save(picture) : picture;
    return phones.change(phone.phone, given({ ...settings, picture: kept }));
  }

  /** Its owner writes somebody into the address book; without a name, takes them out of it. */
  @Put(':phone/contacts')
  async saveContact(@Param('phone') number: string, @Body() contact: SaveContactDto): Promise<PhoneContact> {
    const { phones, companions } = this.sandbox.network;
    const owner = phones.require(number).phone;
    const entry = { owner, phone: digitsOf(contact.phone), name: contact.name ?? null };
    await phones.saveContact(entry);
    companions.tellContacts(owner, phones.contactsOf(owner));
    return entry;
  }

  @Get()
  list(@Query() { cursor, limit }: PageDto): Page<Phone> {
    return this.sandbox.network.phones.list(cursor, limit ?? PAGE_SIZE);
  }

  @Post(':phone/scan')
  @HttpCode(200)
  async scan(@Param('phone') number: string, @Body() { qr }: ScanDto): Promise<{ phone: string }> {
    const phone = this.sandbox.network.phones.require(number);
    await this.sandbox.network.pairing.scan(phone, qr);
    return { phone: phone.phone };
  }

  @Post(':phone/enter-code')
  @HttpCode(200)
  async enterCode(
    @Param('phone') number: string,
    @Body() { code }: EnterCodeDto,
  ): Promise<{ phone: string }> {
    const phone = this.sandbox.network.phones.require(number);
    await this.sandbox.network.pairing.enterCode(phone, code);
    return { phone: phone.phone };
  }

  @Post(':phone/unlink')
  @HttpCode(200)
  async unlink(
    @Param('phone') number: string,
    @Body() body?: UnlinkDto,
  ): Promise<{ phone: string; unlinked: number }> {
    const phone = this.sandbox.network.phones.require(number);
    if (body?.accountPhone !== undefined && digitsOf(body.accountPhone) !== phone.phone) {
      throw new NotFoundException(
        `The account ${body.accountPhone} is not linked to ${phone.phone}: unlink it on its own phone.`,
      );
    }
    return { phone: phone.phone, unlinked: await this.sandbox.network.unlinkAll(phone) };
  }

  @Post(':phone/messages')
  async write(@Param('phone') number: string, @Body() body: WriteMessageDto): Promise<LedgerEntry> {
    const { phones, groups, delivery, media } = this.sandbox.network;
    const { phone } = phones.require(number);
    const address = isGroupId(body.to) ? groups.require(body.to).id : phones.require(body.to).phone;
    if (!delivery.mayWrite(phone, address))
      throw new ConflictException(
        `${phone} may not write to ${body.to}: it is not in it, or only admins write.`,
      );
    return delivery.write(phone, address, await toContent(body, media));
  }

  /** Its owner votes in a poll, sent or received; without options the vote is taken back. */
  @Post(':phone/messages/:whatsappId/vote')
  @HttpCode(200)
  vote(
    @Param('phone') number: string,
    @Param('whatsappId') whatsappId: string,
    @Body() { options }: VoteDto,
  ): Promise<LedgerEntry> {
    const { phones, delivery } = this.sandbox.network;
    return delivery.change(phones.require(number).phone, whatsappId, 'vote', JSON.stringify(options));
  }

  /** The media of a message, sent or received, as its owner sees it. */
  @Get(':phone/messages/:whatsappId/media')
  async media(
    @Param('phone') number: string,
    @Param('whatsappId') whatsappId: string,
  ): Promise<StreamableFile> {
    const media = await this.requireMedia(number, whatsappId);
    return new StreamableFile(await this.sandbox.network.media.unseal(media), { type: media.mimetype });
  }

  /** WhatsApp loses the media of a message, as it does after some weeks. */
  @Delete(':phone/messages/:whatsappId/media')
  @HttpCode(204)
  async loseMedia(@Param('phone') number: string, @Param('whatsappId') whatsappId: string): Promise<void> {
    const { directPath } = await this.requireMedia(number, whatsappId);
    await this.sandbox.network.media.lose(directPath);
  }

  /** Its owner reacts to a message, sent or received. */
  @Post(':phone/messages/:whatsappId/reaction')
  @HttpCode(200)
  react(
    @Param('phone') number: string,
    @Param('whatsappId') whatsappId: string,
    @Body() { emoji }: ReactDto,
  ): Promise<LedgerEntry> {
    const { phones, delivery } = this.sandbox.network;
    return delivery.change(phones.require(number).phone, whatsappId, 'reaction', emoji);
  }

  /** Its owner edits a message that was sent from it. */
  @Patch(':phone/messages/:whatsappId')
  edit(
    @Param('phone') number: string,
    @Param('whatsappId') whatsappId: string,
    @Body() { text }: EditMessageDto,
  ): Promise<LedgerEntry> {
    const { phones, delivery } = this.sandbox.network;
    return delivery.change(phones.require(number).phone, whatsappId, 'edit', text);
  }

  /** Its owner deletes a message for everyone. */
  @Delete(':phone/messages/:whatsappId')
  revoke(@Param('phone') number: string, @Param('whatsappId') whatsappId: string): Promise<LedgerEntry> {
    const { phones, delivery } = this.sandbox.network;
    return delivery.change(phones.require(number).phone, whatsappId, 'revoke', '');
  }

  private async requireMedia(number: string, whatsappId: string): Promise<MediaPointer> {
    const { phones, ledger } = this.sandbox.network;
    const message = await ledger.find(phones.require(number).phone, whatsappId);
    if (!message?.media) throw new NotFoundException(`${number} has no message ${whatsappId} with media.`);
    return message.media;
  }

  @Get(':phone/inbox')
  async inbox(
    @Param('phone') number: string,
    @Query() { cursor, limit }: PageDto,
  ): Promise<Page<InboxEntry>> {
    const { phones, ledger } = this.sandbox.network;
    const { phone } = phones.require(number);
    const after = Number(cursor ?? 0);
    if (!Number.isSafeInteger(after) || after < 0) {
      throw new BadRequestException('"cursor" must be a nextCursor of an earlier answer.');
    }
    const items = await ledger.inbox(phone, after, limit ?? PAGE_SIZE);
    const next = after + items.length;
    return { items, nextCursor: next < ledger.inboxSize(phone) ? String(next) : null };
  }
}

/** The simulated network as a whole. */
@Controller()
export class SandboxController {
  constructor(private readonly sandbox: SandboxServer) {}

  @Get('ledger')
  ledger(@Query() { since }: LedgerQueryDto): StreamableFile {
    const lines = Readable.from(this.sandbox.network.ledger.lines(since ?? 0), {
      objectMode: false,
    });
    return new StreamableFile(lines, { type: 'application/x-ndjson' });
  }

  @Delete('ledger')
  @HttpCode(204)
  clearLedger(): Promise<void> {
    return this.sandbox.network.clearLedger();
  }

  @Get('stats')
  stats(): SandboxStats {
    return this.sandbox.network.stats();
  }

  @Put('faults')
  putFaults(@Body() { phone, ...faults }: FaultsDto): Faults {
    const digits = phone === undefined ? undefined : digitsOf(phone);
    return this.sandbox.network.putFaults(faults, digits);
  }

  @Get('faults')
  faults(): Faults {
    return this.sandbox.network.faults.of(undefined);
  }

  @Delete('faults')
  clearFaults(): Faults {
    this.sandbox.network.clearFaults();
    return { ...NO_FAULTS };
  }

  @Get('certificate')
  certificate(): { spki: string; port: number } {
    return { spki: this.sandbox.spki, port: this.sandbox.port };
  }

  @Get('health')
  health(): { status: 'ok'; port: number; timestamp: string } {
    return { status: 'ok', port: this.sandbox.port, timestamp: new Date().toISOString() };
  }
}
