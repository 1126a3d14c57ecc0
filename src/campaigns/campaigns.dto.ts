import { ApiHideProperty } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  ArrayUnique,
  IsArray,
  IsBoolean,
  IsIn,
  IsInt,
  IsObject,
  IsOptional,
  IsUUID,
  Length,
  Max,
  Min,
  ValidateNested,
} from 'class-validator';
import { messageStatuses } from '../messages/message.entity.js';
import { MessageContentDto, MessageError } from '../messages/messages.dto.js';
import { Optional } from '../platform/http/optional.js';
import { PageQuery, ScopedQuery } from '../platform/http/pagination.js';
import { IsTime } from '../platform/http/time.js';
import { IsCountry } from '../workspaces/workspaces.dto.js';
import type { RecipientRow } from './recipients.service.js';
import {
  CampaignPacingDto,
  CampaignSafetyDto,
  QuietHoursDto,
  SendingTimesDto,
  SendingWindowDto,
} from './campaign-pacing.dto.js';
import { variantName } from './variants.js';
import type { CampaignDetails, CampaignMessage } from './campaign.entity.js';
import { type CampaignStatus, campaignStatuses, type ResumeKind, resumeKinds } from './campaign-statuses.js';

const maxAccounts = 100;
const maxVariants = 10;

/** What each recipient gets. Texts are templates: `{{name}}`, or `{{name|there}}` with a text for recipients without a name. */
export class CampaignMessageDto extends MessageContentDto {
  /** The texts have choices such as `{Hello|Good day}`: each recipient gets one of them, and always the same one. Default: false. */
  @Optional()
  @IsBoolean()
  spin?: boolean;
}

/** A message that a part of the recipients gets. */
export class CampaignVariantDto {
  /** Its part of the recipients, in proportion to the shares of the other variants. */
  @Min(1)
  @Max(1_000)
  @IsInt()
  share!: number;

  @IsObject()
  @ValidateNested()
  @Type(() => CampaignMessageDto)
  message!: CampaignMessageDto;
}

/** What a campaign sends, `message`, `variants` or `templateId`, and when. */
export class CampaignContentDto extends SendingTimesDto {
  /** @example { "text": "Hello {{name|friend}}" } */
  @Optional()
  @IsObject()
  @ValidateNested()
  @Type(() => CampaignMessageDto)
  message?: CampaignMessageDto;

  /** Several messages to compare. Chance chooses for each recipient, by the shares. */
  @Optional()
  @ValidateNested({ each: true })
  @Type(() => CampaignVariantDto)
  @IsObject({ each: true })
  @ArrayMinSize(2)
  @ArrayMaxSize(maxVariants)
  @IsArray()
  variants?: CampaignVariantDto[];

  /** A stored template. The campaign keeps its text: later versions change nothing. */
  @Optional()
  @IsUUID()
  templateId?: string;

  /** Default: the newest version. */
  @Optional()
  @Min(1)
  @Max(2_147_483_647)
  @IsInt()
  templateVersion?: number;
}

export class CreateCampaignDto extends CampaignContentDto {
  /** @example "Spring sale" */
  @Length(1, 200)
  name!: string;

  /** The accounts that send. Each recipient gets the message from one of them. */
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(maxAccounts)
  @ArrayUnique()
  @IsUUID(undefined, { each: true })
  accountIds!: string[];

  /** When the campaign starts after `POST /campaigns/:id/start`. Default: at once. */
  @Optional()
  @IsTime()
  startAt?: string;

  /**
   * The country of numbers without a country code. Default: `defaultCountry` of the workspace.
   * @example ID
   */
  @Optional()
  @IsCountry()
  country?: string;

  /** Default: as fast as the accounts. */
  @Optional()
  @ValidateNested()
  @Type(() => CampaignPacingDto)
  @IsObject()
  pacing?: CampaignPacingDto;

  @Optional()
  @ValidateNested()
  @Type(() => CampaignSafetyDto)
  @IsObject()
  safety?: CampaignSafetyDto;

  /** Who got a message of another campaign of the workspace in so many days is left out. Default: nobody is. */
  @Optional()
  @Min(1)
  @Max(365)
  @IsInt()
  notWithinDays?: number;
}

/**
 * Only a draft can get another message or another start. Pace, limits and sending times can also change while the campaign is paused.
 * Each given one of `pacing` and `safety` replaces the one before; a part of the sending times replaces only that part. Null removes it.
 */
export class UpdateCampaignDto extends CampaignContentDto {
  @Optional()
  @Length(1, 200)
  name?: string;

  @Optional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(maxAccounts)
  @ArrayUnique()
  @IsUUID(undefined, { each: true })
  accountIds?: string[];

  /** Null: the campaign starts at once. */
  @IsOptional()
  @IsTime()
  startAt?: string | null;

  @IsOptional()
  @ValidateNested()
  @Type(() => CampaignPacingDto)
  @IsObject()
  pacing?: CampaignPacingDto | null;

  @IsOptional()
  @ValidateNested()
  @Type(() => CampaignSafetyDto)
  @IsObject()
  safety?: CampaignSafetyDto | null;

  @IsOptional()
  @Min(1)
  @Max(365)
  @IsInt()
  notWithinDays?: number | null;
}

export class ResumeCampaignDto {
  /** `pending`: who has not got the message yet. `failed`: who could not get it, again. `all`: both. */
  @Optional()
  @IsIn(resumeKinds)
  which: ResumeKind = 'pending';
}

export class ListCampaignsQuery extends PageQuery {
  @IsOptional()
  @IsIn(campaignStatuses)
  status?: CampaignStatus;
}

export const recipientStatuses = messageStatuses.filter(
  (status) => status !== 'received' && status !== 'scheduled',
);

export class ListRecipientsQuery extends PageQuery {
  @IsOptional()
  @IsIn(recipientStatuses)
  status?: (typeof recipientStatuses)[number];
}

/** How to read a list. */
export class LoadQuery extends ScopedQuery {
  /** The column of the numbers, if its name is not a usual one. */
  @IsOptional()
  @Length(1, 200)
  to?: string;

  /** The sheet of an XLSX file. Default: the first visible one. */
  @IsOptional()
  @Length(1, 200)
  sheet?: string;

  @ApiHideProperty()
  get options(): { columns?: Record<string, string>; sheet?: string } {
    return { ...(this.to ? { columns: { to: this.to } } : {}), ...(this.sheet ? { sheet: this.sheet } : {}) };
  }
}

/** How many recipients have each status. Their sum, without `replied`, is `total`. */
export class CampaignCounts {
  total!: number;
  /** Waiting for their turn. */
  queued!: number;
  sending!: number;
  sent!: number;
  delivered!: number;
  read!: number;
  failed!: number;
  /** Nobody can tell whether the message was sent. */
  unknown!: number;
  cancelled!: number;
  /** Recipients who have answered within seven days. They are also counted above. */
  replied!: number;
}

export class CampaignVariantResponse {
  /** `A` is the first one. */
  variant!: string;
  share!: number;
  message!: Record<string, unknown>;
}

export class CampaignResponse {
  id!: string;
  workspaceId!: string;
  name!: string;
  status!: CampaignStatus;
  /**
   * Why it is paused. `user_initiated`: a caller paused it. `failure_rate`: too many of its last messages failed. `refusals`: WhatsApp refused
   * messages of all its accounts. `never_allowed`: no moment is inside its sending times for some recipients.
   */
  pauseReason!: string | null;
  accountIds!: string[];
  /** What each recipient gets. With variants: the first one. */
  message!: Record<string, unknown>;
  variants!: CampaignVariantResponse[] | null;
  templateId!: string | null;
  templateVersion!: number | null;
  country!: string | null;
  pacing!: CampaignPacingDto | null;
  safety!: CampaignSafetyDto | null;
  windows!: SendingWindowDto[] | null;
  quietHours!: QuietHoursDto | null;
  notWithinDays!: number | null;
  /** `recipient`, or the name of a zone. */
  timeZone!: string;
  counts!: CampaignCounts;
  /** Lines of the lists that name no recipient. `GET /campaigns/:id/invalid.csv` has them. */
  invalidCount!: number;
  /** Lines of the lists with a person that the campaign had already. */
  duplicateCount!: number;
  /** How many messages reached an end in the last minute. */
  ratePerMinute!: number;
  /** When the campaign ends at this rate, in seconds. Null if that is not known. */
  etaSeconds!: number | null;
  startAt!: string | null;
  createdAt!: string;
  startedAt!: string | null;
  finishedAt!: string | null;
}

export class InvalidLine {
  /** The number of the line in the list. The header is line 1. */
  line!: number;
  column!: string;
  to!: string;
  message!: string;
}

export class LoadResponse {
  /** New recipients. */
  accepted!: number;
  /** Persons that the campaign had already, in this list or in an earlier one. */
  duplicates!: number;
  /** The first 100 invalid lines. */
  invalid!: InvalidLine[];
  invalidCount!: number;
}

export class RecipientResponse {
  /** The id of the recipient, and of its message as soon as an account has it. */
  id!: string;
  to!: string;
  variables!: Record<string, string>;
  /** Which variant the recipient got. Null: no account has the recipient yet, or the campaign has no variants. */
  variant!: string | null;
  status!: (typeof recipientStatuses)[number];
  error!: MessageError | null;
  /** The account that sends. Null until then. */
  accountId!: string | null;
  sentAt!: string | null;
  deliveredAt!: string | null;
  readAt!: string | null;
  /** When the recipient answered first, within seven days. */
  repliedAt!: string | null;
  failedAt!: string | null;
}

export class PreviewItem {
  to!: string;
  type!: string;
  text!: string | null;
  /** Why this recipient gets no message. Null if it gets one. */
  problem!: string | null;
}

export class PreviewResponse {
  items!: PreviewItem[];
}

export function toCampaignResponse(
  campaign: CampaignDetails & { ratePerMinute: number; etaSeconds: number | null },
): CampaignResponse {
  return {
    id: campaign.id,
    workspaceId: campaign.workspaceId,
    name: campaign.name,
    status: campaign.status,
    pauseReason: campaign.pauseReason,
    accountIds: campaign.accountIds,
    message: shownMessage(campaign.message),
    variants:
      campaign.variants?.map(({ share, message }, index) => ({
        variant: variantName(index),
        share,
        message: shownMessage(message),
      })) ?? null,
    templateId: campaign.templateId,
    templateVersion: campaign.templateVersion,
    country: campaign.country,
    pacing: campaign.pacing,
    safety: campaign.safety,
    notWithinDays: campaign.notWithinDays,
    windows: campaign.times?.windows ?? null,
    quietHours: campaign.times?.quietHours ?? null,
    timeZone: campaign.times?.timeZone ?? 'recipient',
    counts: toCounts(campaign),
    invalidCount: Number(campaign.invalidCount),
    duplicateCount: Number(campaign.duplicateCount),
    ratePerMinute: campaign.ratePerMinute,
    etaSeconds: campaign.etaSeconds,
    startAt: campaign.startAt?.toISOString() ?? null,
    createdAt: campaign.createdAt.toISOString(),
    startedAt: campaign.startedAt?.toISOString() ?? null,
    finishedAt: campaign.finishedAt?.toISOString() ?? null,
  };
}

export function toRecipientResponse(row: RecipientRow): RecipientResponse {
  return {
    id: row.id,
    to: row.recipient,
    variables: row.variables,
    variant: row.variant,
    status: row.status,
    error: row.error_code === null ? null : { code: row.error_code, message: row.error_message ?? '' },
    accountId: row.account_id,
    sentAt: row.sent_at?.toISOString() ?? null,
    deliveredAt: row.delivered_at?.toISOString() ?? null,
    readAt: row.read_at?.toISOString() ?? null,
    repliedAt: row.replied_at?.toISOString() ?? null,
    failedAt: row.failed_at?.toISOString() ?? null,
  };
}

/** In a cancelled campaign nobody waits any more: who waited is cancelled. */
export function toCounts({ counts, status }: Pick<CampaignDetails, 'counts' | 'status'>): CampaignCounts {
  const of = (...names: string[]) => names.reduce((sum, name) => sum + (counts[name] ?? 0), 0);
  const waiting = of('waiting');
  const isCancelled = status === 'cancelled';
  return {
    total: Object.values(counts).reduce<number>((sum, count) => sum + (count ?? 0), 0) - of('replied'),
    queued: of('queued', 'scheduled') + (isCancelled ? 0 : waiting),
    sending: of('sending'),
    sent: of('sent'),
    delivered: of('delivered'),
    read: of('read', 'played'),
    failed: of('failed', 'expired'),
    unknown: of('unknown'),
    cancelled: of('cancelled') + (isCancelled ? waiting : 0),
    replied: of('replied'),
  };
}

/** A message as the API shows it. */
export function shownMessage({ content, ...message }: CampaignMessage): Record<string, unknown> {
  return { ...message, ...content };
}
