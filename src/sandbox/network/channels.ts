import { randomBytes, randomInt } from 'node:crypto';
import { join } from 'node:path';
import { NotFoundException } from '@nestjs/common';
import { Journal } from '../journal/journal.js';
import type { Channel, ChannelPost, ChannelRole, ChannelSettings } from './channel.js';

/** How many posts of a channel new readers can load. */
const MAX_POSTS = 100;

type ChannelLine = { channel: Channel } | { gone: string } | { of: string; post: ChannelPost };

/** The channels and their newest posts, in `channels.ndjson`. */
export class ChannelRegistry {
  private readonly channels = new Map<string, Channel>();
  private readonly posts = new Map<string, ChannelPost[]>();
  private journal!: Journal;

  private constructor() {}

  /** Restores the channels from their directory. */
  static async open(dir: string): Promise<ChannelRegistry> {
    const registry = new ChannelRegistry();
    registry.journal = await Journal.open(join(dir, 'channels.ndjson'), (line) => {
      registry.apply(JSON.parse(line) as ChannelLine);
    });
    await registry.journal.rewrite(() => registry.snapshot().map((line) => JSON.stringify(line)));
    return registry;
  }

  /** The channel with this address. */
  find(id: string): Channel | undefined {
    return this.channels.get(id);
  }

  /**
   * The channel with this address.
   * @throws NotFoundException
   */
  require(id: string): Channel {
    const channel = this.channels.get(id);
    if (!channel)
      throw new NotFoundException(`There is no channel ${id}: create it with POST /channels first.`);
    return channel;
  }

  /** The channel that this link belongs to. */
  findByInvite(code: string): Channel | undefined {
    for (const channel of this.channels.values()) if (channel.invite === code) return channel;
    return undefined;
  }

  /** All channels, or the channels that a phone owns, administers or follows. */
  list(phone?: string): Channel[] {
    const all = [...this.channels.values()];
    return phone === undefined ? all : all.filter((channel) => this.roleOf(channel, phone) !== 'guest');
  }

  /** What a phone is to a channel. */
  roleOf({ owner, admins, followers }: Channel, phone: string): ChannelRole {
    if (phone === owner) return 'owner';
    if (admins.includes(phone)) return 'admin';
    return followers.includes(phone) ? 'subscriber' : 'guest';
  }

  /** Whether a phone may post and change the channel. */
  isAdmin(channel: Channel, phone: string): boolean {
    return ['owner', 'admin'].includes(this.roleOf(channel, phone));
  }

  /** Everybody who reads a channel. */
  readersOf({ owner, admins, followers }: Channel): string[] {
    return [owner, ...admins, ...followers];
  }

  /** The newest posts, the oldest first. */
  postsOf(id: string): ChannelPost[] {
    return this.posts.get(id) ?? [];
  }

  /** Creates a channel. */
  async create(owner: string, settings: Partial<ChannelSettings> & { name: string }): Promise<Channel> {
    return this.save({
      description: '',
      picture: null,
      reactions: 0,
      ...settings,
      id: this.inventId(),
      owner,
      admins: [],
      invited: [],
      followers: [],
      muted: [],
      invite: randomBytes(16).toString('base64url').slice(0, 22),
      createdAt: new Date().toISOString(),
      version: 0,
    });
  }

  /** Changes a channel. */
  async change(channel: Channel, changes: Partial<Channel>): Promise<Channel> {
    return this.save({ ...channel, ...changes });
  }

  /** Deletes a channel with its posts. */
  async delete({ id }: Channel): Promise<void> {
    await this.write({ gone: id });
  }

  /** Adds a post. */
  async addPost({ id }: Channel, post: Omit<ChannelPost, 'serverId'>): Promise<ChannelPost> {
    const numbered = { serverId: (this.postsOf(id).at(-1)?.serverId ?? 99) + 1, ...post };
    await this.write({ of: id, post: numbered });
    return numbered;
  }

  /** Closes the file. */
  async close(): Promise<void> {
    await this.journal.close();
  }

  private async save(channel: Channel): Promise<Channel> {
    const next = { ...channel, version: channel.version + 1 };
    await this.write({ channel: next });
    return next;
  }

  private async write(line: ChannelLine): Promise<void> {
    const { written } = this.journal.append(JSON.stringify(line));
    this.apply(line);
    await written;
  }

  private apply(line: ChannelLine): void {
    if ('channel' in line) {
      this.channels.set(line.channel.id, line.channel);
    } else if ('gone' in line) {
      this.channels.delete(line.gone);
      this.posts.delete(line.gone);
    } else {
      this.posts.set(line.of, [...this.postsOf(line.of), line.post].slice(-MAX_POSTS));
    }
  }

  private snapshot(): ChannelLine[] {
    return this.list().flatMap((channel): ChannelLine[] => [
      { channel },
      ...this.postsOf(channel.id).map((post) => ({ of: channel.id, post })),
    ]);
  }

  private inventId(): string {
    for (;;) {
      const id = `120363${String(randomInt(0, 1_000_000_000_000)).padStart(12, '0')}@newsletter`;
      if (!this.channels.has(id)) return id;
    }
  }
}
