import { IsBoolean, IsIn, IsInt, IsOptional, Matches, Max, Min } from 'class-validator';
import { Person } from '../messages/content.dto.js';
import { Optional } from '../platform/http/optional.js';
import { LimitedQuery } from '../platform/http/pagination.js';

/** Paging of lists that are read from WhatsApp Web. */
export class PageListQuery extends LimitedQuery {
  /** `nextCursor` of the page before. */
  @IsOptional()
  @Matches(/^[\w-]{1,400}$/, { message: 'must be the nextCursor of the page before' })
  cursor?: string;
}

export class NumberResponse {
  /**
   * The number that was asked for. For a hidden number, the person's number if this account knows it.
   * @example 6281234567890
   */
  phone!: string | null;
  registered!: boolean;
  /**
   * Use it as `to` of a message. Null if the number has no WhatsApp.
   * @example 6281234567890@c.us
   */
  chatId!: string | null;
  lid!: string | null;
}

export class ChatResponse extends Person {
  /** @example 6281234567890@c.us */
  id!: string;
  /** The subject of the group, or the name of the person as this account sees it. */
  name!: string | null;
  isGroup!: boolean;
  unreadCount!: number;
  lastMessageAt!: string | null;
  archived!: boolean;
  pinned!: boolean;
  muted!: boolean;
}

export class ContactResponse extends Person {
  id!: string;
  /** The name in the address book of the account's phone. */
  name!: string | null;
  /** The name that the person has set in WhatsApp. */
  pushname!: string | null;
  isBusiness!: boolean;
  /** Whether the person is in the address book of the account's phone. */
  isMyContact!: boolean;
  isBlocked!: boolean;
}

export class HistoryMessage {
  /** The id of the message in `/messages`. Null if only WhatsApp has the message, as with old messages. */
  id!: string | null;
  whatsappId!: string;
  chatId!: string;
  direction!: 'outgoing' | 'incoming';
  /** A type of `/messages`, `revoked` if the message was deleted, or `unsupported` if Flotilla does not know its type. */
  type!: string;
  /** The author. */
  from!: Person;
  text!: string | null;
  status!: 'sending' | 'sent' | 'delivered' | 'read' | 'played' | 'failed' | 'received';
  /** The WhatsApp id of the message that this message answers. */
  replyToWhatsappId!: string | null;
  createdAt!: string;
  editedAt!: string | null;
}

/** Changes of a chat. Fields that are left out stay as they are. */
export class UpdateChatDto {
  @Optional()
  @IsBoolean()
  archived?: boolean;

  /** WhatsApp allows three pinned chats. */
  @Optional()
  @IsBoolean()
  pinned?: boolean;

  /** A muted chat stays muted until you set this to false. */
  @Optional()
  @IsBoolean()
  muted?: boolean;
}

/** The state that the other side sees. */
export class ShowStateDto {
  @IsIn(['typing', 'recording', 'stop'])
  state: 'typing' | 'recording' | 'stop' = 'typing';
}

export class WatchPresenceDto {
  /** For how long changes come as the event `account.presence`. */
  @Optional()
  @IsInt()
  @Min(1)
  @Max(3_600)
  seconds: number = 300;
}

export class ChatPresence extends Person {
  chatId!: string;
  /** `unknown` until WhatsApp tells it, and for a group in which nobody types. */
  state!: 'available' | 'unavailable' | 'typing' | 'recording' | 'unknown';
  /** In a group: who types or records. */
  participant!: Person | null;
  /** When the person was online last. Null while the person is online, and if WhatsApp does not tell it. */
  lastSeenAt!: string | null;
}

export class PresenceResponse extends ChatPresence {
  watchedUntil!: string;
}
