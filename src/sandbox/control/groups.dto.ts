import {
  ArrayMaxSize,
  IsArray,
  IsBoolean,
  IsIn,
  IsNotEmpty,
  IsString,
  MaxLength,
  IsOptional,
} from 'class-validator';
import { Optional } from '../../platform/http/optional.js';

/** A new group. */
export class CreateGroupDto {
  /** The number of the creator, who becomes the superadmin. */
  @IsString()
  @MaxLength(40)
  owner!: string;

  @IsString()
  @IsNotEmpty()
  @MaxLength(100)
  subject!: string;

  /** The numbers of the other members. */
  @Optional()
  @IsArray()
  @ArrayMaxSize(1023)
  @IsString({ each: true })
  @MaxLength(40, { each: true })
  participants?: string[];
}

/** Changes of a group by one of its members. */
export class ChangeGroupDto {
  /** The number of the member; the owner by default. */
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

  /** Whether only admins may send messages. */
  @Optional()
  @IsBoolean()
  announce?: boolean;

  /** Whether only admins may change subject, description and picture. */
  @Optional()
  @IsBoolean()
  restrict?: boolean;

  /** Whether only admins may add members. */
  @Optional()
  @IsBoolean()
  adminsAdd?: boolean;

  /** Whether a person who joins by the link has to wait for an admin. */
  @Optional()
  @IsBoolean()
  approval?: boolean;

  /** A JPEG or PNG in base64; null removes the picture. */
  @IsOptional()
  @IsString()
  @MaxLength(3_000_000)
  picture?: string | null;
}

/** A change of a group's members. */
export class ChangeMembersDto {
  /** The number of the member who makes the change; the owner by default. */
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

/** A phone that joins or leaves a group. */
export class GroupMemberDto {
  @IsString()
  @MaxLength(40)
  phone!: string;
}

/** A phone that joins a group by an invite. */
export class JoinGroupDto extends GroupMemberDto {
  /** The invite code: the last part of the invite link, or the code of an invite to this phone. */
  @IsString()
  @MaxLength(60)
  code!: string;

  /** The group of an invite to this phone. */
  @Optional()
  @IsString()
  @MaxLength(60)
  group?: string;
}
