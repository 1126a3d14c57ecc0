import { ApiExtraModels, ApiProperty, ApiPropertyOptional, getSchemaPath } from '@nestjs/swagger';
import { Transform, Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  IsArray,
  IsIn,
  IsInt,
  IsObject,
  IsOptional,
  IsUUID,
  Max,
  Min,
  ValidateNested,
} from 'class-validator';
import { Optional } from '../platform/http/optional.js';
import { PageQuery, ScopedQuery } from '../platform/http/pagination.js';
import { IsTime } from '../platform/http/time.js';
import { IsEmoji, IsMessageText, IsRecipient, IsSmallJson } from './message-rules.js';
import { type MessageType, messageTypes } from './message-types.js';
import {
  ContactDto,
  LocationDto,
  MediaSourceDto,
  MessageContact,
  MessageLocation,
  MessageMedia,
  Person,
  MessagePoll,
  MessageVote,
  PollDto,
} from './content.dto.js';
import {
  type Message,
  type MessageStatus,
  messageStatuses,
  priorities,
  type Priority,
} from './message.entity.js';

const mostContacts = 50;
const mostMentions = 256;

@ApiExtraModels(ContactDto)
export class SendMessageDto {
  /** The account that sends; without it one that is ready, the one that last wrote to this recipient first. */
  @Optional()
  @IsUUID()
  accountId?: string;

  /**
   * A phone number with country code, or a chat id.
   * @example +6281234567890
   */
  @IsRecipient()
  to!: string;

  /** What is sent. Each type has its own fields: `text`, `media`, `location`, `contact` or `poll`. */
  @Optional()
  @IsIn(messageTypes)
  type: MessageType = 'text';

  /**
   * For `text`.
   * @example "Your parcel is on its way."
   */
  @Optional()
  @IsMessageText()
  text?: string;

  /** For `image`, `video`, `audio`, `voice`, `document` and `sticker`. */
  @Optional()
  @IsObject()
  @ValidateNested()
  @Type(() => MediaSourceDto)
  media?: MediaSourceDto;

  /** For `location`. */
  @Optional()
  @IsObject()
  @ValidateNested()
  @Type(() => LocationDto)
  location?: LocationDto;

  /** For `contact`: one, or a list. */
  @Optional()
  @ApiPropertyOptional({
    oneOf: [
      { $ref: getSchemaPath(ContactDto) },
      { type: 'array', items: { $ref: getSchemaPath(ContactDto) }, minItems: 1, maxItems: mostContacts },
    ],
  })
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(mostContacts)
  @IsObject({ each: true })
  @ValidateNested({ each: true })
  @Type(() => ContactDto)
  @Transform(({ value }) => (Array.isArray(value) ? value : [value]) as unknown)
  contact?: ContactDto[];

  /** For `poll`. */
  @Optional()
  @IsObject()
  @ValidateNested()
  @Type(() => PollDto)
  poll?: PollDto;

  /** The id of the message that this one answers: of the same account, in the same chat. */
  @Optional()
  @IsUUID()
  replyTo?: string;

  /**
   * Whom the text or the caption mentions: phone numbers or chat ids. The text has each as `@` and its digits.
   * @example ["+6281234567890"]
   */
  @Optional()
  @IsArray()
  @ArrayMaxSize(mostMentions)
  @IsRecipient({ each: true })
  mentions?: string[];

  @Optional()
  @IsIn(['urgent', 'high', 'normal'])
  priority: Exclude<Priority, 'campaign'> = 'normal';

  /** Not before this time. */
  @IsOptional()
  @IsTime()
  sendAt?: string | null;

  /** Not after this time: the message expires when it has not been sent by then. */
  @IsOptional()
  @IsTime()
  expiresAt?: string | null;

  /** Yours: comes back with the message and in every event. */
  @IsOptional()
  @IsObject()
  @IsSmallJson()
  metadata?: Record<string, unknown>;
}

export class EditMessageDto {
  /** @example "Your parcel arrives tomorrow." */
  @IsMessageText()
  text!: string;
}

export class ReactDto {
  /**
   * One emoji; an empty text takes the reaction back.
   * @example 👍
   */
  @IsEmoji()
  emoji!: string;
}

export class SendMessageQuery extends ScopedQuery {
  /** Answers when the message has got this far, or when `timeoutMs` is over. */
  @IsOptional()
  @IsIn(['sent', 'delivered'])
  wait?: 'sent' | 'delivered';

  @IsOptional()
  @Type(() => Number)
  @IsInt()
  @Min(1)
  @Max(60_000)
  timeoutMs: number = 10_000;
}

export class SendBatchDto {
  /** Each is a `SendMessageDto`, and checked by itself: one that is wrong does not stop the others. */
  @ApiProperty({
    type: 'array',
    items: { type: 'object', additionalProperties: true },
    example: [{ to: '+6281234567890', text: 'Your parcel is on its way.' }],
  })
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(1000)
  @IsObject({ each: true })
  messages!: Record<string, unknown>[];
}

export class ListMessagesQuery extends PageQuery {
  @Optional()
  @IsUUID()
  accountId?: string;

  @IsOptional()
  @IsIn(messageStatuses)
  status?: MessageStatus;

  @IsOptional()
  @IsIn(['outgoing', 'incoming'])
  direction?: 'outgoing' | 'incoming';

  @IsOptional()
  @IsUUID()
  campaignId?: string;

  @IsOptional()
  @IsRecipient()
  to?: string;

  /** Only messages accepted at or after this time. */
  @IsOptional()
  @IsTime()
  since?: string;
}

export class MessageError {
  code!: string;
  message!: string;
}

export class MessageReaction extends Person {
  /** The phone number's digits, or the chat id of a hidden number. */
  from!: string;
  emoji!: string;
  at!: string;
}

export class MessageResponse {
  id!: string;
  workspaceId!: string;
  accountId!: string;
  direction!: 'outgoing' | 'incoming';
  priority!: Priority;
  /** One of those that can be sent, or `unsupported`: then `whatsappType` is WhatsApp's own name for it. */
  type!: string;
  to!: string;
  /** The phone number's digits, or the chat id of a hidden number or of a group: to write there is to answer. */
  from!: string | null;
  /** Of media its caption. */
  text!: string | null;
  media!: MessageMedia | null;
  location!: MessageLocation | null;
  contact!: MessageContact[] | null;
  poll!: MessagePoll | null;
  /** What people chose in a poll, the last choice of each. */
  votes!: MessageVote[];
  /** Phone numbers' digits, or chat ids of hidden numbers. */
  mentions!: string[] | null;
  /** Who wrote an incoming message: in a group somebody else than `from`. */
  participant!: Person | null;
  status!: MessageStatus;
  error!: MessageError | null;
  attempts!: number;
  whatsappId!: string;
  campaignId!: string | null;
  /** The id of the message that this one answers; null also when Flotilla does not have that one. */
  replyTo!: string | null;
  /** Of an incoming message that answers another: that one's WhatsApp id. */
  quotedWhatsappId!: string | null;
  /** WhatsApp's own name of the type of a message that is `unsupported`. */
  whatsappType!: string | null;
  metadata!: Record<string, unknown>;
  createdAt!: string;
  scheduledFor!: string | null;
  sentAt!: string | null;
  deliveredAt!: string | null;
  readAt!: string | null;
  failedAt!: string | null;
  /** When `text` was last changed, after the message was accepted or received. */
  editedAt!: string | null;
  /** When it was deleted for everyone. Its status and text stay as they were. */
  revokedAt!: string | null;
  /** One for each person at the most. */
  reactions!: MessageReaction[];
}

export class BatchItemResponse {
  index!: number;
  /** The HTTP status that the message alone would have got. */
  status!: number;
  message?: MessageResponse;
  error?: { code: string; detail: string; errors?: { path: string; message: string }[] };
}

export class BatchResponse {
  /** In the order of the request. */
  items!: BatchItemResponse[];
}

/** The same shape as `message_json` in the database, which writes the events; a test holds them together. */
export function toMessageResponse(message: Message): MessageResponse {
  return {
    id: message.id,
    workspaceId: message.workspaceId,
    accountId: message.accountId,
    direction: message.direction,
    priority: priorities[message.priority]!,
    type: message.type,
    to: message.recipient,
    from: message.sender,
    text: message.text,
    media: message.media,
    location: message.content?.location ?? null,
    contact: message.content?.contact ?? null,
    poll: message.content?.poll ?? null,
    votes: message.votes.filter(({ options }) => options.length > 0),
    mentions: message.content?.mentions ?? null,
    participant: message.content?.participant ?? null,
    status: message.status,
    error:
      message.errorCode === null ? null : { code: message.errorCode, message: message.errorMessage ?? '' },
    attempts: message.attempts,
    whatsappId: message.whatsappId,
    campaignId: message.campaignId,
    replyTo: message.replyTo,
    quotedWhatsappId: message.content?.quotedWhatsappId ?? null,
    whatsappType: message.content?.whatsappType ?? null,
    metadata: message.metadata,
    createdAt: message.createdAt.toISOString(),
    scheduledFor: message.scheduledFor?.toISOString() ?? null,
    sentAt: message.sentAt?.toISOString() ?? null,
    deliveredAt: message.deliveredAt?.toISOString() ?? null,
    readAt: message.readAt?.toISOString() ?? null,
    failedAt: message.failedAt?.toISOString() ?? null,
    editedAt: message.editedAt?.toISOString() ?? null,
    revokedAt: message.revokedAt?.toISOString() ?? null,
    reactions: message.reactions.filter(({ emoji }) => emoji !== ''),
  };
}
