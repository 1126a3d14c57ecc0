import {
  Body,
  Controller,
  Delete,
  Get,
  Headers,
  HttpCode,
  Param,
  ParseUUIDPipe,
  Patch,
  Post,
  Query,
  Res,
} from '@nestjs/common';
import type { Response } from 'express';
import { ValidationFailed } from '../platform/errors/problem.js';
import { type Page, toPage } from '../platform/http/pagination.js';
import { Allow, WorkspaceId } from '../workspaces/auth.guard.js';
import { MessageActionsService } from './message-actions.service.js';
import {
  BatchItemResponse,
  EditMessageDto,
  ListMessagesQuery,
  MessageResponse,
  ReactDto,
  SendBatchDto,
  SendMessageDto,
  SendMessageQuery,
  toMessageResponse,
} from './messages.dto.js';
import { MessagesService } from './messages.service.js';

@Controller('messages')
export class MessagesController {
  constructor(
    private readonly messages: MessagesService,
    private readonly actions: MessageActionsService,
  ) {}

  /** Accepts a message to be sent once. `?wait=sent` answers 200 when it has been sent. */
  @Allow('sender')
  @Post()
  @HttpCode(202)
  async send(
    @WorkspaceId() workspaceId: string,
    @Query() query: SendMessageQuery,
    @Body() body: SendMessageDto,
    @Headers('idempotency-key') idempotencyKey: string | undefined,
    @Res({ passthrough: true }) response: Response,
  ): Promise<MessageResponse> {
    if (idempotencyKey !== undefined && !/^[\x20-\x7e]{1,255}$/.test(idempotencyKey)) {
      throw new ValidationFailed([
        { path: 'Idempotency-Key', message: 'must be 1 to 255 printable ASCII characters' },
      ]);
    }
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const accepted = await this.messages.accept(workspaceId, body, idempotencyKey);
    response.location(`/api/v1/messages/${accepted.id}`);
    if (query.wait === undefined) return toMessageResponse(accepted);
    const { message, isReached } = await this.messages.waitFor(
      accepted,
      query.wait,
      query.timeoutMs,
      gone.signal,
    );
    if (isReached) response.status(200);
    return toMessageResponse(message);
  }

  /** Accepts up to 1,000 messages; each has its own outcome. */
  @Allow('sender')
  @Post('batch')
  @HttpCode(200)
  async sendBatch(
    @WorkspaceId() workspaceId: string,
    @Body() body: SendBatchDto,
  ): Promise<{ items: BatchItemResponse[] }> {
    return { items: await this.messages.acceptBatch(workspaceId, body.messages) };
  }

  /** Lists messages, newest first. */
  @Allow('viewer')
  @Get()
  async list(
    @WorkspaceId() workspaceId: string,
    @Query() query: ListMessagesQuery,
  ): Promise<Page<MessageResponse>> {
    return toPage(await this.messages.list(workspaceId, query), query.limit, toMessageResponse);
  }

  @Allow('viewer')
  @Get(':id')
  async get(
    @WorkspaceId() workspaceId: string,
    @Param('id', ParseUUIDPipe) id: string,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.messages.get(workspaceId, id));
  }

  /** Cancels a message that is not being sent yet. */
  @Allow('sender')
  @Delete(':id')
  @HttpCode(200)
  async cancel(
    @WorkspaceId() workspaceId: string,
    @Param('id', ParseUUIDPipe) id: string,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.messages.cancel(workspaceId, id));
  }

  /** Changes the text of a message: at WhatsApp for a quarter of an hour after it was sent, and freely before. */
  @Allow('sender')
  @Patch(':id')
  async edit(
    @WorkspaceId() workspaceId: string,
    @Param('id', ParseUUIDPipe) id: string,
    @Body() { text }: EditMessageDto,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.actions.edit(workspaceId, id, text));
  }

  /** Deletes a message for everyone; one that is not sent yet is cancelled. */
  @Allow('sender')
  @Post(':id/revoke')
  @HttpCode(200)
  async revoke(
    @WorkspaceId() workspaceId: string,
    @Param('id', ParseUUIDPipe) id: string,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.actions.revoke(workspaceId, id));
  }

  /** Reacts to a message, sent or received; an empty emoji takes the reaction back. */
  @Allow('sender')
  @Post(':id/reaction')
  @HttpCode(200)
  async react(
    @WorkspaceId() workspaceId: string,
    @Param('id', ParseUUIDPipe) id: string,
    @Body() { emoji }: ReactDto,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.actions.react(workspaceId, id, emoji));
  }

  /** Downloads the media of an incoming message again, where that failed. */
  @Allow('sender')
  @Post(':id/media')
  @HttpCode(200)
  async downloadMedia(
    @WorkspaceId() workspaceId: string,
    @Param('id', ParseUUIDPipe) id: string,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.actions.downloadMedia(workspaceId, id));
  }

  /** Sends a message again that failed or whose outcome is unknown; an unknown one under its WhatsApp id, so that it arrives once. */
  @Allow('sender')
  @Post(':id/resend')
  @HttpCode(202)
  async resend(
    @WorkspaceId() workspaceId: string,
    @Param('id', ParseUUIDPipe) id: string,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.messages.resend(workspaceId, id));
  }
}
