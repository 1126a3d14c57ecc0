import { IsBoolean, IsIn, IsOptional, Matches } from 'class-validator';
import { Person } from '../messages/content.dto.js';
import { Optional } from '../platform/http/optional.js';
import { LimitedQuery } from '../platform/http/pagination.js';

/** How lists that WhatsApp's page holds are paged. */
export class PageListQuery extends LimitedQuery {
  /** `nextCursor` of the page before. */
  @IsOptional()
  @Matches(/^[\w-]{1,400}$/, { message: 'must be the nextCursor of the page before' })
  cursor?: string;
}

export class NumberResponse {
  /** @example 6281234567890 */
  phone!: string;
  registered!: boolean;
  /**
   * What `to` of a message takes; null when the number has no WhatsApp.
   * @example 6281234567890@c.us
   */
  chatId!: string | null;
  lid!: string | null;
}

export class ChatResponse extends Person {
  /** @example 6281234567890@c.us */
  id!: string;
  /** The group's subject, or the person's name as this account sees it. */
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
  /** From the address book of the account's phone. */
  name!: string | null;
  /** How they call themselves. */
  pushname!: string | null;
  isBusiness!: boolean;
  /** Whether they are in the address book of the account's phone. */
  isMyContact!: boolean;
  isBlocked!: boolean;
}

export class HistoryMessage {
  /** The message's id here, where it is one of `/messages`; older ones are only in WhatsApp. */
  id!: string | null;
  whatsappId!: string;
  chatId!: string;
  direction!: 'outgoing' | 'incoming';
  /** As of a message of `/messages`; `revoked` when it was deleted, `unsupported` when there is no word for it here. */
  type!: string;
  /** Who wrote it. */
  from!: Person;
  text!: string | null;
  status!: 'sending' | 'sent' | 'delivered' | 'read' | 'played' | 'failed' | 'received';
  /** The WhatsApp id of the message that it answers. */
  replyToWhatsappId!: string | null;
  createdAt!: string;
  editedAt!: string | null;
}

/** What a chat is to be; what is left out stays. */
export class UpdateChatDto {
  @Optional()
  @IsBoolean()
  archived?: boolean;

  /** WhatsApp lets three chats be pinned. */
  @Optional()
  @IsBoolean()
  pinned?: boolean;

  /** For ever, until it is false again. */
  @Optional()
  @IsBoolean()
  muted?: boolean;
}

/** What the other side is shown. */
export class ShowStateDto {
  @IsIn(['typing', 'recording', 'stop'])
  state: 'typing' | 'recording' | 'stop' = 'typing';
}
