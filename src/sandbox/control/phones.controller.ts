import {
  BadRequestException,
  Body,
  Controller,
  Get,
  HttpCode,
  NotFoundException,
  Param,
  Patch,
  Post,
  Put,
  Query,
} from '@nestjs/common';
import { given } from '../../platform/database/given.js';
import { digitsOf, isGroupId } from '../addresses.js';
import { type InboxEntry, Ledger } from '../journal/ledger.js';
import { type Phone, type PhoneContact, PhoneRegistry } from '../network/phones.js';
import { PictureStore } from '../network/pictures.js';
import { Presences } from '../network/presences.js';
import { Linking } from '../wire/linking.js';
import { OnlineBrowsers } from '../wire/online-browsers.js';
import { Renumbering } from '../wire/renumbering.js';
import {
  BlockDto,
  ChangeNumberDto,
  ChangePhoneDto,
  CreatePhoneDto,
  EnterCodeDto,
  PageDto,
  PresenceDto,
  SaveContactDto,
  ScanDto,
  UnlinkDto,
} from './phones.dto.js';

interface Page<T> {
  items: T[];
  nextCursor: string | null;
}

const PAGE_SIZE = 10_000;

/** The simulated phones: a caller acts as their owners. */
@Controller('phones')
export class SandboxPhonesController {
  constructor(
    private readonly phones: PhoneRegistry,
    private readonly pictures: PictureStore,
    private readonly presences: Presences,
    private readonly ledger: Ledger,
    private readonly linking: Linking,
    private readonly browsers: OnlineBrowsers,
    private readonly renumbering: Renumbering,
  ) {}

  @Post()
  create(@Body() body?: CreatePhoneDto): Promise<Phone> {
    return this.phones.create(body?.phone, body?.name, body?.aliases);
  }

  /** The owner changes the name, the picture or the privacy settings. */
  @Patch(':phone')
  async change(
    @Param('phone') number: string,
    @Body() { picture: base64, ...settings }: ChangePhoneDto,
  ): Promise<Phone> {
    const { phone } = this.phones.require(number);
    const picture = base64 ? await this.pictures.save(base64) : base64;
    const changed = await this.phones.change(phone, given({ ...settings, picture }));
    this.browsers.sendProfile(phone);
    return changed;
  }

  /** The owner blocks a person, or ends that. */
  @Put(':phone/blocked')
  async block(
    @Param('phone') number: string,
    @Body() { phone: other, blocked }: BlockDto,
  ): Promise<{ items: string[] }> {
    const owner = this.phones.require(number).phone;
    await this.phones.block({ owner, phone: this.phones.require(other).phone, blocked });
    this.browsers.sendProfile(owner);
    return this.listBlocked(number);
  }

  /** The owner goes online or offline, or types or records in a chat. The accounts that watch hear it. */
  @Put(':phone/presence')
  presence(@Param('phone') number: string, @Body() { state, to }: PresenceDto): { told: number } {
    const { phone } = this.phones.require(number);
    const isTyping = state !== 'available' && state !== 'unavailable';
    if (isTyping && to === undefined) throw new BadRequestException(`"to" is needed for ${state}.`);
    const told = isTyping
      ? this.presences.type(phone, isGroupId(to!) ? to! : digitsOf(to!), state)
      : this.presences.change(phone, state === 'available');
    for (const { to: account, frame } of told) this.browsers.sendTo(account, frame);
    return { told: told.length };
  }

  @Get(':phone/blocked')
  listBlocked(@Param('phone') number: string): { items: string[] } {
    return { items: this.phones.blockedBy(this.phones.require(number).phone) };
  }

  /** The owner moves the account to a new number, and WhatsApp tells the people who know the old one. */
  @Post(':phone/change-number')
  @HttpCode(200)
  changeNumber(@Param('phone') number: string, @Body() { to }: ChangeNumberDto): Promise<Phone> {
    return this.renumbering.move(this.phones.require(number), digitsOf(to));
  }

  /** The owner adds a person to the address book or, without a name, removes one. */
  @Put(':phone/contacts')
  async saveContact(@Param('phone') number: string, @Body() contact: SaveContactDto): Promise<PhoneContact> {
    const owner = this.phones.require(number).phone;
    const entry = { owner, phone: digitsOf(contact.phone), name: contact.name ?? null };
    await this.phones.saveContact(entry);
    this.browsers.sendContacts(owner, this.phones.contactsOf(owner));
    return entry;
  }

  @Get()
  list(@Query() { cursor, limit }: PageDto): Page<Phone> {
    return this.phones.list(cursor, limit ?? PAGE_SIZE);
  }

  @Post(':phone/scan')
  @HttpCode(200)
  async scan(@Param('phone') number: string, @Body() { qr, tenant }: ScanDto): Promise<{ phone: string }> {
    const phone = this.phones.require(number);
    if (tenant !== undefined) await this.phones.claim(phone, tenant);
    await this.linking.scan(phone, qr);
    return { phone: phone.phone };
  }

  @Post(':phone/enter-code')
  @HttpCode(200)
  async enterCode(
    @Param('phone') number: string,
    @Body() { code }: EnterCodeDto,
  ): Promise<{ phone: string }> {
    const phone = this.phones.require(number);
    await this.linking.enterCode(phone, code);
    return { phone: phone.phone };
  }

  @Post(':phone/unlink')
  @HttpCode(200)
  async unlink(
    @Param('phone') number: string,
    @Body() body?: UnlinkDto,
  ): Promise<{ phone: string; unlinked: number }> {
    const phone = this.phones.require(number);
    if (body?.accountPhone !== undefined && digitsOf(body.accountPhone) !== phone.phone) {
      throw new NotFoundException(
        `The account ${body.accountPhone} is not linked to ${phone.phone}: unlink it on its own phone.`,
      );
    }
    return { phone: phone.phone, unlinked: await this.linking.unlinkAll(phone) };
  }

  @Get(':phone/inbox')
  async inbox(
    @Param('phone') number: string,
    @Query() { cursor, limit }: PageDto,
  ): Promise<Page<InboxEntry>> {
    const { phone } = this.phones.require(number);
    const after = Number(cursor ?? 0);
    if (!Number.isSafeInteger(after) || after < 0) {
      throw new BadRequestException('"cursor" must be the nextCursor of an earlier answer.');
    }
    const items = await this.ledger.inbox(phone, after, limit ?? PAGE_SIZE);
    const next = after + items.length;
    return { items, nextCursor: next < this.ledger.inboxSize(phone) ? String(next) : null };
  }
}
