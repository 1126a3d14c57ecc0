import type { Content, MediaPointer } from '../journal/content.js';

/** A simulated channel: its owner and admins post, and its followers read. */
export interface Channel {
  /** The address, with `@newsletter`. */
  id: string;
  name: string;
  description: string;
  owner: string;
  /** Without the owner. */
  admins: string[];
  /** Whom the owner has invited to become an admin. */
  invited: string[];
  /** Without the owner and the admins. */
  followers: string[];
  /** Who does not want to hear of new posts. */
  muted: string[];
  /** The code of its link. */
  invite: string;
  createdAt: string;
  /** The file name of its picture. */
  picture: string | null;
  /** WhatsApp's code for the reactions that readers may use: 0 all, 1 the usual ones, 3 none. */
  reactions: number;
  /** Grows with every change, so that a page knows which of two states is newer. */
  version: number;
}

export type ChannelRole = 'owner' | 'admin' | 'subscriber' | 'guest';

/** A channel as the pages of one phone know it. */
export interface ChannelState extends Pick<
  Channel,
  'id' | 'name' | 'description' | 'invite' | 'createdAt' | 'picture' | 'reactions' | 'version'
> {
  role: ChannelRole;
  isMuted: boolean;
  followerCount: number;
}

/** A post of a channel. */
export interface ChannelPost {
  /** WhatsApp numbers the posts of a channel. */
  serverId: number;
  id: string;
  /** The number of the admin who posted it. */
  by: string;
  /** In WhatsApp's words. */
  type: string;
  text: string;
  /** Seconds since 1970. */
  t: number;
  content: Content;
}

/** What the owner and the admins can change about a channel. */
export type ChannelSettings = Pick<Channel, 'name' | 'description' | 'picture' | 'reactions'>;

/** What a person does with a channel. A picture is base64, and null removes it. */
export type ChannelAction =
  | { kind: 'create'; settings: Partial<ChannelSettings> & { name: string } }
  | { kind: 'look'; code: string }
  | {
      kind:
        | 'query'
        | 'follow'
        | 'unfollow'
        | 'mute'
        | 'unmute'
        | 'delete'
        | 'accept-admin'
        | 'subscribers'
        | 'posts';
      channel: string;
    }
  | { kind: 'edit'; channel: string; settings: Partial<ChannelSettings> }
  | { kind: 'invite-admin' | 'revoke-invite' | 'demote' | 'transfer'; channel: string; phone: string }
  | ({ kind: 'post'; channel: string } & NewPost);

/** A post as an admin sends it, or a story. The sandbox itself computes the hash of the media. */
export type NewPost = Pick<ChannelPost, 'id' | 'type' | 'text'> & {
  content: Omit<Content, 'media'> & { media?: MediaPointer | undefined };
};

/** The result. `status` is WhatsApp's: 200, 403 not allowed, 404 no such channel, 406 a setting that WhatsApp refuses. */
export interface ChannelResult {
  status: number;
  channel?: ChannelState;
  subscribers?: { phone: string; role: ChannelRole }[];
  /** The oldest first. */
  posts?: ChannelPost[];
  post?: ChannelPost;
}
