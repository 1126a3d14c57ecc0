import {
  ArrayMaxSize,
  IsArray,
  IsBoolean,
  IsIn,
  IsObject,
  IsOptional,
  IsString,
  Length,
  Matches,
  MaxLength,
  ValidateIf,
  ValidateNested,
} from 'class-validator';
import { Type } from 'class-transformer';
import { PlacementFiltersDto } from '../instances/load-balancing.dto.js';
import { Optional } from '../platform/http/optional.js';
import { PageQuery } from '../platform/http/pagination.js';
import { PacingDto } from '../workspaces/pacing-settings.dto.js';
import {
  type Account,
  type AccountStatus,
  accountStatuses,
  type DesiredState,
  type Environment,
  environments,
  type LinkMethod,
  type WebContract,
} from './account.entity.js';
import { masked } from '../platform/http/proxy-url.js';
import { SendingResponse } from '../pacing/pacing.dto.js';

const maxAnswerLength = 4_096;

/** Messages that are in no chat. They are not stored unless the account asks for them. A missing field stays as it is. */
export class ReceiveDto {
  /** Stories of contacts. `from` of such a message is `status@broadcast`; `participant` is the person. */
  @Optional()
  @IsBoolean()
  stories?: boolean;

  /** Posts of channels that the account follows. `from` of such a message is the channel, which ends in `@newsletter`. */
  @Optional()
  @IsBoolean()
  channels?: boolean;
}

export class ReceiveResponse {
  stories!: boolean;
  channels!: boolean;
}

export class CreateAccountDto {
  /** @example Support */
  @IsString()
  @Length(1, 200)
  name!: string;

  /** `live` connects to WhatsApp. `sandbox` connects to the simulated WhatsApp. */
  @Optional()
  @IsIn(environments)
  environment: Environment = 'live';

  @Optional()
  @IsArray()
  @ArrayMaxSize(50)
  @IsString({ each: true })
  @Length(1, 100, { each: true })
  labels?: string[];

  /** The account's own pacing settings. They override those of its workspace, field by field. */
  @Optional()
  @ValidateNested()
  @Type(() => PacingDto)
  @IsObject()
  pacing?: PacingDto | null;

  @Optional()
  @ValidateNested()
  @Type(() => ReceiveDto)
  @IsObject()
  receive?: ReceiveDto;

  /** Marks each incoming message as read as soon as it is stored. Its writer sees that. */
  @Optional()
  @IsBoolean()
  autoRead?: boolean;

  /** Rejects each call to the account. */
  @Optional()
  @IsBoolean()
  rejectCalls?: boolean;

  /**
   * The text that a person gets whose call was rejected: a message, at most one in ten minutes.
   * @example "We do not take calls. Please write to us."
   */
  @Optional()
  @IsString()
  @Length(1, maxAnswerLength)
  @Matches(/\S/, { message: 'must not be blank' })
  callAnswer?: string;

  /**
   * The proxy that the browser of a live account uses: `http://`, `https://` or `socks5://`, then `USER:PASSWORD@` if the proxy needs
   * them, host and port, as in `socks5://user:password@proxy.example.com:1080`. Percent-encode special characters in user and
   * password. The proxy must be on the public internet.
   */
  @Optional()
  @IsString()
  @MaxLength(2_048)
  proxyUrl?: string;

  /** The instance to place the account on. Without it, Flotilla chooses an instance. */
  @Optional()
  @IsString()
  @Length(1, 200)
  instanceId?: string;

  @Optional()
  @ValidateNested()
  @Type(() => PlacementFiltersDto)
  placement?: PlacementFiltersDto;
}

export class UpdateAccountDto {
  @Optional()
  @IsString()
  @Length(1, 200)
  name?: string;

  @Optional()
  @IsArray()
  @ArrayMaxSize(50)
  @IsString({ each: true })
  @Length(1, 100, { each: true })
  labels?: string[];

  /** The account's own pacing settings. They replace all earlier ones. Null: the settings of the workspace apply. */
  @IsOptional()
  @ValidateNested()
  @Type(() => PacingDto)
  @IsObject()
  pacing?: PacingDto | null;

  @Optional()
  @ValidateNested()
  @Type(() => ReceiveDto)
  @IsObject()
  receive?: ReceiveDto;

  /** Marks each incoming message as read as soon as it is stored. Its writer sees that. */
  @Optional()
  @IsBoolean()
  autoRead?: boolean;

  /** Rejects each call to the account. */
  @Optional()
  @IsBoolean()
  rejectCalls?: boolean;

  /**
   * The text that a person gets whose call was rejected: a message, at most one in ten minutes. Null: no message.
   * @example "We do not take calls. Please write to us."
   */
  @IsOptional()
  @IsString()
  @Length(1, maxAnswerLength)
  @Matches(/\S/, { message: 'must not be blank' })
  callAnswer?: string | null;

  /**
   * The proxy that the browser of a live account uses, in the form of `POST /accounts`. The session restarts with it. Null: no proxy.
   */
  @IsOptional()
  @IsString()
  @MaxLength(2_048)
  proxyUrl?: string | null;

  /** Takes effect the next time that the account is placed. */
  @Optional()
  @ValidateNested()
  @Type(() => PlacementFiltersDto)
  placement?: PlacementFiltersDto;
}

export class MigrateAccountDto {
  /** The instance to move the account to. Without it, Flotilla chooses the best other instance. */
  @Optional()
  @IsString()
  @Length(1, 200)
  instanceId?: string;
}

export class ConnectAccountDto {
  /** How a new account is linked: `qr` by a QR code, `code` by a pairing code that is typed into the phone. */
  @Optional()
  @IsIn(['qr', 'code'])
  method: LinkMethod = 'qr';

  /** The phone's number with country code. Required if `method` is `code`. */
  @ValidateIf((body: ConnectAccountDto) => body.method === 'code' || body.phoneNumber !== undefined)
  @IsString({ message: 'phoneNumber is required to link by code' })
  @Length(5, 64)
  phoneNumber?: string;

  /**
   * Whether a phone with another number than the account's may link it. Without it, Flotilla unlinks such a phone again, and the
   * account becomes `disconnected` with the reason `other_number`.
   */
  @Optional()
  @IsBoolean()
  allowNumberChange?: boolean;
}

export class SandboxScanDto {
  /** The number of the simulated phone that scans. Without it, the sandbox makes a new phone. */
  @Optional()
  @IsString()
  @Length(5, 64)
  phone?: string;
}

export class ListAccountsQuery extends PageQuery {
  @IsOptional()
  @IsIn(accountStatuses)
  status?: AccountStatus;

  @IsOptional()
  @IsIn(environments)
  environment?: Environment;
}

export class AccountResponse {
  id!: string;
  workspaceId!: string;
  name!: string;
  environment!: Environment;
  phoneNumber!: string | null;
  lid!: string | null;
  desiredState!: DesiredState;
  status!: AccountStatus;
  statusReason!: string | null;
  instanceId!: string | null;
  epoch!: number;
  labels!: string[];
  /** The account's own settings. `sending` shows the settings in force. */
  pacing!: PacingDto | null;
  sending!: SendingResponse;
  /** Which messages outside of chats are stored. */
  receive!: ReceiveResponse;
  autoRead!: boolean;
  rejectCalls!: boolean;
  callAnswer!: string | null;
  /**
   * A user and password are shown as `********:********`.
   * @example socks5://********:********@proxy.example.com:1080
   */
  proxyUrl!: string | null;
  placement!: PlacementFiltersDto | null;
  lastConnectedAt!: string | null;
  /**
   * The version of the page of WhatsApp Web that the account has. Null until the account was `ready` once.
   * @example 2.3000.1047775310
   */
  webVersion!: string | null;
  /**
   * `broken`: the page lacks something that sending needs, and the messages of the account wait. Null until the account was
   * `ready` once.
   * @example ok
   */
  contract!: WebContract | null;
  /**
   * The names of what the page lacks. With `contract: ok`, sending does not need these.
   * @example []
   */
  contractMissing!: string[];
  createdAt!: string;
}

export class QrResponse {
  qr!: string;
  /** A PNG as a data URL. */
  image!: string;
  expiresAt!: string;
}

export class PairingCodeResponse {
  code!: string;
  expiresAt!: string;
}

export class SandboxScanResponse {
  /** The number of the simulated phone that scanned the QR code. */
  phone!: string;
}

/** A change of an account's connection, and its reason. */
export class ConnectionLogEntry {
  id!: string;
  /** `account.status`, `account.qr`, `account.pairing_code`, or a change of the instance that may drive it: `account.claimed`, `account.released`. */
  type!: string;
  /** The event in one word: `connected`, `reconnect_attempt`, `connection_timeout`, `conflict`, `qr_generated`, `logout`, … */
  event!: string;
  reason!: string | null;
  instanceId!: string | null;
  epoch!: number;
  createdAt!: string;
  data!: object;
}

export function toAccountResponse(account: Account, sending: SendingResponse): AccountResponse {
  return {
    id: account.id,
    workspaceId: account.workspaceId,
    name: account.name,
    environment: account.environment,
    phoneNumber: account.phoneNumber,
    lid: account.lid,
    desiredState: account.desiredState,
    status: account.status,
    statusReason: account.statusReason,
    instanceId: account.instanceId,
    epoch: account.epoch,
    labels: account.labels,
    pacing: account.pacing,
    sending,
    receive: account.receive,
    autoRead: account.autoRead,
    rejectCalls: account.rejectCalls,
    callAnswer: account.callAnswer,
    proxyUrl: account.proxyUrl === null ? null : masked(account.proxyUrl, account.proxyCredentials !== null),
    placement: account.placement,
    lastConnectedAt: account.lastConnectedAt?.toISOString() ?? null,
    webVersion: account.webVersion,
    contract: account.webContract,
    contractMissing: account.webMissing ?? [],
    createdAt: account.createdAt.toISOString(),
  };
}
