import { Type } from 'class-transformer';
import { IsBoolean, IsIn, IsInt, IsNotEmpty, IsNumber, IsString, Max, MaxLength, Min } from 'class-validator';
import { Optional } from '../../platform/http/optional.js';
import { DIALOGS } from '../network/fault-settings.js';
import type { Dialog, Faults } from '../network/faults.js';

const TEN_MINUTES_MS = 600_000;
const TEN_DAYS_MS = 864_000_000;

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

  /** How long a QR code is valid. Applies to all phones only. */
  @Optional()
  @IsInt()
  @Min(100)
  @Max(TEN_MINUTES_MS)
  qrLifetimeMs?: number;
}

export class BuildDto {
  /** A version, or the name of a build; GET /builds lists them. */
  @IsString()
  @IsNotEmpty()
  version!: string;
}
