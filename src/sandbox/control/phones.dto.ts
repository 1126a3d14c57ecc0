import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  IsArray,
  IsBoolean,
  IsIn,
  IsInt,
  IsNotEmpty,
  IsString,
  Max,
  MaxLength,
  Min,
  IsOptional,
  ValidateNested,
} from 'class-validator';
import { Optional } from '../../platform/http/optional.js';
import type { PresenceState } from '../network/presence.js';

/** A new phone. */
export class CreatePhoneDto {
  /** The number with country code, in any usual notation. Without it, an Indonesian number is invented. */
  @Optional()
  @IsString()
  @MaxLength(40)
  phone?: string;

  /** The name of the owner. */
  @Optional()
  @IsString()
  @IsNotEmpty()
  @MaxLength(100)
  name?: string;

  /** Other forms of the number, for example a Brazilian number with its ninth digit. */
  @Optional()
  @IsArray()
  @ArrayMaxSize(10)
  @IsString({ each: true })
  @MaxLength(40, { each: true })
  aliases?: string[];
}

/** What a business says of itself. */
export class BusinessProfileDto {
  @Optional()
  @IsString()
  @MaxLength(512)
  description?: string;

  @Optional()
  @IsString()
  @MaxLength(128)
  email?: string;

  @Optional()
  @IsString()
  @MaxLength(256)
  address?: string;

  @Optional()
  @IsString()
  @MaxLength(100)
  category?: string;

  @Optional()
  @IsArray()
  @ArrayMaxSize(2)
  @IsString({ each: true })
  @MaxLength(256, { each: true })
  websites?: string[];
}

/** Changes of a phone by its owner. */
export class ChangePhoneDto {
  @Optional()
  @IsString()
  @IsNotEmpty()
  @MaxLength(100)
  name?: string;

  /** Whether people who do not have the number see the LID only. */
  @Optional()
  @IsBoolean()
  hidesNumber?: boolean;

  /** Whether nobody sees when it was online last. */
  @Optional()
  @IsBoolean()
  hidesLastSeen?: boolean;

  /** Whether it joins groups only by accepting an invite. */
  @Optional()
  @IsBoolean()
  joinsByInviteOnly?: boolean;

  @Optional()
  @IsBoolean()
  isBusiness?: boolean;

  /** The text under the name; null removes it. */
  @IsOptional()
  @IsString()
  @MaxLength(139)
  about?: string | null;

  @Optional()
  @ValidateNested()
  @Type(() => BusinessProfileDto)
  businessProfile?: BusinessProfileDto;

  /** A JPEG or PNG in base64; null removes the picture. */
  @IsOptional()
  @IsString()
  @MaxLength(3_000_000)
  picture?: string | null;
}

/** A person in the address book of a phone. */
export class SaveContactDto {
  @IsString()
  @IsNotEmpty()
  @MaxLength(40)
  phone!: string;

  /** Without a name, the person is removed. */
  @Optional()
  @IsString()
  @IsNotEmpty()
  @MaxLength(100)
  name?: string;
}

/** A person that the owner of a phone blocks. */
export class BlockDto {
  @IsString()
  @IsNotEmpty()
  @MaxLength(40)
  phone!: string;

  /** False ends it. */
  @IsBoolean()
  blocked = true;
}

/** The new number of a phone. */
export class ChangeNumberDto {
  /** A number that is not registered, with its country code. */
  @IsString()
  @IsNotEmpty()
  @MaxLength(40)
  to!: string;
}

/** A QR code that the owner of a phone scans. */
export class ScanDto {
  /** The whole text of the code. */
  @IsString()
  @IsNotEmpty()
  @MaxLength(1000)
  qr!: string;

  /** The tenant whose browser shows the code. The phone then belongs to this tenant. Without it, every phone may scan. */
  @Optional()
  @IsString()
  @IsNotEmpty()
  @MaxLength(100)
  tenant?: string;
}

/** A pairing code that the owner of a phone enters. */
export class EnterCodeDto {
  @IsString()
  @IsNotEmpty()
  @MaxLength(20)
  code!: string;
}

/** Removes all linked browsers of a phone. */
export class UnlinkDto {
  /** The number of the account. If it is set, it must be the number of the phone. */
  @Optional()
  @IsString()
  @MaxLength(40)
  accountPhone?: string;
}

/** A page of a list. */
export class PageDto {
  @Optional()
  @Type(() => Number)
  @IsInt()
  @Min(1)
  @Max(10_000)
  limit?: number;

  @Optional()
  @IsString()
  @MaxLength(40)
  cursor?: string;
}

/** What the owner of a phone does now: online or not, or what happens in one chat. */
export class PresenceDto {
  @IsIn(['available', 'unavailable', 'composing', 'recording', 'paused'])
  state!: PresenceState;

  /** For `composing`, `recording` and `paused`: the number of the other phone, or the address of a group. */
  @Optional()
  @IsString()
  @MaxLength(100)
  to?: string;
}
