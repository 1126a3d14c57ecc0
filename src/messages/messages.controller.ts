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
import { ApiAcceptedResponse, ApiHeader, ApiOkResponse } from '@nestjs/swagger';
import type { Response } from 'express';
import { AccountNotFound, sessionProblems } from '../accounts/account-errors.js';
import { Problem, ValidationFailed } from '../platform/errors/problem.js';
import { fileProblems } from '../media/media-failures.js';
import { StorageLimitReached } from '../media/media-keeper.js';
import { MediaEmpty, MediaTooLarge } from '../media/media-spool.js';
import { MediaStorageUnavailable } from '../media/media-storage.js';
import { MediaNotFound, MediaUnavailable } from '../media/media.service.js';
import { Fails, Paged } from '../platform/http/documentation.js';
import { type Page, toPage } from '../platform/http/pagination.js';
import { Allow, WorkspaceId } from '../workspaces/auth.guard.js';
import { MessageLimitReached } from '../workspaces/limits.service.js';
import {
  ActionNotAllowed,
  MessageActionsService,
  MessageHasNoMedia,
  MessageNotOutgoing,
  MessageNotSent,
} from './message-actions.service.js';
import {
  BatchResponse,
  EditMessageDto,
  ListMessagesQuery,
  MessageResponse,
  ReactDto,
  SendBatchDto,
  SendMessageDto,
  SendMessageQuery,
  toMessageResponse,
} from './messages.dto.js';
import { MediaGone, MediaNotDownloaded } from './media-problems.js';
import { ContentMismatch } from './content-preparation.js';
import {
  AcceptService,
  IdempotencyInProgress,
  IdempotencyMismatch,
  MessageNotResendable,
  NoAccountReady,
} from './accept.service.js';
import { MessageAlreadySending, MessageNotFound, MessagesService } from './messages.service.js';

/** What may happen when something is done to a message that WhatsApp already has. */
const ofActions = [
  MessageNotFound,
  MessageAlreadySending,
  ...sessionProblems,
  new Problem(504, 'whatsapp.no_answer', 'WhatsApp Web did not say that it is done. Asking again is safe.'),
];

@Controller('messages')
export class MessagesController {
  constructor(
    private readonly accepting: AcceptService,
    private readonly messages: MessagesService,
    private readonly actions: MessageActionsService,
  ) {}

  /** Accepts a message to be sent once. `?wait=sent` answers 200 when it has been sent. */
  @Allow('sender')
  @ApiHeader({
    name: 'Idempotency-Key',
    description:
      'Yours, 1 to 255 printable ASCII characters: however often the call is repeated, the message is sent once.',
    schema: { type: 'string', minLength: 1, maxLength: 255 },
    example: 'order-4711-shipped',
  })
  @ApiOkResponse({ type: MessageResponse, description: 'With `wait`: it has got that far.' })
  @ApiAcceptedResponse({
    type: MessageResponse,
    description: 'It is kept, and will be sent.',
    headers: { Location: { description: 'Where to look after it.', schema: { type: 'string' } } },
  })
  @Fails(
    AccountNotFound,
    NoAccountReady,
    MessageLimitReached,
    ContentMismatch,
    MediaNotFound,
    MediaUnavailable,
    ...fileProblems,
    MessageNotFound,
    IdempotencyInProgress,
    IdempotencyMismatch,
  )
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
    const accepted = await this.accepting.accept(workspaceId, body, idempotencyKey);
    response.location(`/api/v1/messages/${accepted.id}`);
    if (query.wait === undefined) return toMessageResponse(accepted);
    const gone = new AbortController();
    if (response.closed) gone.abort();
    else response.once('close', () => gone.abort());
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
    @Headers('idempotency-key') idempotencyKey: string | undefined,
  ): Promise<BatchResponse> {
    // Whoever sends one relies on it.
    if (idempotencyKey !== undefined)
      throw new ValidationFailed([
        { path: 'Idempotency-Key', message: 'is not for batches: send what has one by POST /messages' },
      ]);
    return { items: await this.accepting.acceptBatch(workspaceId, body.messages) };
  }

  /** Lists messages, newest first. */
  @Allow('viewer')
  @Paged(MessageResponse)
  @Get()
  async list(
    @WorkspaceId() workspaceId: string,
    @Query() query: ListMessagesQuery,
  ): Promise<Page<MessageResponse>> {
    return toPage(await this.messages.list(workspaceId, query), query.limit, toMessageResponse);
  }

  /** One message: how far it is, and what became of it. */
  @Allow('viewer')
  @Fails(MessageNotFound)
  @Get(':id')
  async get(
    @WorkspaceId() workspaceId: string,
    @Param('id', ParseUUIDPipe) id: string,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.messages.get(workspaceId, id));
  }

  /** Cancels a message that is not being sent yet. */
  @Allow('sender')
  @Fails(MessageNotFound, MessageAlreadySending)
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
  @Fails(
    ...ofActions,
    MessageNotOutgoing,
    new ActionNotAllowed('edit', 'WhatsApp does not let it be edited any more.'),
  )
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
  @Fails(
    ...ofActions,
    MessageNotOutgoing,
    new ActionNotAllowed('revoke', 'WhatsApp does not let it be revoked any more.'),
  )
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
  @Fails(...ofActions, MessageNotSent, new ActionNotAllowed('react', 'The message has been revoked.'))
  @Post(':id/reaction')
  @HttpCode(200)
  async react(
    @WorkspaceId() workspaceId: string,
    @Param('id', ParseUUIDPipe) id: string,
    @Body() { emoji }: ReactDto,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.actions.react(workspaceId, id, emoji));
  }

  /** Downloads the media of an incoming message again, where that failed or it was deleted since. */
  @Allow('sender')
  @Fails(
    MessageNotFound,
    MessageHasNoMedia,
    ...sessionProblems,
    MediaGone,
    MediaNotDownloaded,
    MediaTooLarge,
    MediaEmpty,
    StorageLimitReached,
    MediaStorageUnavailable,
  )
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
  @Fails(MessageNotFound, MessageNotResendable)
  @Post(':id/resend')
  @HttpCode(202)
  async resend(
    @WorkspaceId() workspaceId: string,
    @Param('id', ParseUUIDPipe) id: string,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.accepting.resend(workspaceId, id));
  }
}
