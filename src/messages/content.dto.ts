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
import { parsePhoneNumber } from '../platform/http/phone-number.js';

/** WhatsApp's own limits of a poll. */
const fewestOptions = 2;
const mostOptions = 12;
const longestOption = 100;
/** What WhatsApp's programs show below a picture, in characters. */
export const longestCaption = 1_024;

function IsPhone() {
  return (target: object, propertyName: string) =>
    registerDecorator({
      name: 'isPhone',
      target: target.constructor,
      propertyName,
      validator: {
        validate: (value: unknown) => typeof value === 'string' && parsePhoneNumber(value) !== null,
        defaultMessage: () => 'must be a phone number with country code, such as +6281234567890',
      },
    });
}

function IsShortText(longest: number) {
  return (target: object, propertyName: string) => {
    IsString()(target, propertyName);
    IsNotEmpty({ message: 'must not be empty' })(target, propertyName);
    Matches(/\S/, { message: 'must not be blank' })(target, propertyName);
    MaxLength(longest, { message: `must be at most ${longest} characters` })(target, propertyName);
  };
}

/** The file of a message: exactly one of `url`, `data` and `mediaId`. */
export class MediaSourceDto {
  /**
   * Where it is downloaded from, now. Its server must answer 200, without a redirect, at a public address.
   * @example https://example.com/invoice.pdf
   */
  @Optional()
  @IsUrl(
    { protocols: ['http', 'https'], require_protocol: true, require_tld: false },
    { message: 'must be an http or https URL' },
  )
  @MaxLength(2_048)
  url?: string;

  /** The file itself, as base64. For what is larger than a few megabytes use `POST /media` and `mediaId`. */
  @Optional()
  @IsString()
  @IsNotEmpty()
  data?: string;

  /** A file that was uploaded with `POST /media`, or that came with a message. */
  @Optional()
  @IsUUID()
  mediaId?: string;

  /**
   * With `data` or `url`: what it is. The bytes have the last word.
   * @example application/pdf
   */
  @Optional()
  @Matches(/^[\w.+-]+\/[\w.+-]+(\s*;.*)?$/, { message: 'must be a media type such as image/png' })
  @MaxLength(200)
  mimetype?: string;

  /**
   * With `data` or `url`: its name, which the recipient of a document sees.
   * @example invoice.pdf
   */
  @Optional()
  @IsShortText(255)
  filename?: string;

  /** The text below an image, a video or a document. */
  @Optional()
  @IsShortText(longestCaption)
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
   * 2 to 12, all different.
   * @example ["Morning", "Evening"]
   */
  @IsArray()
  @ArrayMinSize(fewestOptions)
  @ArrayMaxSize(mostOptions)
  @ArrayUnique((option: unknown) => (typeof option === 'string' ? option.trim() : option), {
    message: 'must all be different',
  })
  @IsString({ each: true })
  @Matches(/\S/, { each: true, message: 'must not be blank' })
  @MaxLength(longestOption, { each: true })
  options!: string[];

  /** Whether somebody may choose several. */
  @Optional()
  @IsBoolean()
  multiple = false;
}

/** The file of a message. */
export class MessageMedia {
  /** Under which `GET /media/:id` has it; null when it could not be downloaded, see `error`. */
  mediaId!: string | null;
  mimetype!: string;
  /** In bytes; null as long as nobody knows. */
  size!: number | null;
  filename!: string | null;
  /** Of the bytes, in hexadecimal digits. */
  sha256!: string | null;
  /** Why the file of an incoming message is not there. `POST /messages/:id/media` tries again. */
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
  /** Digits with country code; null when the card has none. */
  phone!: string | null;
  organization!: string | null;
}

export class MessagePoll {
  question!: string;
  options!: string[];
  multiple!: boolean;
}

/** A person. WhatsApp may hide the number, and not tell the LID: either may be null. */
export class Person {
  /**
   * The number's digits, with country code.
   * @example 6281234567890
   */
  phone!: string | null;
  /**
   * The anonymous id, which stays when the number changes.
   * @example 10987654321826@lid
   */
  lid!: string | null;
}

/** What somebody chose in a poll. */
export class MessageVote extends Person {
  /** The phone number's digits, or the chat id of a hidden number. */
  from!: string;
  options!: string[];
  at!: string;
}
