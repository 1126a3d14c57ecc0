import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  IsArray,
  IsBase64,
  IsBoolean,
  IsIn,
  IsNotEmpty,
  IsNumber,
  IsString,
  MaxLength,
  ValidateNested,
} from 'class-validator';
import { Optional } from '../../platform/http/optional.js';
import type { Content } from '../journal/content.js';
import type { MediaVault } from '../network/media.js';
import { digitsOf } from '../network/phones.js';

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
  // Something that a program does not know.
  'order',
] as const;

/** A file that a phone's owner sends. */
export class WrittenMediaDto {
  /** In base64. */
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

export class WrittenLocationDto {
  @IsNumber()
  latitude!: number;

  @IsNumber()
  longitude!: number;

  /** The place's name, and its address in the next line. */
  @Optional()
  @IsString()
  @MaxLength(1000)
  description?: string;
}

export class WrittenContactDto {
  @IsString()
  @MaxLength(256)
  name!: string;

  @IsString()
  @MaxLength(10_000)
  vcard!: string;
}

export class WrittenPollDto {
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

/** A message that a phone's owner writes. */
export class WriteMessageDto {
  /** The recipient's number, or the id of a group. */
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
  @Type(() => WrittenMediaDto)
  media?: WrittenMediaDto;

  @Optional()
  @ValidateNested()
  @Type(() => WrittenLocationDto)
  location?: WrittenLocationDto;

  @Optional()
  @IsArray()
  @ArrayMaxSize(100)
  @ValidateNested({ each: true })
  @Type(() => WrittenContactDto)
  contacts?: WrittenContactDto[];

  @Optional()
  @ValidateNested()
  @Type(() => WrittenPollDto)
  poll?: WrittenPollDto;

  /** The WhatsApp id of the message that it answers. */
  @Optional()
  @IsString()
  @MaxLength(100)
  replyTo?: string;

  /** The numbers of whom it mentions. */
  @Optional()
  @IsArray()
  @ArrayMaxSize(256)
  @IsString({ each: true })
  mentions?: string[];
}

/** What a phone's owner chooses in a poll. */
export class VoteDto {
  /** All that are chosen now; none takes the vote back. */
  @IsArray()
  @ArrayMaxSize(12)
  @IsString({ each: true })
  options!: string[];
}

/** What a phone's owner writes, as the ledger takes it. */
export async function toContent(
  { type, text = '', media, location, contacts, poll, replyTo, mentions }: WriteMessageDto,
  vault: MediaVault,
): Promise<{ type: string; text: string } & Content> {
  const sealed =
    media && (await vault.seal(Buffer.from(media.data, 'base64'), media.mimetype, media.filename));
  return {
    type,
    text,
    media: sealed && { ...sealed, sha256: Buffer.from(sealed.filehash, 'base64').toString('hex') },
    location,
    contacts,
    poll,
    replyTo,
    mentions: mentions?.map(digitsOf),
  };
}
