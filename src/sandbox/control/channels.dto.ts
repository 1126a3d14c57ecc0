import { Type } from 'class-transformer';
import { IsIn, IsNotEmpty, IsString, MaxLength, IsOptional, ValidateNested } from 'class-validator';
import { Optional } from '../../platform/http/optional.js';
import { PhoneMediaDto } from './messages.dto.js';

/** A new channel. */
export class CreateChannelDto {
  /** The number of the owner. */
  @IsString()
  @MaxLength(40)
  owner!: string;

  @IsString()
  @IsNotEmpty()
  @MaxLength(100)
  name!: string;

  @Optional()
  @IsString()
  @MaxLength(2048)
  description?: string;
}

/** Changes of a channel by its owner or an admin. */
export class ChangeChannelDto {
  /** The number of the admin; the owner by default. */
  @Optional()
  @IsString()
  @MaxLength(40)
  by?: string;

  @Optional()
  @IsString()
  @IsNotEmpty()
  @MaxLength(100)
  name?: string;

  @Optional()
  @IsString()
  @MaxLength(2048)
  description?: string;

  /** A JPEG or PNG in base64; null removes the picture. */
  @IsOptional()
  @IsString()
  @MaxLength(3_000_000)
  picture?: string | null;
}

/** A post of the owner or an admin. */
export class ChannelPostDto {
  /** The number of the admin; the owner by default. */
  @Optional()
  @IsString()
  @MaxLength(40)
  by?: string;

  @IsIn(['text', 'image', 'video'])
  type: 'text' | 'image' | 'video' = 'text';

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
}

/** A phone that does something with a channel. */
export class ChannelMemberDto {
  @IsString()
  @MaxLength(40)
  phone!: string;
}
