import {
  ArrayMaxSize,
  ArrayMinSize,
  IsArray,
  IsBoolean,
  IsIn,
  IsOptional,
  IsString,
  IsUUID,
  Length,
  Matches,
  registerDecorator,
} from 'class-validator';
import { type EventType, IsEventPattern } from '../events/event-types.js';
import { Optional } from '../platform/http/optional.js';
import { PageQuery } from '../platform/http/pagination.js';
import { IsTime } from '../platform/http/time.js';
import type { AttemptOutcome } from './webhook-attempt.js';
import { deliveryStatuses, type DeliveryStatus, type WebhookDelivery } from './webhook-delivery.entity.js';
import type { Replay } from './webhook-deliveries.service.js';
import { isSecret } from './webhook-secrets.js';
import type { DisabledReason, Webhook } from './webhook.entity.js';
import type { WithSecret } from './webhooks.service.js';

function IsSecret() {
  return (target: object, propertyName: string) =>
    registerDecorator({
      name: 'isSecret',
      target: target.constructor,
      propertyName,
      validator: {
        validate: (value: unknown) => typeof value === 'string' && isSecret(value),
        defaultMessage: () => 'must be whsec_ followed by 24 to 64 bytes in base64',
      },
    });
}

export class CreateWebhookDto {
  /**
   * Where deliveries are posted to: http or https, on the public internet.
   * @example https://example.com/hooks/flotilla
   */
  @IsString()
  @Length(1, 2_048)
  url!: string;

  /**
   * Types of events, or their beginning: `message.*`, `account.status`, `*`. `account.qr` and `account.pairing_code`, which hold
   * the code by which an account is linked, come only to whoever names them in full.
   * @example ["message.*", "account.status"]
   */
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(50)
  @IsEventPattern({ each: true })
  events!: string[];

  /** What deliveries are signed with: `whsec_` and 24 to 64 bytes in base64. Left out, one is made. */
  @Optional()
  @IsSecret()
  secret?: string;

  /** @example CRM */
  @IsOptional()
  @IsString()
  @Length(0, 500)
  description?: string | null;

  /** Only events of these accounts of the workspace; left out, of every account and of none. */
  @IsOptional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(1_000)
  @IsUUID(undefined, { each: true })
  accountIds?: string[] | null;
}

export class UpdateWebhookDto {
  /**
   * What waits for its next attempt is posted to the new one at once.
   * @example https://example.com/hooks/flotilla
   */
  @Optional()
  @IsString()
  @Length(1, 2_048)
  url?: string;

  /** @example ["message.*"] */
  @Optional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(50)
  @IsEventPattern({ each: true })
  events?: string[];

  @IsOptional()
  @IsString()
  @Length(0, 500)
  description?: string | null;

  /** Null: events of every account and of none. */
  @IsOptional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(1_000)
  @IsUUID(undefined, { each: true })
  accountIds?: string[] | null;

  /** False: nothing is delivered. True: what waited is, and what happens from now on; what happened meanwhile is for a replay. */
  @Optional()
  @IsBoolean()
  isEnabled?: boolean;

  /** A new secret of your own. For a day the one before it signs too. */
  @Optional()
  @IsSecret()
  secret?: string;

  /** True: a new secret is made, and shown in this answer only. For a day the one before it signs too. */
  @Optional()
  @IsBoolean()
  rotateSecret?: boolean;
}

export class WebhookResponse {
  id!: string;
  workspaceId!: string;
  /** @example https://example.com/hooks/flotilla */
  url!: string;
  /** @example ["message.*", "account.status"] */
  events!: string[];
  /** Null: events of every account and of none. */
  accountIds!: string[] | null;
  description!: string | null;
  isEnabled!: boolean;
  /** `owner`: you wanted it; `gone`: it answered 410; `failing`: nothing has arrived for five days. */
  disabledReason!: DisabledReason | null;
  disabledAt!: string | null;
  /** Since when nothing has arrived that was tried; null when the last try succeeded. */
  failingSince!: string | null;
  /** Until when the secret before the present one signs too. */
  previousSecretExpiresAt!: string | null;
  createdAt!: string;
  updatedAt!: string;
}

export class WebhookWithSecretResponse extends WebhookResponse {
  /**
   * What deliveries are signed with: shown here and never again. Null when it has not changed.
   * @example whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDazVt3Yrvh2s=
   */
  secret!: string | null;
}

export class WebhookTestResponse {
  /** What came as `Webhook-Id`. */
  eventId!: string;
  /** Whether it answered 2xx. */
  isDelivered!: boolean;
  /** What it answered; null when it did not. */
  statusCode!: number | null;
  durationMs!: number;
  /** What went wrong; begins with a code. */
  error!: string | null;
  /** The beginning of the answer's body. */
  response!: string | null;
}

export class ListDeliveriesQuery extends PageQuery {
  /** Only those. */
  @IsOptional()
  @IsIn(deliveryStatuses)
  status?: DeliveryStatus;
}

export class DeliveryResponse {
  id!: string;
  webhookId!: string;
  /**
   * What comes as `Webhook-Id`, the same in every attempt; where the event stands in the log.
   * @example 81723-5512
   */
  eventId!: string;
  /** @example message.sent */
  type!: EventType;
  accountId!: string | null;
  /** `pending`: its turn has not come; `failed`: it is tried again; `dead`: it is not, until it is redelivered. */
  status!: DeliveryStatus;
  /** How often it has been tried; 8 times at the most. */
  attempts!: number;
  /** What the endpoint answered last; null when it did not. */
  statusCode!: number | null;
  /** How long the last attempt took. */
  durationMs!: number | null;
  /** What went wrong last; begins with a code. */
  error!: string | null;
  /** The beginning of the last answer's body, 1 KB at the most. */
  responseExcerpt!: string | null;
  lastAttemptAt!: string | null;
  /** When it is tried again. */
  nextAttemptAt!: string | null;
  createdAt!: string;
}

export class ReplayDto {
  /**
   * Events from this time on. The log keeps thirty days.
   * @example 2026-11-24T08:00:00Z
   */
  @IsTime()
  since!: string;

  /** Events before this time; left out, up to now. */
  @Optional()
  @IsTime()
  until?: string;

  /**
   * Events behind this one in the log: the `nextAfter` of the replay before, whose other fields are given again.
   * @example 7421-88
   */
  @Optional()
  @Matches(/^\d{1,19}-\d{1,19}$/, { message: 'must be the id of an event, such as 7421-88' })
  after?: string;

  /** Only these of the types that the webhook takes. @example ["message.received"] */
  @IsOptional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(50)
  @IsEventPattern({ each: true })
  types?: string[];
}

export class ReplayResponse {
  /** How many events are delivered again, or for the first time. */
  count!: number;
  /** When there were more than 10,000: the `after` of the next replay. Null when that was all. @example 7421-88 */
  nextAfter!: string | null;
}

export function toWebhookResponse(webhook: Webhook): WebhookResponse {
  const isOverlapping = (webhook.previousSecretExpiresAt?.getTime() ?? 0) > Date.now();
  return {
    id: webhook.id,
    workspaceId: webhook.workspaceId,
    url: webhook.url,
    events: webhook.events,
    accountIds: webhook.accountIds,
    description: webhook.description,
    isEnabled: webhook.isEnabled,
    disabledReason: webhook.disabledReason ?? null,
    disabledAt: webhook.disabledAt?.toISOString() ?? null,
    failingSince: webhook.failingSince?.toISOString() ?? null,
    previousSecretExpiresAt: isOverlapping ? webhook.previousSecretExpiresAt!.toISOString() : null,
    createdAt: webhook.createdAt.toISOString(),
    updatedAt: webhook.updatedAt.toISOString(),
  };
}

export function toWebhookWithSecretResponse({ webhook, secret }: WithSecret): WebhookWithSecretResponse {
  return { ...toWebhookResponse(webhook), secret };
}

export function toTestResponse(outcome: AttemptOutcome & { eventId: string }): WebhookTestResponse {
  const { eventId, statusCode, durationMs, error, excerpt } = outcome;
  return { eventId, isDelivered: error === null, statusCode, durationMs, error, response: excerpt };
}

export function toDeliveryResponse(delivery: WebhookDelivery): DeliveryResponse {
  return {
    id: delivery.id,
    webhookId: delivery.webhookId,
    eventId: `${delivery.transactionId}-${delivery.eventId}`,
    type: delivery.type as EventType,
    accountId: delivery.accountId,
    status: delivery.status,
    attempts: delivery.attempts,
    statusCode: delivery.statusCode,
    durationMs: delivery.durationMs,
    error: delivery.error,
    responseExcerpt: delivery.responseExcerpt,
    lastAttemptAt: delivery.lastAttemptAt?.toISOString() ?? null,
    nextAttemptAt: delivery.nextAttemptAt?.toISOString() ?? null,
    createdAt: delivery.createdAt.toISOString(),
  };
}

export function toReplayResponse({ count, nextAfter }: Replay): ReplayResponse {
  return { count, nextAfter };
}
