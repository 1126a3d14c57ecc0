import { ApiExtraModels, ApiProperty, ApiPropertyOptional, getSchemaPath } from '@nestjs/swagger';
import { Transform, Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  IsArray,
  IsBoolean,
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
import { IsDestination, IsEmoji, IsMessageText, IsRecipient, IsSmallJson } from './message-rules.js';
import { type MessageType, messageTypes } from './message-types.js';
import {
  ContactDto,
  LocationDto,
  MediaSourceDto,
  MessageContact,
  MessageGroup,
  MessageLocation,
  MessageMedia,
  Participant,
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

const maxContacts = 50;
const maxMentions = 256;

/** What a message says. */
@ApiExtraModels(ContactDto)
export class MessageContentDto {
  /** The type of the message. It decides which field is required: `text`, `media`, `location`, `contact` or `poll`. */
  @Optional()
  @IsIn(messageTypes)
  type: MessageType = 'text';

  /**
   * For the type `text`.
   * @example "Your parcel is on its way."
   */
  @Optional()
  @IsMessageText()
  text?: string;

  /** For the types `image`, `video`, `audio`, `voice`, `document` and `sticker`. */
  @Optional()
  @IsObject()
  @ValidateNested()
  @Type(() => MediaSourceDto)
  media?: MediaSourceDto;

  /** For the type `location`. */
  @Optional()
  @IsObject()
  @ValidateNested()
  @Type(() => LocationDto)
  location?: LocationDto;

  /** For the type `contact`: one contact or a list. */
  @Optional()
  @ApiPropertyOptional({
    oneOf: [
      { $ref: getSchemaPath(ContactDto) },
      { type: 'array', items: { $ref: getSchemaPath(ContactDto) }, minItems: 1, maxItems: maxContacts },
    ],
  })
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(maxContacts)
  @IsObject({ each: true })
  @ValidateNested({ each: true })
  @Type(() => ContactDto)
  @Transform(({ value }) => (Array.isArray(value) ? value : [value]) as unknown)
  contact?: ContactDto[];

  /** For the type `poll`. */
  @Optional()
  @IsObject()
  @ValidateNested()
  @Type(() => PollDto)
  poll?: PollDto;

  /** For the types `image`, `video` and `voice`: the recipient can open the media once, on a phone. */
  @Optional()
  @IsBoolean()
  viewOnce?: boolean;

  /**
   * For the type `video`: it plays again and again without sound, as a GIF does. Flotilla converts an animated GIF or WebP, and
   * video that is not MP4, to MP4.
   */
  @Optional()
  @IsBoolean()
  gif?: boolean;

  /** For the type `text`: `false` sends it without a preview of its link. */
  @Optional()
  @IsBoolean()
  linkPreview?: boolean;

  /** Your own data. Flotilla returns it with the message and in every event of the message. */
  @Optional()
  @IsObject()
  @IsSmallJson()
  metadata?: Record<string, unknown>;
}

export class SendMessageDto extends MessageContentDto {
  /** The account that sends. Default: a ready account, preferably the account that last wrote to this recipient. */
  @Optional()
  @IsUUID()
  accountId?: string;

  /**
   * The recipient: a phone number with country code, or a chat id. `status` posts a story, and the id of a channel (`…@newsletter`) posts
   * there: then `accountId` is required.
   * @example +6281234567890
   */
  @IsDestination()
  to!: string;

  /** The id of the message to reply to. It must belong to the same account and the same chat. */
  @Optional()
  @IsUUID()
  replyTo?: string;

  /**
   * The persons that the text or the caption mentions: phone numbers or chat ids. The text contains each as `@` and the digits.
   * @example ["+6281234567890"]
   */
  @Optional()
  @IsArray()
  @ArrayMaxSize(maxMentions)
  @IsRecipient({ each: true })
  mentions?: string[];

  @Optional()
  @IsIn(['urgent', 'high', 'normal'])
  priority: Exclude<Priority, 'campaign'> = 'normal';

  /** Flotilla does not send the message before this time. */
  @Optional()
  @IsTime()
  sendAt?: string;

  /** If the message is not sent before this time, it expires. */
  @Optional()
  @IsTime()
  expiresAt?: string;
}

export class EditMessageDto {
  /** @example "Your parcel arrives tomorrow." */
  @IsMessageText()
  text!: string;
}

export class ReactDto {
  /**
   * One emoji. An empty text removes the reaction.
   * @example 👍
   */
  @IsEmoji()
  emoji!: string;
}

export class SendMessageQuery extends ScopedQuery {
  /** The answer waits until the message has this status or a later one, or until `timeoutMs` is over. */
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
  /** Each item is a `SendMessageDto` and is checked separately: an invalid item does not stop the others. */
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
  @IsDestination()
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
  /** The digits of the phone number, or the chat id of a hidden number. */
  from!: string;
  emoji!: string;
  at!: string;
}

export class MessageResponse {
  id!: string;
  workspaceId!: string;
  accountId!: string;
  direction!: 'outgoing' | 'incoming';
  /**
   * Who wrote an outgoing message: a caller of this API, a campaign, or the account's owner on the phone or another linked device.
   * Null for an incoming message.
   */
  origin!: 'api' | 'campaign' | 'device' | null;
  priority!: Priority;
  /** A type that can be sent, or `unsupported`. In that case `whatsappType` is WhatsApp's own name of the type. */
  type!: string;
  to!: string;
  /**
   * The digits of the phone number, or the chat id of a hidden number or a group. To reply, use it as `to`. For an outgoing message:
   * the number of the account when it sent the message. Before that: when the message was accepted.
   */
  from!: string | null;
  /** The text. For media, the caption. */
  text!: string | null;
  media!: MessageMedia | null;
  location!: MessageLocation | null;
  contact!: MessageContact[] | null;
  poll!: MessagePoll | null;
  /** For a poll: the last vote of each person. */
  votes!: MessageVote[];
  /** The mentioned persons: the digits of phone numbers, or chat ids of hidden numbers. */
  mentions!: string[] | null;
  /** Whether its media can be opened only once. */
  viewOnce!: boolean;
  /** Whether it is a video that plays again and again without sound. */
  gif!: boolean;
  /** The author of an incoming message. In a group, `from` is the group. */
  participant!: Participant | null;
  /** For an incoming message, or one from the phone, in a group. */
  group!: MessageGroup | null;
  status!: MessageStatus;
  error!: MessageError | null;
  attempts!: number;
  whatsappId!: string;
  campaignId!: string | null;
  /** The id of the message that this message replies to. Null also if Flotilla does not have that message. */
  replyTo!: string | null;
  /** For a reply that came in or was written on the phone: the WhatsApp id of the message that it replies to. */
  quotedWhatsappId!: string | null;
  /** For type `unsupported`: WhatsApp's own name of the type. */
  whatsappType!: string | null;
  metadata!: Record<string, unknown>;
  /** When Flotilla accepted or received the message. Lists are ordered by this time. */
  createdAt!: string;
  scheduledFor!: string | null;
  /**
   * For an incoming message and for one from the phone: WhatsApp's own time of the message, in whole seconds. It is earlier than
   * `createdAt` if the account was away. For other messages: when WhatsApp took the message.
   */
  sentAt!: string | null;
  deliveredAt!: string | null;
  /** When the recipient has read the message. For an incoming message: when Flotilla marked it as read. */
  readAt!: string | null;
  failedAt!: string | null;
  /** When `text` was last changed after the message was accepted or received. */
  editedAt!: string | null;
  /** When the message was deleted for everyone. Its status and its text stay the same. */
  revokedAt!: string | null;
  /**
   * Set for a message that is `sent` and was not in the copy of the session that the account was restored from after a crash. WhatsApp's
   * server has the message, but the recipient may not be able to read it. Null again as soon as it is delivered.
   */
  inQuestionSince!: string | null;
  /** At most one reaction for each person. */
  reactions!: MessageReaction[];
}

export class BatchItemResponse {
  index!: number;
  /** The HTTP status that `POST /messages` would have answered for this message. */
  status!: number;
  message?: MessageResponse;
  error?: { code: string; detail: string; errors?: { path: string; message: string }[] };
}

export class BatchResponse {
  /** In the order of the request. */
  items!: BatchItemResponse[];
}

/** Rows of older versions have one number, and no card. */
function withAllFields({ phones, vcard, ...contact }: MessageContact): MessageContact {
  return { ...contact, phones: phones ?? [], vcard: vcard ?? null };
}

/** The same shape as `message_json` in the database, which writes the events. A test compares the two. */
export function toMessageResponse(message: Message): MessageResponse {
  return {
    id: message.id,
    workspaceId: message.workspaceId,
    accountId: message.accountId,
    direction: message.direction,
    origin: originOf(message),
    priority: priorities[message.priority]!,
    type: message.type,
    to: message.recipient,
    from: message.sender,
    text: message.text,
    media: message.media && { ...message.media, converted: message.media.converted ?? null },
    location: message.content?.location ?? null,
    contact: message.content?.contact?.map(withAllFields) ?? null,
    poll: message.content?.poll ?? null,
    votes: message.votes.filter(({ options }) => options.length > 0),
    mentions: message.content?.mentions ?? null,
    viewOnce: message.content?.viewOnce ?? false,
    gif: message.content?.gif ?? false,
    // Older rows have no name.
    participant: message.content?.participant ? { name: null, ...message.content.participant } : null,
    group: message.content?.group ?? null,
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
    inQuestionSince: message.inQuestionSince?.toISOString() ?? null,
    reactions: message.reactions.filter(({ emoji }) => emoji !== ''),
  };
}

function originOf({ direction, isFromDevice, campaignId }: Message): MessageResponse['origin'] {
  if (direction === 'incoming') return null;
  if (isFromDevice) return 'device';
  return campaignId === null ? 'api' : 'campaign';
}
