import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  Equals,
  IsArray,
  IsBase64,
  IsBoolean,
  IsIn,
  IsInt,
  IsNotEmpty,
  IsNumber,
  IsString,
  Max,
  MaxLength,
  Min,
  ValidateNested,
} from 'class-validator';
import { Optional } from '../../platform/http/optional.js';

const TYPES = [
  'text',
  'image',
  'video',
  'audio',
  'voice',
  'document',
  'sticker',
  'location',
  'contact',
  'poll',
  'group_invite',
  'event',
  // A type that Flotilla does not know.
  'order',
] as const;

/** A file in a message from a phone. */
export class PhoneMediaDto {
  /** The bytes in base64. */
  @IsBase64()
  data!: string;

  @IsString()
  @MaxLength(200)
  mimetype!: string;

  @Optional()
  @IsString()
  @MaxLength(255)
  filename?: string;
}

/** A place in a message from a phone. */
export class PhoneLocationDto {
  @IsNumber()
  latitude!: number;

  @IsNumber()
  longitude!: number;

  /** The name of the place; the second line is its address. */
  @Optional()
  @IsString()
  @MaxLength(1000)
  description?: string;
}

/** A contact card in a message from a phone. */
export class PhoneContactDto {
  @IsString()
  @MaxLength(256)
  name!: string;

  @IsString()
  @MaxLength(100_000)
  vcard!: string;
}

/** A poll in a message from a phone. */
export class PhonePollDto {
  @IsString()
  @MaxLength(255)
  question!: string;

  @IsArray()
  @ArrayMinSize(2)
  @ArrayMaxSize(12)
  @IsString({ each: true })
  options!: string[];

  @IsBoolean()
  multiple = false;
}

/** An invite to a group in a message from a phone; the answer to adding a member has it. */
export class PhoneInviteDto {
  @IsString()
  @MaxLength(60)
  code!: string;

  /** Seconds since 1970. */
  @IsInt()
  expiresAt!: number;

  /** The address of the group. */
  @IsString()
  @MaxLength(60)
  group!: string;

  /** The name of the group. */
  @IsString()
  @MaxLength(100)
  subject!: string;
}

/** An appointment in a message from a phone. Times are seconds since 1970. */
export class PhoneEventDto {
  @IsString()
  @IsNotEmpty()
  @MaxLength(255)
  name!: string;

  @Optional()
  @IsString()
  @MaxLength(2048)
  description?: string;

  @IsInt()
  @Min(0)
  startTime!: number;

  @Optional()
  @IsInt()
  @Min(0)
  endTime?: number;

  @Optional()
  @IsString()
  @MaxLength(255)
  location?: string;

  @IsBoolean()
  canceled = false;
}

/** A message that the owner of a phone sends. */
export class PhoneMessageDto {
  /** The recipient's number, or the address of a group. */
  @IsString()
  @IsNotEmpty()
  @MaxLength(60)
  to!: string;

  @IsIn(TYPES)
  type: (typeof TYPES)[number] = 'text';

  /** The text, or the caption. */
  @Optional()
  @IsString()
  @IsNotEmpty()
  @MaxLength(65_536)
  text?: string;

  @Optional()
  @ValidateNested()
  @Type(() => PhoneMediaDto)
  media?: PhoneMediaDto;

  @Optional()
  @ValidateNested()
  @Type(() => PhoneLocationDto)
  location?: PhoneLocationDto;

  @Optional()
  @IsArray()
  @ArrayMaxSize(100)
  @ValidateNested({ each: true })
  @Type(() => PhoneContactDto)
  contacts?: PhoneContactDto[];

  @Optional()
  @ValidateNested()
  @Type(() => PhonePollDto)
  poll?: PhonePollDto;

  @Optional()
  @ValidateNested()
  @Type(() => PhoneEventDto)
  event?: PhoneEventDto;

  /** The WhatsApp id of the message that it answers. */
  @Optional()
  @IsString()
  @MaxLength(100)
  replyTo?: string;

  /** Not a message in a chat, but a story of the phone's owner, or a post in the owner's channel. */
  @Optional()
  @IsIn(['story', 'channel'])
  as?: 'story' | 'channel';

  /** Whether the recipients' browsers can decrypt it only later: POST /phones/:phone/messages/:whatsappId/decrypt. */
  @Optional()
  @IsBoolean()
  isUndecrypted?: boolean;

  /** The numbers of the people that it mentions. */
  @Optional()
  @IsArray()
  @ArrayMaxSize(256)
  @IsString({ each: true })
  mentions?: string[];

  @Optional()
  @ValidateNested()
  @Type(() => PhoneInviteDto)
  invite?: PhoneInviteDto;

  /** The recipient may look at it once. */
  @Optional()
  @Equals(true)
  viewOnce?: true;

  /** A video without sound that plays again and again. */
  @Optional()
  @Equals(true)
  gif?: true;

  /** How long audio or video lasts, in seconds. */
  @Optional()
  @IsNumber()
  duration?: number;
}

/** The vote of a phone's owner in a poll. */
export class VoteDto {
  /** All options that are chosen now; an empty list removes the vote. */
  @IsArray()
  @ArrayMaxSize(12)
  @IsString({ each: true })
  options!: string[];
}

/** For how long a message is pinned in its chat. */
export class PinDto {
  /** 0 removes the pin. */
  @IsInt()
  @Min(0)
  seconds!: number;
}

/** The response of a phone's owner to a scheduled event. */
export class RespondDto {
  /** 1 comes, 2 does not come, 3 may come; 0 takes the response back. */
  @IsInt()
  @Min(0)
  @Max(3)
  response!: number;
}

/** The new text of a message. */
export class EditMessageDto {
  @IsString()
  @IsNotEmpty()
  @MaxLength(65_536)
  text!: string;
}

/** The reaction of a phone's owner to a message. */
export class ReactDto {
  /** An empty text removes the reaction. */
  @IsString()
  @MaxLength(40)
  emoji!: string;
}
