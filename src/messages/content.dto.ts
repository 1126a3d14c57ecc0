import {
  ArrayMaxSize,
  ArrayMinSize,
  ArrayUnique,
  IsArray,
  IsBoolean,
  IsNotEmpty,
  IsNumber,
  IsObject,
  IsString,
  IsUUID,
  Matches,
  Max,
  MaxLength,
  Min,
  registerDecorator,
  ValidateIf,
  ValidateNested,
} from 'class-validator';
import { Type } from 'class-transformer';
import { Optional } from '../platform/http/optional.js';
import { parsePhoneNumber, phoneNumberHint } from '../platform/http/phone-number.js';
import { isVcard, maxPhones, maxVcardLength } from './vcard.js';

/** WhatsApp's own limits of a poll. */
const minOptions = 2;
const maxOptions = 12;
export const maxOptionLength = 100;
export const maxQuestionLength = 255;
export const maxPlaceNameLength = 256;
export const maxPlaceAddressLength = 512;
export const maxUrlLength = 2_048;
export const maxFilenameLength = 255;
/** The longest number, and the longest label of a number. */
const maxNumberLength = 256;
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

function IsVcard() {
  return (target: object, propertyName: string) =>
    registerDecorator({
      name: 'isVcard',
      target: target.constructor,
      propertyName,
      validator: {
        validate: (value: unknown) => typeof value === 'string' && isVcard(value),
        defaultMessage: () =>
          'must be one vCard: BEGIN:VCARD, VERSION:2.1, 3.0 or 4.0, its lines, and END:VCARD. Send several cards as a list',
      },
    });
}

const isGiven = (value: unknown) => value !== undefined && value !== null;

/** Whether a browser opens it. A stricter check would refuse names of hosts with an underscore, and blanks. */
export function isHttpUrl(text: string): boolean {
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
}

function IsHttpUrl() {
  return (target: object, propertyName: string) =>
    registerDecorator({
      name: 'isHttpUrl',
      target: target.constructor,
      propertyName,
      validator: {
        validate: (value: unknown) => typeof value === 'string' && isHttpUrl(value),
        defaultMessage: () => 'must be an http or https URL',
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
   * Flotilla downloads the file from this URL while it accepts the message, as a browser would: it follows five redirects, undoes
   * the `Content-Encoding`, and sends a user and password of the URL. The servers must have public addresses.
   * @example https://example.com/invoice.pdf
   */
  @Optional()
  @IsHttpUrl()
  @MaxLength(maxUrlLength)
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
   * With `data` or `url`: the media type of the file. If the bytes show another type, that type counts. With `mediaId`: its own only.
   * @example application/pdf
   */
  @Optional()
  @Matches(/^[\w.+-]+\/[\w.+-]+(\s*;.*)?$/, { message: 'must be a media type, for example image/png' })
  @MaxLength(200)
  mimetype?: string;

  /**
   * With `data` or `url`: the name of the file. The recipient of a document sees it. With `mediaId`: its own only.
   * @example invoice.pdf
   */
  @Optional()
  @IsShortText(maxFilenameLength)
  filename?: string;

  /** The text below an image, a video or a document. */
  @Optional()
  @IsShortText(maxCaptionLength)
  caption?: string;

  /** Ignored. The `media` of an answer has it, and may be sent again as it is. The same holds for `sha256`, `converted` and `error`. */
  @Optional()
  @IsNumber()
  size?: number;

  @Optional()
  @IsString()
  sha256?: string;

  @Optional()
  @IsObject()
  converted?: object;

  @Optional()
  @IsObject()
  error?: object;
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
  @IsShortText(maxPlaceNameLength)
  name?: string;

  /** @example Gambir, Jakarta */
  @Optional()
  @IsShortText(maxPlaceAddressLength)
  address?: string;
}

/** A number of a contact card. */
export class ContactPhoneDto {
  /**
   * As people read it on the card, in any form: a local number, a short number, a number with country code.
   * @example 0812-3456-7890
   */
  @IsShortText(maxNumberLength)
  number!: string;

  /**
   * The WhatsApp number, with country code, if `number` is not in a form that names it.
   * @example +6281234567890
   */
  @ValidateIf(({ phone }: ContactPhoneDto) => isGiven(phone))
  @IsPhone()
  phone?: string | null;

  /** `cell`, `home`, `work`, `main`, `fax`, `pager`, `other`, or a text of your own. */
  @ValidateIf(({ label }: ContactPhoneDto) => isGiven(label))
  @IsShortText(maxNumberLength)
  label?: string | null;
}

/** A contact card: its fields, or the whole card as `vcard`. A contact of an answer can be sent as it is. */
export class ContactDto {
  /**
   * Required without `vcard`.
   * @example Siti Rahma
   */
  @ValidateIf(({ name, vcard }: ContactDto) => !isGiven(vcard) || (isGiven(name) && name !== ''))
  @IsShortText(256)
  name?: string;

  /**
   * The only number, or the first. Required without `phones` and `vcard`.
   * @example +6281234567890
   */
  @ValidateIf(
    ({ phone, phones, vcard }: ContactDto) => isGiven(phone) || !(isGiven(phones) || isGiven(vcard)),
  )
  @IsPhone()
  phone?: string | null;

  /** All numbers. */
  @ValidateIf(({ phones }: ContactDto) => isGiven(phones))
  @IsArray()
  @ArrayMaxSize(maxPhones)
  @IsObject({ each: true })
  @ValidateNested({ each: true })
  @Type(() => ContactPhoneDto)
  phones?: ContactPhoneDto[] | null;

  /** @example Toko Maju */
  @ValidateIf(({ organization }: ContactDto) => isGiven(organization))
  @IsShortText(256)
  organization?: string | null;

  /**
   * The whole card (vCard 2.1, 3.0 or 4.0), which is sent as it is. Leave the other fields out: a field that says something else
   * than the card is an error.
   */
  @ValidateIf(({ vcard }: ContactDto) => isGiven(vcard))
  @IsString()
  @MaxLength(maxVcardLength)
  @IsVcard()
  vcard?: string | null;
}

export class PollDto {
  /** @example When shall we deliver? */
  @IsShortText(maxQuestionLength)
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
  /** What Flotilla has converted before sending; null for a file that is sent as it is. */
  converted!: MediaConversion | null;
  /** Why the file of an incoming message is missing. `POST /messages/:id/media` tries the download again. */
  error!: MediaError | null;
}

export class MediaConversion {
  /**
   * The type that the file had.
   * @example audio/mpeg
   */
  from!: string;
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

/** A number of a contact card. */
export class ContactPhone {
  /**
   * As it stands on the card, without `tel:`. A number without country code stays without: it is not known which country is meant.
   * @example +62 812-3456-7890
   */
  number!: string;
  /** The digits with country code. Null if the card does not tell them. */
  phone!: string | null;
  /** Such as `cell`, `home`, `work`, or the label that its owner wrote. A number that you send without a label is `cell`. */
  label!: string | null;
}

export class MessageContact {
  name!: string;
  /** The digits with country code of the first number that has them. Null if no number of the card has them. */
  phone!: string | null;
  /** Every number of the card. */
  phones!: ContactPhone[];
  organization!: string | null;
  /** The whole card. Null if it is very long, or if an older version of Flotilla stored the message. */
  vcard!: string | null;
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
