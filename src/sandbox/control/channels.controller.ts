import { randomBytes } from 'node:crypto';
import {
  Body,
  ConflictException,
  Controller,
  Delete,
  Get,
  HttpCode,
  Param,
  Patch,
  Post,
} from '@nestjs/common';
import { given } from '../../platform/database/given.js';
import { digitsOf } from '../addresses.js';
import type { Channel, ChannelAction, ChannelPost, ChannelResult } from '../network/channel.js';
import { ChannelActions } from '../network/channel-actions.js';
import { ChannelRegistry } from '../network/channels.js';
import { MediaStore } from '../network/media.js';
import { PhoneRegistry } from '../network/phones.js';
import { toWhatsAppType } from '../network/whatsapp-types.js';
import { ChangeChannelDto, ChannelMemberDto, ChannelPostDto, CreateChannelDto } from './channels.dto.js';

/** The simulated channels: a caller acts as the owners of the phones. */
@Controller('channels')
export class SandboxChannelsController {
  constructor(
    private readonly channels: ChannelRegistry,
    private readonly channelActions: ChannelActions,
    private readonly phones: PhoneRegistry,
    private readonly media: MediaStore,
  ) {}

  @Post()
  async create(@Body() { owner, name, description }: CreateChannelDto): Promise<Channel> {
    const { phone } = this.phones.require(owner);
    const result = await this.act(phone, { kind: 'create', settings: { name, ...given({ description }) } });
    return this.channels.require(result.channel!.id);
  }

  @Get()
  list(): { items: Channel[] } {
    return { items: this.channels.list() };
  }

  @Get(':id')
  get(@Param('id') id: string): Channel & { posts: ChannelPost[] } {
    return { ...this.channels.require(id), posts: this.channels.postsOf(id) };
  }

  @Patch(':id')
  async change(@Param('id') id: string, @Body() { by, ...settings }: ChangeChannelDto): Promise<Channel> {
    await this.act(this.adminOf(id, by), { kind: 'edit', channel: id, settings: given(settings) });
    return this.channels.require(id);
  }

  @Delete(':id')
  @HttpCode(204)
  async delete(@Param('id') id: string): Promise<void> {
    await this.act(this.adminOf(id), { kind: 'delete', channel: id });
  }

  /** The owner or an admin posts. */
  @Post(':id/posts')
  async post(
    @Param('id') id: string,
    @Body() { by, type, text, media }: ChannelPostDto,
  ): Promise<ChannelPost> {
    const pointer = media && (await this.media.savePlain(Buffer.from(media.data, 'base64'), media.mimetype));
    const { post } = await this.act(this.adminOf(id, by), {
      kind: 'post',
      channel: id,
      id: `AC${randomBytes(15).toString('hex').toUpperCase()}`,
      type: toWhatsAppType(type, {}),
      text: text ?? '',
      content: given({ media: pointer }),
    });
    return post!;
  }

  /** The owner of a phone follows the channel. */
  @Post(':id/followers')
  @HttpCode(200)
  follow(@Param('id') id: string, @Body() { phone }: ChannelMemberDto): Promise<ChannelResult> {
    return this.act(this.phones.require(phone).phone, { kind: 'follow', channel: id });
  }

  @Delete(':id/followers/:phone')
  unfollow(@Param('id') id: string, @Param('phone') phone: string): Promise<ChannelResult> {
    return this.act(digitsOf(phone), { kind: 'unfollow', channel: id });
  }

  /** The owner of a phone accepts the invite to become an admin. */
  @Post(':id/admins')
  @HttpCode(200)
  acceptAdmin(@Param('id') id: string, @Body() { phone }: ChannelMemberDto): Promise<ChannelResult> {
    return this.act(digitsOf(phone), { kind: 'accept-admin', channel: id });
  }

  private adminOf(id: string, by?: string): string {
    return by === undefined ? this.channels.require(id).owner : digitsOf(by);
  }

  private async act(by: string, action: ChannelAction): Promise<ChannelResult> {
    const result = await this.channelActions.apply(by, action);
    if (result.status !== 200)
      throw new ConflictException(`WhatsApp does not allow ${by} to do that (${result.status}).`);
    return result;
  }
}
