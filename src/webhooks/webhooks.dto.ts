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
import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Optional } from '../platform/http/optional.js';
import { PageQuery } from '../platform/http/pagination.js';
import { withLogin } from '../platform/http/proxy-url.js';
import { IsLaterThan, IsTime } from '../platform/http/time.js';
import { caFault } from './ca-certificate.js';
import { headersFault, mask } from './webhook-headers.js';
import type { AttemptOutcome } from './webhook-attempt.js';
import { deliveryStatuses, type DeliveryStatus, type WebhookDelivery } from './webhook-delivery.entity.js';
import type { Replay } from './webhook-deliveries.service.js';
import { isSecret } from './webhook-secrets.js';
import type { DisabledReason, Webhook } from './webhook.entity.js';
import type { WithSecret } from './webhooks.service.js';

/** @param faultOf what is wrong with the value; null if nothing is */
function HasNoFault(name: string, faultOf: (value: unknown) => string | null) {
  return (target: object, propertyName: string) =>
    registerDecorator({
      name,
      target: target.constructor,
      propertyName,
      validator: {
        validate: (value: unknown) => faultOf(value) === null,
        defaultMessage: (found) => faultOf(found?.value) ?? '',
      },
    });
}

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
   * Flotilla posts deliveries to this URL: http or https, on the public internet. It sends a user and password of the URL as basic
   * auth. Answers mask them.
   * @example https://example.com/hooks/flotilla
   */
  @IsString()
  @Length(1, 2_048)
  url!: string;

  /**
   * Event types, or beginnings of event types followed by `*`: `account.status`, `message.*`, `*`. `account.qr` and
   * `account.pairing_code` hold a code that links an account: they come only to a webhook that names them in full.
   * @example ["message.*", "account.status"]
   */
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(50)
  @IsEventPattern({ each: true })
  events!: string[];

  /** Signs deliveries: `whsec_` followed by 24 to 64 bytes in base64. If you leave it out, Flotilla makes one. */
  @Optional()
  @IsSecret()
  secret?: string;

  /** @example CRM */
  @Optional()
  @IsString()
  @Length(0, 500)
  description?: string;

  /** Only events of these accounts of the workspace. Left out: events of every account, and events without an account. */
  @Optional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(1_000)
  @IsUUID(undefined, { each: true })
  accountIds?: string[];

  /**
   * Only events of accounts with one of these labels, at the time of the event. With `accountIds`, an account must fit both.
   * @example ["support"]
   */
  @Optional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(50)
  @IsString({ each: true })
  @Length(1, 100, { each: true })
  labels?: string[];

  /**
   * Headers of every delivery, such as the key of your gateway, at most 20. Answers mask the values.
   * @example { "X-Api-Key": "k3y" }
   */
  @Optional()
  @ApiPropertyOptional({ type: 'object', additionalProperties: { type: 'string' } })
  @HasNoFault('areHeaders', headersFault)
  headers?: Record<string, string>;

  /**
   * Certificates in PEM, for an `https` server inside of a company: its own authority, or the very certificate of the server. Then
   * the public authorities do not count.
   */
  @Optional()
  @HasNoFault('isCaCertificate', caFault)
  caCertificate?: string;
}

export class UpdateWebhookDto {
  /**
   * Deliveries that wait for their next attempt go to the new URL at once. The masked user and password of an answer keep the
   * present ones. A URL of another server needs its user, password and `headers` again.
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

  /** Null: events of every account, and events without an account. */
  @IsOptional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(1_000)
  @IsUUID(undefined, { each: true })
  accountIds?: string[] | null;

  /**
   * Only events of accounts with one of these labels, at the time of the event. With `accountIds`, an account must fit both.
   * @example ["support"]
   */
  @IsOptional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(50)
  @IsString({ each: true })
  @Length(1, 100, { each: true })
  labels?: string[] | null;

  /**
   * Headers of every delivery, such as the key of your gateway, at most 20. Answers mask the values.
   * They replace all present headers. A masked value of an answer keeps the present value.
   * @example { "X-Api-Key": "k3y" }
   */
  @IsOptional()
  @ApiPropertyOptional({ type: 'object', additionalProperties: { type: 'string' }, nullable: true })
  @HasNoFault('areHeaders', headersFault)
  headers?: Record<string, string> | null;

  /**
   * Certificates in PEM, for an `https` server inside of a company: its own authority, or the very certificate of the server. Then
   * the public authorities do not count.
   */
  @IsOptional()
  @HasNoFault('isCaCertificate', caFault)
  caCertificate?: string | null;

  /** False: Flotilla delivers nothing. True: it delivers what waited and what happens from now on. Use a replay for the events between. */
  @Optional()
  @IsBoolean()
  isEnabled?: boolean;

  /** A new secret of your own. The old secret also signs for 24 hours. */
  @Optional()
  @IsSecret()
  secret?: string;

  /** True: Flotilla makes a new secret, which only this answer shows. The old secret also signs for 24 hours. */
  @Optional()
  @IsBoolean()
  rotateSecret?: boolean;
}

export class WebhookResponse {
  id!: string;
  workspaceId!: string;
  /**
   * A user and password are masked.
   * @example https://example.com/hooks/flotilla
   */
  url!: string;
  /** @example ["message.*", "account.status"] */
  events!: string[];
  /** Null: events of every account, and events without an account. */
  accountIds!: string[] | null;
  /** Null: events of accounts with any labels. */
  labels!: string[] | null;
  /**
   * The names of the headers of every delivery, with masked values.
   * @example { "X-Api-Key": "********" }
   */
  @ApiProperty({ type: 'object', additionalProperties: { type: 'string' } })
  headers!: Record<string, string>;
  /** In PEM. Null: the public authorities count. */
  caCertificate!: string | null;
  description!: string | null;
  isEnabled!: boolean;
  /** `owner`: you disabled it. `gone`: it answered 410. `failing`: nothing has arrived for five days. */
  disabledReason!: DisabledReason | null;
  disabledAt!: string | null;
  /** Since when every attempt has failed; null if the last attempt succeeded. */
  failingSince!: string | null;
  /** Until when the old secret also signs. */
  previousSecretExpiresAt!: string | null;
  createdAt!: string;
  updatedAt!: string;
}

export class WebhookWithSecretResponse extends WebhookResponse {
  /**
   * Signs deliveries. Only this answer shows it. Null if it has not changed.
   * @example whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDazVt3Yrvh2s=
   */
  secret!: string | null;
}

export class WebhookTestResponse {
  /** The `Webhook-Id` of the request. */
  eventId!: string;
  /** Whether the endpoint answered 2xx. */
  isDelivered!: boolean;
  /** The status that the endpoint answered; null without an answer. */
  statusCode!: number | null;
  durationMs!: number;
  /** What went wrong: a code, then a text. Null after a success. */
  error!: string | null;
  /** The beginning of the answer's body. */
  response!: string | null;
}

export class ListDeliveriesQuery extends PageQuery {
  /** Only deliveries with this status. */
  @IsOptional()
  @IsIn(deliveryStatuses)
  status?: DeliveryStatus;
}

export class DeliveryResponse {
  id!: string;
  webhookId!: string;
  /**
   * The `Webhook-Id`, the same in every attempt: the place of the event in the log.
   * @example 81723-5512
   */
  eventId!: string;
  /** @example message.sent */
  type!: EventType;
  accountId!: string | null;
  /** `pending`: it waits for its first attempt. `failed`: Flotilla tries it again. `dead`: Flotilla does not, until you redeliver it. */
  status!: DeliveryStatus;
  /** How many attempts there were, at most 8. */
  attempts!: number;
  /** The status that the endpoint answered last; null without an answer. */
  statusCode!: number | null;
  /** How long the last attempt took. */
  durationMs!: number | null;
  /** What went wrong in the last attempt: a code, then a text. */
  error!: string | null;
  /** The beginning of the last answer's body, at most 1 KB. */
  responseExcerpt!: string | null;
  lastAttemptAt!: string | null;
  /** The time of the next attempt. */
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

  /** Events before this time. Left out: up to now. */
  @Optional()
  @IsLaterThan('since')
  @IsTime()
  until?: string;

  /**
   * Events behind this event in the log: the `nextAfter` of the replay before. Repeat the other fields of that replay.
   * `0-0` is the beginning of the log.
   * @example 0-0
   */
  @Optional()
  @Matches(/^\d{1,19}-\d{1,19}$/, { message: 'must be the id of an event, such as 7421-88' })
  after?: string;

  /** Only these types, if the webhook takes them. @example ["message.received"] */
  @Optional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(50)
  @IsEventPattern({ each: true })
  types?: string[];
}

export class ReplayResponse {
  /** How many events are delivered again, or for the first time. */
  count!: number;
  /** The `after` of the next replay, if there are more than 10,000 events; else null. @example 7421-88 */
  nextAfter!: string | null;
}

export function toWebhookResponse(webhook: Webhook): WebhookResponse {
  const isOverlapping = (webhook.previousSecretExpiresAt?.getTime() ?? 0) > Date.now();
  return {
    id: webhook.id,
    workspaceId: webhook.workspaceId,
    url: webhook.login ? withLogin(webhook.url, `${mask}:${mask}`) : webhook.url,
    events: webhook.events,
    accountIds: webhook.accountIds,
    labels: webhook.labels ?? null,
    headers: Object.fromEntries(webhook.headerNames.map((name) => [name, mask])),
    caCertificate: webhook.caCertificate ?? null,
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
