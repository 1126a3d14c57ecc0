import {
  ArrayMaxSize,
  IsArray,
  IsIn,
  IsObject,
  IsOptional,
  IsString,
  IsUrl,
  Length,
  Matches,
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
} from './account.entity.js';
import { SendingResponse } from '../pacing/pacing.dto.js';

const proxyRule = { protocols: ['http', 'https', 'socks5'], require_tld: false, require_protocol: true };

export class CreateAccountDto {
  /** @example Support */
  @IsString()
  @Length(1, 200)
  name!: string;

  /** `live` connects to WhatsApp, `sandbox` to the simulated one. */
  @Optional()
  @IsIn(environments)
  environment: Environment = 'live';

  @Optional()
  @IsArray()
  @ArrayMaxSize(50)
  @IsString({ each: true })
  @Length(1, 100, { each: true })
  labels?: string[];

  /** How carefully it sends, where that is not to be as its workspace says. */
  @IsOptional()
  @ValidateNested()
  @Type(() => PacingDto)
  @IsObject()
  pacing?: PacingDto | null;

  /** Where the browser of a live account goes through. */
  @IsOptional()
  @IsUrl(proxyRule)
  proxyUrl?: string;

  /** The instance that is to drive the account; without it the least loaded one does. */
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

  /** How carefully it sends, where that is not to be as its workspace says; replaces what was set before, null: as the workspace says. */
  @IsOptional()
  @ValidateNested()
  @Type(() => PacingDto)
  @IsObject()
  pacing?: PacingDto | null;

  @IsOptional()
  @IsUrl(proxyRule)
  proxyUrl?: string;

  /** Takes effect when the account is placed the next time. */
  @Optional()
  @ValidateNested()
  @Type(() => PlacementFiltersDto)
  placement?: PlacementFiltersDto;
}

export class MigrateAccountDto {
  /** The instance that is to drive the account; without it the best other one does. */
  @Optional()
  @IsString()
  @Length(1, 200)
  instanceId?: string;
}

export class ConnectAccountDto {
  /** Links a new account by a QR code, or by a code that is typed into the phone. */
  @Optional()
  @IsIn(['qr', 'code'])
  method: LinkMethod = 'qr';

  /** The phone's number with country code; needed for `code`. */
  @ValidateIf((body: ConnectAccountDto) => body.method === 'code' || body.phoneNumber !== undefined)
  @IsString({ message: 'phoneNumber is needed to link by code' })
  @Length(5, 40)
  phoneNumber?: string;
}

export class SandboxScanDto {
  /** The simulated phone that scans; a new one unless named. */
  @IsOptional()
  @IsString()
  @Matches(/^[+\d][\d\s().-]{4,30}$/, { message: 'must be a phone number with country code' })
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
  /** Its own settings; what is in force is in `sending`. */
  pacing!: PacingDto | null;
  sending!: SendingResponse;
  proxyUrl!: string | null;
  placement!: PlacementFiltersDto | null;
  lastConnectedAt!: string | null;
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
  /** The simulated phone that has scanned. */
  phone!: string;
}

/** What happened to an account's connection, and why. */
export class ConnectionLogEntry {
  id!: string;
  /** `account.status`, `account.qr`, `account.pairing_code`, or who may drive it: `account.claimed`, `account.released`. */
  type!: string;
  /** In one word: `connected`, `reconnect_attempt`, `connection_timeout`, `conflict`, `qr_generated`, `logout`, … */
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
    proxyUrl: account.proxyUrl === null ? null : withoutPassword(account.proxyUrl),
    placement: account.placement,
    lastConnectedAt: account.lastConnectedAt?.toISOString() ?? null,
    createdAt: account.createdAt.toISOString(),
  };
}

function withoutPassword(url: string): string {
  const parsed = new URL(url);
  if (parsed.password) parsed.password = '********';
  return parsed.toString();
}
