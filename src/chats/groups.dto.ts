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
import { firstWrong } from '../messages/message-rules.js';
import { parseRecipient, recipientHint } from '../messages/recipient.js';
import { Optional } from '../platform/http/optional.js';
import { Person } from '../messages/content.dto.js';

/** The maximum of one call. It is small because each participant takes one request to WhatsApp, with a pause between them. */
const maxParticipants = 20;

/** A phone number in any usual notation, or the chat id of a person. */
function IsPerson(): PropertyDecorator {
  return (target, propertyName) =>
    registerDecorator({
      target: target.constructor,
      propertyName: propertyName as string,
      name: 'isPerson',
      options: { each: true },
      validator: {
        validate: (value: unknown) => {
          const recipient = typeof value === 'string' ? parseRecipient(value) : null;
          return recipient !== null && !recipient.chatId.endsWith('@g.us');
        },
        defaultMessage: (found) => recipientHint(firstWrong(found), '@c.us or @lid'),
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
  @ArrayMaxSize(maxParticipants)
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

/** Changes of a group. Fields that are left out stay as they are. */
export class UpdateGroupDto {
  @Optional()
  @IsString()
  @Length(1, 100)
  @Matches(/\S/, { message: 'must not be blank' })
  subject?: string;

  /** An empty text removes the description. */
  @Optional()
  @IsString()
  @MaxLength(2048)
  description?: string;

  /** Whether only admins may write messages. */
  @Optional()
  @IsBoolean()
  announcementsOnly?: boolean;

  /** Whether only admins may change the subject, the description and the picture. */
  @Optional()
  @IsBoolean()
  infoAdminsOnly?: boolean;

  /** Whether only admins may add participants. */
  @Optional()
  @IsBoolean()
  addAdminsOnly?: boolean;
}

export class JoinGroupDto {
  /**
   * The code of the invite, or its whole link.
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
  /** Whether the account is an admin of the group. */
  isAdmin!: boolean;
}

export class GroupParticipant extends Person {
  isAdmin!: boolean;
  /** Whether the participant created the group. */
  isSuperAdmin!: boolean;
}

export class GroupResponse extends GroupSummary {
  /** False if the account left the group or was removed. Then the other fields show the state at that time. */
  isMember!: boolean;
  description!: string | null;
  owner!: Person | null;
  createdAt!: string | null;
  announcementsOnly!: boolean;
  infoAdminsOnly!: boolean;
  addAdminsOnly!: boolean;
  /** Null if the account is not an admin of the group, or if your key may not see the code. */
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

/** The result for one participant. */
export class ParticipantResult extends Person {
  /** The participant as named in the request. */
  participant!: string;
  /**
   * `needs_invite`: the account may not add this person; send the invite link instead. `not_member`: the person is not in the
   * group, so there is nothing to remove, promote or demote.
   */
  status!: ParticipantStatus;
}

export class ParticipantsResponse {
  items!: ParticipantResult[];
}

export class CreatedGroupResponse extends GroupResponse {
  /** The result for each participant of the request. */
  results!: ParticipantResult[];
}

export class InviteResponse {
  code!: string;
  /** @example https://chat.whatsapp.com/AbCdEfGhIjKlMnOpQrStUv */
  link!: string;
}
