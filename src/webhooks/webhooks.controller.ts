import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query } from '@nestjs/common';
import { EventsService, InvalidEventCursor } from '../events/events.service.js';
import { Fails, Paged } from '../platform/http/documentation.js';
import { AddressNotPublic, UrlNotUsable } from '../platform/http/public-fetch.js';
import { type Page, PageQuery, toPage } from '../platform/http/pagination.js';
import { UuidPipe } from '../platform/http/uuid.pipe.js';
import { Allow, WorkspaceId } from '../workspaces/auth.guard.js';
import { DeliveryNotFound, WebhookDeliveriesService } from './webhook-deliveries.service.js';
import {
  CreateWebhookDto,
  DeliveryResponse,
  ListDeliveriesQuery,
  ReplayDto,
  ReplayResponse,
  toDeliveryResponse,
  toReplayResponse,
  toTestResponse,
  toWebhookResponse,
  toWebhookWithSecretResponse,
  UpdateWebhookDto,
  WebhookResponse,
  WebhookTestResponse,
  WebhookWithSecretResponse,
} from './webhooks.dto.js';
import {
  AccountsNotFound,
  TooManyWebhookTests,
  WebhookLimitReached,
  WebhookNotFound,
  WebhooksService,
} from './webhooks.service.js';

/** Endpoints that get events by the Standard Webhooks scheme. */
@Allow('owner')
@Controller('webhooks')
export class WebhooksController {
  constructor(
    private readonly webhooks: WebhooksService,
    private readonly deliveries: WebhookDeliveriesService,
    private readonly events: EventsService,
  ) {}

  /** Creates a webhook, which gets events from now on. Only this answer shows its `secret`. */
  @Fails(WebhookLimitReached, AccountsNotFound, UrlNotUsable, AddressNotPublic)
  @Post()
  async create(
    @WorkspaceId() workspaceId: string,
    @Body() body: CreateWebhookDto,
  ): Promise<WebhookWithSecretResponse> {
    return toWebhookWithSecretResponse(await this.webhooks.create(workspaceId, body));
  }

  /** Lists the webhooks, newest first. */
  @Paged(WebhookResponse)
  @Get()
  async list(@WorkspaceId() workspaceId: string, @Query() query: PageQuery): Promise<Page<WebhookResponse>> {
    return toPage(await this.webhooks.list(workspaceId, query), query.limit, toWebhookResponse);
  }

  /** One webhook, and whether it works. */
  @Fails(WebhookNotFound)
  @Get(':id')
  async get(@WorkspaceId() workspaceId: string, @Param('id', UuidPipe) id: string): Promise<WebhookResponse> {
    return toWebhookResponse(await this.webhooks.get(workspaceId, id));
  }

  /** Changes a webhook, gives it a new secret, disables it, or enables it again. */
  @Fails(WebhookNotFound, AccountsNotFound, UrlNotUsable, AddressNotPublic)
  @Patch(':id')
  async update(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Body() body: UpdateWebhookDto,
  ): Promise<WebhookWithSecretResponse> {
    return toWebhookWithSecretResponse(await this.webhooks.update(workspaceId, id, body));
  }

  /** Deletes a webhook and all deliveries that wait for it. */
  @Fails(WebhookNotFound)
  @Delete(':id')
  @HttpCode(204)
  async delete(@WorkspaceId() workspaceId: string, @Param('id', UuidPipe) id: string): Promise<void> {
    await this.webhooks.delete(workspaceId, id);
  }

  /** Posts a `webhook.test` now, and answers with the outcome within 15 seconds. */
  @Fails(WebhookNotFound, TooManyWebhookTests)
  @Post(':id/test')
  @HttpCode(200)
  async test(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<WebhookTestResponse> {
    return toTestResponse(await this.webhooks.test(workspaceId, id));
  }

  /** Lists deliveries, newest first. The log keeps arrived deliveries for 7 days, all others for 30. */
  @Fails(WebhookNotFound)
  @Paged(DeliveryResponse)
  @Get(':id/deliveries')
  async listDeliveries(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Query() query: ListDeliveriesQuery,
  ): Promise<Page<DeliveryResponse>> {
    await this.webhooks.get(workspaceId, id);
    const rows = await this.deliveries.list(workspaceId, id, query);
    return toPage(rows, query.limit, toDeliveryResponse);
  }

  /** Tries a delivery again from its first attempt, under the same id. */
  @Fails(WebhookNotFound, DeliveryNotFound)
  @Post(':id/deliveries/:deliveryId/redeliver')
  @HttpCode(202)
  async redeliver(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('deliveryId', UuidPipe) deliveryId: string,
  ): Promise<DeliveryResponse> {
    await this.webhooks.get(workspaceId, id);
    return toDeliveryResponse(await this.deliveries.redeliver(workspaceId, id, deliveryId));
  }

  /** Delivers the events of a period again, oldest first, at most 10,000. Each event keeps its id. */
  @Fails(WebhookNotFound, InvalidEventCursor)
  @Post(':id/replay')
  @HttpCode(202)
  async replay(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Body() { since, until, after, types }: ReplayDto,
  ): Promise<ReplayResponse> {
    await this.webhooks.get(workspaceId, id);
    if (after !== undefined) await this.events.assertReached(after);
    return toReplayResponse(
      await this.deliveries.replay(id, {
        since: new Date(since),
        until: until === undefined ? undefined : new Date(until),
        after,
        types,
      }),
    );
  }
}
