import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  IsBoolean,
  IsIn,
  IsInt,
  IsNotEmpty,
  IsNumber,
  IsString,
  Matches,
  Max,
  MaxLength,
  Min,
  ValidateNested,
} from 'class-validator';
import { Optional } from '../../platform/http/optional.js';
import type { Damage } from '../builds/build.js';
import { DIALOGS } from '../network/fault-settings.js';
import type { Dialog, Faults } from '../network/faults.js';

const TEN_MINUTES_MS = 600_000;
const TEN_DAYS_MS = 864_000_000;
const MAX_DAMAGES = 50;

/** The place in the ledger to start from. */
export class LedgerQueryDto {
  /** Only lines after this one. */
  @Optional()
  @Type(() => Number)
  @IsInt()
  @Min(0)
  since?: number;
}

/** The faults to set. Faults that are left out are removed. */
export class FaultsDto implements Partial<Faults> {
  /** Sets the faults for this phone only: for its browsers and the messages that they send. */
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

  /** Share of messages that the page gives up without an ack, before or after they are accepted. */
  @Optional()
  @IsNumber()
  @Min(0)
  @Max(1)
  sendFailRate?: number;

  /** Share of messages that cut the sender's connection, before or after they are accepted. */
  @Optional()
  @IsNumber()
  @Min(0)
  @Max(1)
  disconnectRate?: number;

  /** How long a browser syncs after it has connected. */
  @Optional()
  @IsInt()
  @Min(0)
  @Max(TEN_MINUTES_MS)
  syncDelayMs?: number;

  /** Syncing ends before whatsapp-web.js listens: "authenticated but never ready". */
  @Optional()
  @IsBoolean()
  earlySync?: boolean;

  /** A dialog over the page of linked browsers; while it is open, they do not get ready. A button closes `whats_new`, but not `terms`. */
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

  /** Whether connections of linked browsers are refused, as if the network were down. */
  @Optional()
  @IsBoolean()
  offline?: boolean;

  /** Whether the connections that are open now go dead: the sandbox ignores their frames and sends nothing. */
  @Optional()
  @IsBoolean()
  silent?: boolean;

  /** Whether browsers get each incoming message twice, with the same id. */
  @Optional()
  @IsBoolean()
  doubleIncoming?: boolean;

  /** Share of messages before which the page reloads itself, once per message. */
  @Optional()
  @IsNumber()
  @Min(0)
  @Max(1)
  reloadBeforeSendRate?: number;

  /** Share of messages after which the page reloads before it gets an ack, once per message. */
  @Optional()
  @IsNumber()
  @Min(0)
  @Max(1)
  reloadAfterSendRate?: number;

  /** Whether a page that starts again sends by itself what it left without an ack. */
  @Optional()
  @IsBoolean()
  resumesSends?: boolean;

  /** Share of uploads of media that fail. This fault and the next two apply to all phones only. */
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

  /** The minimum duration of an upload of media. */
  @Optional()
  @IsInt()
  @Min(0)
  @Max(TEN_MINUTES_MS)
  uploadDelayMs?: number;

  /** The status with which WhatsApp refuses all changes of groups, for example 419 or 429. Reading still works. */
  @Optional()
  @IsInt()
  @Min(400)
  @Max(599)
  groupRefusal?: number;

  /** How long an invite to one phone is valid. */
  @Optional()
  @IsInt()
  @Min(0)
  @Max(TEN_DAYS_MS)
  inviteLifetimeMs?: number;
  /** The status with which WhatsApp refuses to check numbers, for example 429. Chats that exist are not affected. */
  @Optional()
  @IsInt()
  @Min(400)
  @Max(599)
  checkRefusal?: number;

  /** Whether WhatsApp moves the chats with persons from their numbers to their hidden numbers. */
  @Optional()
  @IsBoolean()
  hiddenChats?: boolean;

  /** How many messages a page holds in memory; it loads older ones from its disk. */
  @Optional()
  @IsInt()
  @Min(1)
  @Max(2000)
  messagesInMemory?: number;

  /** For how long after sending a message can be edited. */
  @Optional()
  @IsInt()
  @Min(0)
  @Max(TEN_DAYS_MS)
  editWindowMs?: number;

  /** For how long after sending a message can be revoked. */
  @Optional()
  @IsInt()
  @Min(0)
  @Max(TEN_DAYS_MS)
  revokeWindowMs?: number;

  /** The oldest version of the page that WhatsApp still accepts. */
  @Optional()
  @Matches(/^\d+\.\d+\.\d+$/)
  oldestVersion?: string;

  /** Whether a page that is too old loads itself again for ever. Otherwise its state becomes `DEPRECATED_VERSION`. */
  @Optional()
  @IsBoolean()
  updateLoop?: boolean;

  /** How long a QR code is valid; the first of six is valid three times as long. Applies to all phones only. */
  @Optional()
  @IsInt()
  @Min(100)
  @Max(TEN_MINUTES_MS)
  qrLifetimeMs?: number;

  /** Whether a new chat gets the notice that it is encrypted. */
  @Optional()
  @IsBoolean()
  newChatNotice?: boolean;

  /** Whether a revoked message names the key that it had before. Older pages forget that key. */
  @Optional()
  @IsBoolean()
  revokedNamesOldKey?: boolean;
}

/** What a page lacks, as when WhatsApp changes it without notice. */
export class DamageDto implements Damage {
  /** Modules, or `Module.member`, that the page does not have. */
  @Optional()
  @IsString({ each: true })
  @ArrayMaxSize(MAX_DAMAGES)
  missing?: string[];

  /** Functions as `Module.member` that throw. */
  @Optional()
  @IsString({ each: true })
  @ArrayMaxSize(MAX_DAMAGES)
  throwing?: string[];

  /** Modules whose members cannot be replaced. */
  @Optional()
  @IsString({ each: true })
  @ArrayMaxSize(MAX_DAMAGES)
  frozen?: string[];

  /** Whether no own field of a message key holds its text. */
  @Optional()
  @IsBoolean()
  keysWithoutText?: boolean;

  /** Whether the page finds no message by its key. */
  @Optional()
  @IsBoolean()
  blindLookups?: boolean;
}

export class BuildDto {
  /** A version, or the name of a build; GET /builds lists them. */
  @IsString()
  @IsNotEmpty()
  version!: string;

  /** Chooses the build for the browsers of this phone only. */
  @Optional()
  @IsString()
  @MaxLength(40)
  phone?: string;
  /** What is broken in the build. Without it, the build is whole. */
  @Optional()
  @ValidateNested()
  @Type(() => DamageDto)
  damage?: DamageDto;
}
