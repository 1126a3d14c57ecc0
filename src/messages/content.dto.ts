import {
  ArrayMaxSize,
  ArrayMinSize,
  ArrayUnique,
  IsArray,
  IsBoolean,
  IsNotEmpty,
  IsNumber,
  IsString,
  IsUrl,
  IsUUID,
  Matches,
  Max,
  MaxLength,
  Min,
  registerDecorator,
} from 'class-validator';
import { Optional } from '../platform/http/optional.js';
import { parsePhoneNumber, phoneNumberHint } from '../platform/http/phone-number.js';

/** WhatsApp's own limits of a poll. */
const minOptions = 2;
const maxOptions = 12;
const maxOptionLength = 100;
/** The longest caption that WhatsApp's programs show, in characters. */
export const maxCaptionLength = 1_024;

function IsPhone() {
  return (target: object, propertyName: string) =>
    registerDecorator({
      name: 'isPhone',
      target: target.constructor,
      propertyName,
      validator: {
        validate: (value: unknown) => typeof value === 'string' && parsePhoneNumber(value) !== null,
        defaultMessage: (found) => phoneNumberHint(found?.value),
      },
    });
}

function IsShortText(maxLength: number) {
  return (target: object, propertyName: string) => {
    IsString()(target, propertyName);
    IsNotEmpty({ message: 'must not be empty' })(target, propertyName);
    Matches(/\S/, { message: 'must not be blank' })(target, propertyName);
    MaxLength(maxLength, { message: `must be at most ${maxLength} characters` })(target, propertyName);
  };
}

/** The file of a message: exactly one of `url`, `data` and `mediaId`. */
export class MediaSourceDto {
  /**
   * Flotilla downloads the file from this URL while it accepts the message. The server must have a public address and answer
   * 200 without a redirect.
   * @example https://example.com/invoice.pdf
   */
  @Optional()
  @IsUrl(
    { protocols: ['http', 'https'], require_protocol: true, require_tld: false },
    { message: 'must be an http or https URL' },
  )
  @MaxLength(2_048)
  url?: string;

  /** The file itself, as base64. For a file of more than a few megabytes, use `POST /media` and `mediaId`. */
  @Optional()
  @IsString()
  @IsNotEmpty()
  data?: string;

  /** The id of a file that was uploaded with `POST /media` or received with a message. */
  @Optional()
  @IsUUID()
  mediaId?: string;

  /**
   * With `data` or `url`: the media type of the file. If the bytes show another type, that type counts.
   * @example application/pdf
   */
  @Optional()
  @Matches(/^[\w.+-]+\/[\w.+-]+(\s*;.*)?$/, { message: 'must be a media type, for example image/png' })
  @MaxLength(200)
  mimetype?: string;

  /**
   * With `data` or `url`: the name of the file. The recipient of a document sees it.
   * @example invoice.pdf
   */
  @Optional()
  @IsShortText(255)
  filename?: string;

  /** The text below an image, a video or a document. */
  @Optional()
  @IsShortText(maxCaptionLength)
  caption?: string;
}

export class LocationDto {
  /** @example -6.1754 */
  @IsNumber()
  @Min(-90)
  @Max(90)
  latitude!: number;

  /** @example 106.8272 */
  @IsNumber()
  @Min(-180)
  @Max(180)
  longitude!: number;

  /** @example Monas */
  @Optional()
  @IsShortText(256)
  name?: string;

  /** @example Gambir, Jakarta */
  @Optional()
  @IsShortText(512)
  address?: string;
}

export class ContactDto {
  /** @example Siti Rahma */
  @IsShortText(256)
  name!: string;

  /** @example +6281234567890 */
  @IsPhone()
  phone!: string;

  /** @example Toko Maju */
  @Optional()
  @IsShortText(256)
  organization?: string;
}

export class PollDto {
  /** @example When shall we deliver? */
  @IsShortText(255)
  question!: string;

  /**
   * 2 to 12 different options.
   * @example ["Morning", "Evening"]
   */
  @IsArray()
  @ArrayMinSize(minOptions)
  @ArrayMaxSize(maxOptions)
  @ArrayUnique((option: unknown) => (typeof option === 'string' ? option.trim() : option), {
    message: 'must all be different',
  })
  @IsString({ each: true })
  @Matches(/\S/, { each: true, message: 'must not be blank' })
  @MaxLength(maxOptionLength, { each: true })
  options!: string[];

  /** Whether a person may choose several options. */
  @Optional()
  @IsBoolean()
  multiple = false;
}

/** The file of a message. */
export class MessageMedia {
  /** The id for `GET /media/:id`. Null if the file is not stored: see `error`. */
  mediaId!: string | null;
  mimetype!: string;
  /** In bytes. Null if not known yet. */
  size!: number | null;
  filename!: string | null;
  /** The SHA-256 hash of the file, in hexadecimal digits. */
  sha256!: string | null;
  /** Why the file of an incoming message is missing. `POST /messages/:id/media` tries the download again. */
  error!: MediaError | null;
}

export class MediaError {
  /** @example media.too_large */
  code!: string;
  message!: string;
}

export class MessageLocation {
  latitude!: number;
  longitude!: number;
  name!: string | null;
  address!: string | null;
}

export class MessageContact {
  name!: string;
  /** The digits with country code. Null if the card has no phone number. */
  phone!: string | null;
  organization!: string | null;
}

export class MessagePoll {
  question!: string;
  options!: string[];
  multiple!: boolean;
}

/** A person. WhatsApp may hide the phone number or the LID: either may be null. */
/** The group of a message. */
export class MessageGroup {
  /** @example 120363012345678901@g.us */
  id!: string;
  /** The subject that the group had when the message came. Null if the page did not know it. */
  subject!: string | null;
}

export class Person {
  /**
   * The digits of the phone number, with country code.
   * @example 6281234567890
   */
  phone!: string | null;
  /**
   * The anonymous id (LID). It stays the same when the phone number changes.
   * @example 10987654321826@lid
   */
  lid!: string | null;
}

/** The author of a message. */
export class Participant extends Person {
  /**
   * The name in the address book of the account's phone. Without such a name, the name that the person has set in WhatsApp.
   * @example Siti Rahma
   */
  name!: string | null;
}

/** The vote of a person in a poll. */
export class MessageVote extends Person {
  /** The digits of the phone number, or the chat id of a hidden number. */
  from!: string;
  options!: string[];
  at!: string;
}
