import {
  Body,
  Controller,
  Delete,
  Get,
  Headers,
  HttpCode,
  Param,
  Patch,
  Post,
  Query,
  Res,
} from '@nestjs/common';
import { ApiAcceptedResponse, ApiHeader, ApiOkResponse } from '@nestjs/swagger';
import type { Response } from 'express';
import { AccountNotFound, sessionProblems, WebIncompatible } from '../accounts/account-errors.js';
import { Problem, ValidationFailed } from '../platform/errors/problem.js';
import { conversionProblems, fileProblems } from '../media/media-failures.js';
import { StorageLimitReached } from '../media/media-keeper.js';
import { MediaEmpty, MediaTooLarge } from '../media/media-spool.js';
import { MediaStorageUnavailable } from '../media/media-storage.js';
import { MediaNotFound, MediaUnavailable, TooManyUrlDownloads } from '../media/media.service.js';
import { TakesBody } from '../platform/http/body.guard.js';
import { Fails, Paged } from '../platform/http/documentation.js';
import { cutPage, type Page } from '../platform/http/pagination.js';
import { UuidPipe } from '../platform/http/uuid.pipe.js';
import { Allow, WorkspaceId } from '../workspaces/auth.guard.js';
import { MessageLimitReached } from '../workspaces/limits.service.js';
import {
  ActionNotAllowed,
  MessageActionsService,
  MessageHasNoMedia,
  MessageNotIncoming,
  MessageNotOutgoing,
  MessageNotSent,
  NotInGroup,
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
import { MessageWaits, TooManyWaits } from './message-waits.js';
import { MediaGone, MediaNotDownloaded } from './media-problems.js';
import { CannotPost, ContentMismatch } from './content-preparation.js';
import {
  AcceptService,
  IdempotencyInProgress,
  IdempotencyMismatch,
  MessageNotResendable,
  NoAccountReady,
} from './accept.service.js';
import { MessageAlreadySending, MessageNotFound, MessagesService } from './messages.service.js';
import { isPostPlace, parseDestination } from './recipient.js';

/** Enough for a thousand messages, or a file of a few megabytes in base64. */
const largeBodyBytes = 8 * 2 ** 20;

/** The errors of an action on a message that WhatsApp already has. */
const actionProblems = [
  MessageNotFound,
  MessageAlreadySending,
  NotInGroup,
  ...sessionProblems,
  new WebIncompatible('WAWebMsgKey'),
  new Problem(
    504,
    'whatsapp.no_answer',
    'WhatsApp Web did not confirm the action. Try again: repeating it is safe.',
  ),
];

@Controller('messages')
export class MessagesController {
  constructor(
    private readonly accepting: AcceptService,
    private readonly messages: MessagesService,
    private readonly actions: MessageActionsService,
    private readonly waits: MessageWaits,
  ) {}

  /** Accepts a message, which Flotilla sends once. `?wait=sent` waits and answers 200 when the message is sent. */
  @Allow('sender')
  @ApiHeader({
    name: 'Idempotency-Key',
    description:
      'A key that you choose: 1 to 255 printable ASCII characters. If you repeat the call with the same key, Flotilla sends the message only once.',
    schema: { type: 'string', minLength: 1, maxLength: 255 },
    example: 'order-4711-shipped',
  })
  @ApiOkResponse({
    type: MessageResponse,
    description: 'With `wait`: the message has reached the requested status.',
  })
  @ApiAcceptedResponse({
    type: MessageResponse,
    description: 'The message is stored, and will be sent.',
    headers: { Location: { description: 'The URL of the message.', schema: { type: 'string' } } },
  })
  @Fails(
    AccountNotFound,
    NoAccountReady,
    MessageLimitReached,
    ContentMismatch,
    new CannotPost(true, []),
    MediaNotFound,
    MediaUnavailable,
    TooManyUrlDownloads,
    ...fileProblems,
    ...conversionProblems,
    MessageNotFound,
    IdempotencyInProgress,
    IdempotencyMismatch,
    TooManyWaits,
  )
  @TakesBody(largeBodyBytes, { longField: 'data' })
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
    if (query.wait === 'delivered' && isPostPlace(parseDestination(body.to)!.chatId))
      throw new ValidationFailed([
        { path: 'wait', message: 'must be sent: nobody says that a story or a post was delivered' },
      ]);
    // Before the message is accepted: a caller that is refused sends it again.
    const leave = query.wait === undefined ? undefined : this.waits.enter(workspaceId);
    try {
      const accepted = await this.accepting.accept(workspaceId, body, idempotencyKey, query.wait);
      response.location(`/api/v1/messages/${accepted.id}`);
      if (query.wait === undefined) return toMessageResponse(accepted);
      const gone = new AbortController();
      if (response.closed) gone.abort();
      else response.once('close', () => gone.abort());
      const { message, isReached } = await this.waits.until(
        accepted,
        query.wait,
        query.timeoutMs,
        gone.signal,
      );
      if (isReached) response.status(200);
      return toMessageResponse(message);
    } finally {
      leave?.();
    }
  }

  /** Accepts up to 1,000 messages. Each message has its own result. */
  @Allow('sender')
  @TakesBody(largeBodyBytes, { longField: 'data', values: 50_000 })
  @Post('batch')
  @HttpCode(200)
  async sendBatch(
    @WorkspaceId() workspaceId: string,
    @Body() body: SendBatchDto,
    @Headers('idempotency-key') idempotencyKey: string | undefined,
  ): Promise<BatchResponse> {
    // A caller that sends a key relies on it: ignoring the key could send messages twice.
    if (idempotencyKey !== undefined)
      throw new ValidationFailed([
        {
          path: 'Idempotency-Key',
          message: 'is not for batches: send a message that needs a key with POST /messages',
        },
      ]);
    return { items: await this.accepting.acceptBatch(workspaceId, body.messages) };
  }

  /**
   * Lists messages, newest first. A page looks at 3,000 messages at most, so it may have fewer than `limit`, or none, although there are
   * more: follow `nextCursor` until it is null. Pages of `status` `failed`, `unknown`, `cancelled`, `expired`, `scheduled` and `received`
   * are always full.
   */
  @Allow('viewer')
  @Paged(MessageResponse)
  @Get()
  async list(
    @WorkspaceId() workspaceId: string,
    @Query() query: ListMessagesQuery,
  ): Promise<Page<MessageResponse>> {
    return cutPage(await this.messages.list(workspaceId, query), toMessageResponse);
  }

  /** Shows one message with its status. */
  @Allow('viewer')
  @Fails(MessageNotFound)
  @Get(':id')
  async get(@WorkspaceId() workspaceId: string, @Param('id', UuidPipe) id: string): Promise<MessageResponse> {
    return toMessageResponse(await this.messages.get(workspaceId, id));
  }

  /** Cancels a message that Flotilla has not tried to send yet. */
  @Allow('sender')
  @Fails(MessageNotFound, MessageAlreadySending)
  @Delete(':id')
  @HttpCode(200)
  async cancel(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.messages.cancel(workspaceId, id));
  }

  /** Changes the text of a message: at any time before it is sent, and for about 15 minutes after, as WhatsApp allows. */
  @Allow('sender')
  @Fails(
    ...actionProblems,
    MessageNotOutgoing,
    new ActionNotAllowed('edit', 'WhatsApp no longer allows editing this message.'),
  )
  @Patch(':id')
  async edit(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Body() { text }: EditMessageDto,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.actions.edit(workspaceId, id, text));
  }

  /** Deletes a message for everyone. A message that is not sent yet is cancelled. */
  @Allow('sender')
  @Fails(
    ...actionProblems,
    MessageNotOutgoing,
    new ActionNotAllowed('revoke', 'WhatsApp no longer allows revoking this message.'),
  )
  @Post(':id/revoke')
  @HttpCode(200)
  async revoke(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.actions.revoke(workspaceId, id));
  }

  /** Reacts to a sent or received message. An empty emoji removes the reaction. */
  @Allow('sender')
  @Fails(...actionProblems, MessageNotSent, new ActionNotAllowed('react', 'The message has been revoked.'))
  @Post(':id/reaction')
  @HttpCode(200)
  async react(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Body() { emoji }: ReactDto,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.actions.react(workspaceId, id, emoji));
  }

  /**
   * Marks an incoming message as read. Its writer sees that. WhatsApp Web reads whole chats: the other messages of the chat are read too,
   * but only this message gets its `readAt`.
   */
  @Allow('sender')
  @Fails(
    ...actionProblems,
    MessageNotIncoming,
    new ActionNotAllowed('read', 'WhatsApp Web no longer has this message.'),
  )
  @Post(':id/read')
  @HttpCode(200)
  async read(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.actions.read(workspaceId, id));
  }

  /** Downloads the media of an incoming message, or of one from the phone, again, if the download failed or the file was deleted. */
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
    @Param('id', UuidPipe) id: string,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.actions.downloadMedia(workspaceId, id));
  }

  /** Sends a `failed` or `unknown` message again. An `unknown` message keeps its WhatsApp id, so that it arrives only once. */
  @Allow('sender')
  @Fails(MessageNotFound, MessageNotResendable)
  @Post(':id/resend')
  @HttpCode(202)
  async resend(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.accepting.resend(workspaceId, id));
  }
}
