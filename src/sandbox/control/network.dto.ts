import { Type } from 'class-transformer';
import {
  IsBoolean,
  IsIn,
  IsInt,
  IsNotEmpty,
  IsNumber,
  IsString,
  Max,
  MaxLength,
  Min,
  ValidateIf,
} from 'class-validator';
import { Optional } from '../../platform/http/optional.js';
import { type Dialog, DIALOGS, type Faults } from '../network/faults.js';

const TEN_MINUTES_MS = 600_000;
const TEN_DAYS_MS = 864_000_000;

/** A new phone. */
export class CreatePhoneDto {
  /** Its number, in any usual notation with country code; an Indonesian one is invented if left out. */
  @Optional()
  @IsString()
  @MaxLength(40)
  phone?: string;

  /** Its owner's name. */
  @Optional()
  @IsString()
  @IsNotEmpty()
  @MaxLength(100)
  name?: string;
}

/** What a phone's owner changes. */
export class ChangePhoneDto {
  @Optional()
  @IsString()
  @IsNotEmpty()
  @MaxLength(100)
  name?: string;

  /** Whether those who do not have its number learn only its LID. */
  @Optional()
  @IsBoolean()
  hidesNumber?: boolean;

  /** Whether it can be added to a group only by an invite. */
  @Optional()
  @IsBoolean()
  joinsByInviteOnly?: boolean;

  @Optional()
  @IsBoolean()
  isBusiness?: boolean;

  /** A JPEG or PNG in base64; null removes it. */
  @ValidateIf(({ picture }: ChangePhoneDto) => picture !== undefined && picture !== null)
  @IsString()
  @MaxLength(3_000_000)
  picture?: string | null;
}

/** Somebody in a phone's address book. */
export class SaveContactDto {
  @IsString()
  @IsNotEmpty()
  @MaxLength(40)
  phone!: string;

  /** Left out: takes them out of it. */
  @Optional()
  @IsString()
  @IsNotEmpty()
  @MaxLength(100)
  name?: string;
}

/** A QR code that a phone's owner scans. */
export class ScanDto {
  /** The whole text of the code. */
  @IsString()
  @IsNotEmpty()
  @MaxLength(1000)
  qr!: string;
}

/** A pairing code that a phone's owner types. */
export class EnterCodeDto {
  @IsString()
  @IsNotEmpty()
  @MaxLength(20)
  code!: string;
}

/** Which linked browsers a phone's owner removes. */
export class UnlinkDto {
  /** The number of the account; only the phone's own one makes sense. */
  @Optional()
  @IsString()
  @MaxLength(40)
  accountPhone?: string;
}

/** What a phone's owner makes of a message that was sent. */
export class EditMessageDto {
  @IsString()
  @IsNotEmpty()
  @MaxLength(65_536)
  text!: string;
}

/** A phone's owner's reaction to a message. */
export class ReactDto {
  /** An empty one takes the reaction back. */
  @IsString()
  @MaxLength(40)
  emoji!: string;
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

/** Where in the ledger to start. */
export class LedgerQueryDto {
  /** Only lines after this one. */
  @Optional()
  @Type(() => Number)
  @IsInt()
  @Min(0)
  since?: number;
}

/** What shall go wrong. What is left out is healthy. */
export class FaultsDto implements Partial<Faults> {
  /** Only for this phone: its browsers and what they send. */
  @Optional()
  @IsString()
  @MaxLength(40)
  phone?: string;

  /** Delay of ack 1 after the message was accepted. */
  @Optional()
  @IsInt()
  @Min(0)
  @Max(TEN_MINUTES_MS)
  ackDelayMs?: number;

  /** Delay of ack 2 after ack 1, and of ack 3 after ack 2. */
  @Optional()
  @IsInt()
  @Min(0)
  @Max(TEN_MINUTES_MS)
  receiptDelayMs?: number;

  /** Share of accepted messages whose acks are lost. */
  @Optional()
  @IsNumber()
  @Min(0)
  @Max(1)
  dropAckRate?: number;

  /** Share of messages that are refused with ack −1. */
  @Optional()
  @IsNumber()
  @Min(0)
  @Max(1)
  refuseRate?: number;

  /** Share of messages that cut the sender's connection, before or after they are accepted. */
  @Optional()
  @IsNumber()
  @Min(0)
  @Max(1)
  disconnectRate?: number;

  /** How long a browser goes on syncing after it connected. */
  @Optional()
  @IsInt()
  @Min(0)
  @Max(TEN_MINUTES_MS)
  syncDelayMs?: number;

  /** Syncing ends before whatsapp-web.js listens: "authenticated but never ready". */
  @Optional()
  @IsBoolean()
  earlySync?: boolean;

  /** A dialog over the page of linked browsers, which start under none: `whats_new` can be pressed away, `terms` cannot. */
  @Optional()
  @IsIn(DIALOGS)
  dialog?: Dialog;

  /** Whether phones receive messages: ack 2. */
  @Optional()
  @IsBoolean()
  deliverAcks?: boolean;

  /** Whether owners read messages: ack 3. */
  @Optional()
  @IsBoolean()
  readAcks?: boolean;

  /** Whether linked browsers are turned away, as if the network were down. */
  @Optional()
  @IsBoolean()
  offline?: boolean;

  /** Whether the connections that are open now go dead: frames are taken and nothing is answered. */
  @Optional()
  @IsBoolean()
  silent?: boolean;

  /** Whether browsers are told twice of an incoming message, under the same id. */
  @Optional()
  @IsBoolean()
  doubleIncoming?: boolean;

  /** Share of messages, each once, before which the page reloads itself. */
  @Optional()
  @IsNumber()
  @Min(0)
  @Max(1)
  reloadBeforeSendRate?: number;

  /** Share of messages, each once, after which the page is reloaded, before it sees an ack. */
  @Optional()
  @IsNumber()
  @Min(0)
  @Max(1)
  reloadAfterSendRate?: number;

  /** Share of uploads of media that fail; not per phone, as the two below. */
  @Optional()
  @IsNumber()
  @Min(0)
  @Max(1)
  uploadFailRate?: number;

  /** Share of downloads of media that fail. */
  @Optional()
  @IsNumber()
  @Min(0)
  @Max(1)
  downloadFailRate?: number;

  /** How long an upload of media takes at least. */
  @Optional()
  @IsInt()
  @Min(0)
  @Max(TEN_MINUTES_MS)
  uploadDelayMs?: number;

  /** WhatsApp's status with which whatever is done to groups is refused, 419 or 429 say; reading them is not. */
  @Optional()
  @IsInt()
  @Min(400)
  @Max(599)
  groupRefusal?: number;

  /** How many messages a page holds in memory; what is older it has to load from its disk. */
  @Optional()
  @IsInt()
  @Min(1)
  @Max(2000)
  messagesInMemory?: number;

  /** How long after it was sent a message can be edited. */
  @Optional()
  @IsInt()
  @Min(0)
  @Max(TEN_DAYS_MS)
  editWindowMs?: number;

  /** How long after it was sent a message can be revoked. */
  @Optional()
  @IsInt()
  @Min(0)
  @Max(TEN_DAYS_MS)
  revokeWindowMs?: number;

  /** How long a QR code is valid; not per phone. */
  @Optional()
  @IsInt()
  @Min(100)
  @Max(TEN_MINUTES_MS)
  qrLifetimeMs?: number;
}
