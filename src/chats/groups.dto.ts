import {
  ArrayMaxSize,
  ArrayMinSize,
  IsArray,
  IsBoolean,
  IsString,
  Length,
  Matches,
  MaxLength,
  registerDecorator,
} from 'class-validator';
import { parseRecipient } from '../messages/recipient.js';
import { Optional } from '../platform/http/optional.js';
import { Person } from '../messages/content.dto.js';

/** One call adds so many at most: WhatsApp is asked for each, with a pause between. */
const addedAtOnce = 20;

/** A phone number in any usual notation, or the chat id of a person. */
function IsPerson(): PropertyDecorator {
  return (target, propertyName) =>
    registerDecorator({
      target: target.constructor,
      propertyName: propertyName as string,
      name: 'isPerson',
      options: {
        each: true,
        message: 'must be phone numbers with country code, or chat ids (…@c.us, …@lid)',
      },
      validator: {
        validate: (value: unknown) => {
          const recipient = typeof value === 'string' ? parseRecipient(value) : null;
          return recipient !== null && !recipient.chatId.endsWith('@g.us');
        },
      },
    });
}

export class ParticipantsDto {
  /**
   * Phone numbers in any usual notation, or chat ids.
   * @example ["+6281234567890"]
   */
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(addedAtOnce)
  @IsPerson()
  participants!: string[];
}

export class CreateGroupDto extends ParticipantsDto {
  /** @example Choir */
  @IsString()
  @Length(1, 100)
  @Matches(/\S/, { message: 'must not be blank' })
  subject!: string;
}

/** What a group is to be; what is left out stays. */
export class UpdateGroupDto {
  @Optional()
  @IsString()
  @Length(1, 100)
  @Matches(/\S/, { message: 'must not be blank' })
  subject?: string;

  /** An empty one removes it. */
  @Optional()
  @IsString()
  @MaxLength(2048)
  description?: string;

  /** Only admins write. */
  @Optional()
  @IsBoolean()
  announcementsOnly?: boolean;

  /** Only admins change subject, description and picture. */
  @Optional()
  @IsBoolean()
  infoAdminsOnly?: boolean;

  /** Only admins add participants. */
  @Optional()
  @IsBoolean()
  addAdminsOnly?: boolean;
}

export class JoinGroupDto {
  /**
   * The code, or the whole link.
   * @example https://chat.whatsapp.com/AbCdEfGhIjKlMnOpQrStUv
   */
  @IsString()
  @Matches(/^(https:\/\/chat\.whatsapp\.com\/(invite\/)?)?[\w-]{10,60}$/, {
    message: 'must be the code of an invite, or its link',
  })
  code!: string;
}

export class GroupSummary {
  /** @example 120363012345678901@g.us */
  id!: string;
  subject!: string;
  participantCount!: number;
  /** Whether the account is one of its admins. */
  isAdmin!: boolean;
}

export class GroupParticipant extends Person {
  isAdmin!: boolean;
  /** Who made the group. */
  isSuperAdmin!: boolean;
}

export class GroupResponse extends GroupSummary {
  /** False once the account has left or was removed: the rest is as it was then. */
  isMember!: boolean;
  description!: string | null;
  owner!: Person | null;
  createdAt!: string | null;
  announcementsOnly!: boolean;
  infoAdminsOnly!: boolean;
  addAdminsOnly!: boolean;
  /** For admins alone; else null. */
  inviteCode!: string | null;
  participants!: GroupParticipant[];
}

export const participantStatuses = [
  'done',
  'already_member',
  'not_member',
  'not_registered',
  'needs_invite',
  'recently_left',
  'group_full',
  'failed',
] as const;
export type ParticipantStatus = (typeof participantStatuses)[number];

/** What became of one participant. */
export class ParticipantResult extends Person {
  /** As it was asked for. */
  participant!: string;
  /**
   * `needs_invite`: the person lets nobody add them; send the invite link. `not_member`: there is nobody to remove, promote or
   * demote.
   */
  status!: ParticipantStatus;
}

export class ParticipantsResponse {
  items!: ParticipantResult[];
}

export class CreatedGroupResponse extends GroupResponse {
  /** What became of each participant that was asked for. */
  results!: ParticipantResult[];
}

export class InviteResponse {
  code!: string;
  /** @example https://chat.whatsapp.com/AbCdEfGhIjKlMnOpQrStUv */
  link!: string;
}
