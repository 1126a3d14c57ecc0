import { Injectable } from '@nestjs/common';
import { Outbox } from '../journal/outbox.js';
import type {
  Channel,
  ChannelAction,
  ChannelResult,
  ChannelRole,
  ChannelSettings,
  ChannelState,
  NewPost,
} from './channel.js';
import { ChannelRegistry } from './channels.js';
import { Delivery, MAX_TEXT_LENGTH } from './delivery.js';
import type { BrowserEvent } from './events.js';
import { MediaStore } from './media.js';
import { PhoneRegistry } from './phones.js';
import { PictureStore } from './pictures.js';
import { fromWhatsAppType } from './whatsapp-types.js';

const MAX_NAME_LENGTH = 100;
const MAX_DESCRIPTION_LENGTH = 2048;
const MAX_FOLLOWERS = 5000;
const MAX_ADMINS = 16;
const DONE: ChannelResult = { status: 200 };
const FORBIDDEN: ChannelResult = { status: 403 };

/** Applies WhatsApp's rules to channels, and tells the browsers of their readers about each change. */
@Injectable()
export class ChannelActions {
  constructor(
    private readonly phones: PhoneRegistry,
    private readonly channels: ChannelRegistry,
    private readonly pictures: PictureStore,
    private readonly media: MediaStore,
    private readonly delivery: Delivery,
    private readonly outbox: Outbox<BrowserEvent>,
  ) {}

  /** Does something to a channel in the name of the owner of the phone `by`. */
  async apply(by: string, action: ChannelAction): Promise<ChannelResult> {
    if (action.kind === 'create') return this.create(by, action.settings);
    const channel =
      action.kind === 'look' ? this.channels.findByInvite(action.code) : this.channels.find(action.channel);
    if (!channel) return { status: 404 };
    const role = this.channels.roleOf(channel, by);
    switch (action.kind) {
      case 'look':
      case 'query':
        return { status: 200, channel: this.stateFor(channel, by) };
      case 'posts':
        return { status: 200, posts: this.channels.postsOf(channel.id) };
      case 'follow':
      case 'unfollow':
        return this.follow(by, channel, role, action.kind);
      case 'mute':
      case 'unmute':
        return this.mute(by, channel, role, action.kind);
      case 'delete':
        return role === 'owner' ? this.delete(channel) : FORBIDDEN;
      case 'subscribers':
        return this.channels.isAdmin(channel, by) ? this.subscribersOf(channel) : FORBIDDEN;
      case 'edit':
        return this.channels.isAdmin(channel, by) ? this.edit(by, channel, action.settings) : FORBIDDEN;
      case 'accept-admin':
        return this.acceptAdmin(by, channel);
      case 'post':
        return this.channels.isAdmin(channel, by) ? this.post(by, channel, action) : FORBIDDEN;
      default:
        return this.changeAdmin(by, channel, role, action.kind, action.phone);
    }
  }

  /** The channels of a phone, as its pages know them. */
  statesFor(phone: string): ChannelState[] {
    return this.channels.list(phone).map((channel) => this.stateFor(channel, phone));
  }

  /** The picture of a channel; undefined when the address is not that of a channel. */
  pictureOf(address: string): { eurl: string } | null | undefined {
    const channel = this.channels.find(address);
    if (!channel) return undefined;
    return channel.picture ? { eurl: `https://web.whatsapp.com/pictures/${channel.picture}` } : null;
  }

  private async create(
    by: string,
    settings: Partial<ChannelSettings> & { name: string },
  ): Promise<ChannelResult> {
    if (isRefused(settings)) return { status: 406 };
    const channel = await this.channels.create(by, await this.withPicture(settings));
    this.tell(channel, [by]);
    return { status: 200, channel: this.stateFor(channel, by) };
  }

  private async edit(
    by: string,
    channel: Channel,
    settings: Partial<ChannelSettings>,
  ): Promise<ChannelResult> {
    if (isRefused(settings)) return { status: 406 };
    const next = await this.change(channel, await this.withPicture(settings));
    return { status: 200, channel: this.stateFor(next, by) };
  }

  private async follow(
    by: string,
    channel: Channel,
    role: ChannelRole,
    kind: 'follow' | 'unfollow',
  ): Promise<ChannelResult> {
    // The owner deletes a channel, or gives it away.
    if (role === 'owner') return FORBIDDEN;
    const isFollowing = role !== 'guest';
    if (isFollowing === (kind === 'follow')) return { status: 200, channel: this.stateFor(channel, by) };
    if (kind === 'follow' && channel.followers.length >= MAX_FOLLOWERS) return { status: 419 };
    const next = await this.change(
      channel,
      kind === 'follow'
        ? { followers: [...channel.followers, by] }
        : {
            followers: without(channel.followers, by),
            admins: without(channel.admins, by),
            muted: without(channel.muted, by),
          },
      [by],
    );
    return { status: 200, channel: this.stateFor(next, by) };
  }

  private async mute(
    by: string,
    channel: Channel,
    role: ChannelRole,
    kind: 'mute' | 'unmute',
  ): Promise<ChannelResult> {
    if (role === 'guest') return FORBIDDEN;
    const others = without(channel.muted, by);
    const next = await this.channels.change(channel, { muted: kind === 'mute' ? [...others, by] : others });
    // Nobody else gets to know it.
    this.tell(next, [by]);
    return { status: 200, channel: this.stateFor(next, by) };
  }

  private async delete(channel: Channel): Promise<ChannelResult> {
    await this.channels.delete(channel);
    this.send(this.channels.readersOf(channel), () => ({ k: 'channel', id: channel.id, state: null }));
    return DONE;
  }

  private subscribersOf(channel: Channel): ChannelResult {
    const subscribers = this.channels
      .readersOf(channel)
      .map((phone) => ({ phone, role: this.channels.roleOf(channel, phone) }));
    return { status: 200, subscribers };
  }

  private async acceptAdmin(by: string, channel: Channel): Promise<ChannelResult> {
    if (!channel.invited.includes(by)) return FORBIDDEN;
    const next = await this.change(channel, {
      invited: without(channel.invited, by),
      followers: without(channel.followers, by),
      admins: [...channel.admins, by],
    });
    return { status: 200, channel: this.stateFor(next, by) };
  }

  private async changeAdmin(
    by: string,
    channel: Channel,
    role: ChannelRole,
    kind: 'invite-admin' | 'revoke-invite' | 'demote' | 'transfer',
    phone: string,
  ): Promise<ChannelResult> {
    const { admins, invited, followers } = channel;
    const isSelf = kind === 'demote' && role === 'admin' && by === phone;
    if (role !== 'owner' && !isSelf) return FORBIDDEN;
    if (kind === 'invite-admin') {
      const mayBecome = this.phones.find(phone) && !this.channels.isAdmin(channel, phone);
      if (!mayBecome || invited.length + admins.length >= MAX_ADMINS) return { status: 406 };
      await this.change(channel, { invited: [...without(invited, phone), phone] });
    } else if (kind === 'revoke-invite') {
      if (!invited.includes(phone)) return { status: 404 };
      await this.change(channel, { invited: without(invited, phone) });
    } else {
      if (!admins.includes(phone)) return { status: 404 };
      const others = without(admins, phone);
      await this.change(
        channel,
        kind === 'demote'
          ? { admins: others, followers: [...followers, phone] }
          : { owner: phone, admins: [...others, by] },
      );
    }
    return DONE;
  }

  /** The post goes into the ledger as every message does, and to the browsers of the readers. */
  private async post(
    by: string,
    channel: Channel,
    { id, type, text, content }: NewPost,
  ): Promise<ChannelResult> {
    if (text.length > MAX_TEXT_LENGTH) return { status: 406 };
    const complete = await this.media.withHash(content);
    const entry = await this.delivery.accept({
      from: by,
      to: channel.id,
      whatsappId: id,
      type: fromWhatsAppType(type),
      text,
      ...complete,
    });
    const known = this.channels.postsOf(channel.id).find((post) => post.id === id);
    const t = Math.floor(Date.parse(entry.at) / 1000);
    const post =
      known ?? (await this.channels.addPost(channel, { id, by, type, text, t, content: complete }));
    return { status: 200, post };
  }

  private async withPicture<Settings extends Partial<ChannelSettings>>(
    settings: Settings,
  ): Promise<Settings> {
    const { picture } = settings;
    return picture ? { ...settings, picture: await this.pictures.save(picture) } : settings;
  }

  /** Changes a channel, and tells its readers and the phones in `also`. */
  private async change(channel: Channel, changes: Partial<Channel>, also: string[] = []): Promise<Channel> {
    const next = await this.channels.change(channel, changes);
    this.tell(next, [...this.channels.readersOf(next), ...also]);
    return next;
  }

  private tell(channel: Channel, phones: string[]): void {
    this.send(phones, (phone) => ({ k: 'channel', id: channel.id, state: this.stateFor(channel, phone) }));
  }

  private send(phones: string[], eventFor: (phone: string) => BrowserEvent): void {
    const events = [...new Set(phones)].flatMap((phone) => {
      const event = eventFor(phone);
      return [...this.phones.credentialsOf(phone)].map(({ id: credential }) => ({
        credential,
        event,
        delayMs: 0,
      }));
    });
    // No line of the ledger causes it. A page that misses it in a crash gets the state of the channel when it connects.
    this.outbox.add(this.outbox.lastSeq, events);
  }

  private stateFor(channel: Channel, phone: string): ChannelState {
    const { id, name, description, invite, createdAt, picture, reactions, version } = channel;
    return {
      id,
      name,
      description,
      invite,
      createdAt,
      picture,
      reactions,
      version,
      role: this.channels.roleOf(channel, phone),
      isMuted: channel.muted.includes(phone),
      followerCount: this.channels.readersOf(channel).length,
    };
  }
}

function isRefused({ name, description = '', reactions = 0 }: Partial<ChannelSettings>): boolean {
  const isNameRefused = name !== undefined && (name === '' || name.length > MAX_NAME_LENGTH);
  return isNameRefused || description.length > MAX_DESCRIPTION_LENGTH || ![0, 1, 3].includes(reactions);
}

function without(phones: string[], phone: string): string[] {
  return phones.filter((other) => other !== phone);
}
