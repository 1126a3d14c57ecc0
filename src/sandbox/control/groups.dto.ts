import {
  ArrayMaxSize,
  IsArray,
  IsBoolean,
  IsIn,
  IsNotEmpty,
  IsString,
  MaxLength,
  ValidateIf,
} from 'class-validator';
import { Optional } from '../../platform/http/optional.js';

/** A group that a phone's owner makes. */
export class CreateGroupDto {
  /** Who makes it, and is its superadmin. */
  @IsString()
  @MaxLength(40)
  owner!: string;

  @IsString()
  @IsNotEmpty()
  @MaxLength(100)
  subject!: string;

  /** The numbers of the others. */
  @Optional()
  @IsArray()
  @ArrayMaxSize(1023)
  @IsString({ each: true })
  @MaxLength(40, { each: true })
  participants?: string[];
}

/** What a group is changed to, by one of its members. */
export class ChangeGroupDto {
  /** Who does it; its owner unless named. */
  @Optional()
  @IsString()
  @MaxLength(40)
  by?: string;

  @Optional()
  @IsString()
  @IsNotEmpty()
  @MaxLength(100)
  subject?: string;

  @Optional()
  @IsString()
  @MaxLength(2048)
  description?: string;

  /** Only admins write. */
  @Optional()
  @IsBoolean()
  announce?: boolean;

  /** Only admins change subject, description and picture. */
  @Optional()
  @IsBoolean()
  restrict?: boolean;

  /** Only admins add members. */
  @Optional()
  @IsBoolean()
  adminsAdd?: boolean;

  /** A JPEG or PNG in base64; null removes it. */
  @ValidateIf(({ picture }: ChangeGroupDto) => picture !== undefined && picture !== null)
  @IsString()
  @MaxLength(3_000_000)
  picture?: string | null;
}

/** Which members of a group something is done to, and what. */
export class ChangeMembersDto {
  /** Who does it; the owner of the group unless named. */
  @Optional()
  @IsString()
  @MaxLength(40)
  by?: string;

  @IsIn(['add', 'remove', 'promote', 'demote'])
  change!: 'add' | 'remove' | 'promote' | 'demote';

  @IsArray()
  @ArrayMaxSize(1023)
  @IsString({ each: true })
  @MaxLength(40, { each: true })
  participants!: string[];
}

/** Who joins or leaves a group. */
export class GroupMemberDto {
  @IsString()
  @MaxLength(40)
  phone!: string;
}

/** An invite that a phone's owner follows. */
export class JoinGroupDto extends GroupMemberDto {
  /** The code, which is the end of the link. */
  @IsString()
  @MaxLength(60)
  code!: string;
}
