import { Body, Controller, Get, HttpCode, Param, Patch, Post, Query, Res } from '@nestjs/common';
import { ApiOkResponse, ApiProduces } from '@nestjs/swagger';
import type { Response } from 'express';
import { Fails, Paged } from '../platform/http/documentation.js';
import type { Page } from '../platform/http/pagination.js';
import { UnreadResponses } from '../platform/http/unread-responses.js';
import { UuidPipe } from '../platform/http/uuid.pipe.js';
import { NumberChecksPaused } from '../sending/recipient-checks.js';
import { Allow, WorkspaceId } from '../workspaces/auth.guard.js';
import { ChatIdPipe, ContactIdPipe } from './chat-id.pipe.js';
import {
  ChatResponse,
  ContactResponse,
  HistoryMessage,
  NumberResponse,
  PageListQuery,
  PresenceResponse,
  ShowStateDto,
  UpdateChatDto,
  WatchPresenceDto,
} from './chats.dto.js';
import { ChatsService } from './chats.service.js';
import {
  CannotPin,
  ChatNotFound,
  ContactNotFound,
  NoPicture,
  NoPresence,
  NumberInvalid,
  chatProblems,
  PictureTooLarge,
  TooManyNumberChecks,
  TooManyWatches,
} from './chat-errors.js';
import { sendPicture } from './pictures.js';

/** Chats and contacts. Each call reads them from the WhatsApp of the account, so the account must be ready. */
@Controller('accounts/:id')
export class ChatsController {
  constructor(
    private readonly chats: ChatsService,
    private readonly unread: UnreadResponses,
  ) {}

  /** Checks whether a phone number, in any usual notation, has WhatsApp. The answer may be up to ten minutes old. */
  @Allow('viewer')
  @Fails(...chatProblems, NumberInvalid, TooManyNumberChecks, NumberChecksPaused)
  @Get('numbers/:phone')
  async number(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('phone') phone: string,
  ): Promise<NumberResponse> {
    return this.chats.number(workspaceId, id, phone);
  }

  /** Lists the chats, the latest first. If a chat moves to the top between two pages, the next page does not show it. */
  @Allow('viewer')
  @Fails(...chatProblems)
  @Paged(ChatResponse)
  @Get('chats')
  async list(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Query() query: PageListQuery,
    @Res({ passthrough: true }) response: Response,
  ): Promise<Page<ChatResponse>> {
    return this.unread.inTurn(response, id, () => this.chats.chats(workspaceId, id, query));
  }

  /** Archives, pins or mutes a chat, on all devices of the account. */
  @Allow('sender')
  @Fails(...chatProblems, ChatNotFound, CannotPin)
  @Patch('chats/:chatId')
  @HttpCode(204)
  async update(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('chatId', ChatIdPipe) chatId: string,
    @Body() body: UpdateChatDto,
  ): Promise<void> {
    await this.chats.update(workspaceId, id, chatId, body);
  }

  /** Marks a chat as read. The senders of its messages see that. */
  @Allow('sender')
  @Fails(...chatProblems, ChatNotFound)
  @Post('chats/:chatId/read')
  @HttpCode(204)
  async markRead(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('chatId', ChatIdPipe) chatId: string,
  ): Promise<void> {
    await this.chats.markRead(workspaceId, id, chatId);
  }

  /** Shows "typing…" or "recording…" in a chat, for 25 seconds or until you stop it. */
  @Allow('sender')
  @Fails(...chatProblems, ChatNotFound)
  @Post('chats/:chatId/state')
  @HttpCode(204)
  async showState(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('chatId', ChatIdPipe) chatId: string,
    @Body() body: ShowStateDto = new ShowStateDto(),
  ): Promise<void> {
    await this.chats.showState(workspaceId, id, chatId, body);
  }

  /**
   * Watches a chat for some minutes: who is online, types or records, and when the person was online last, if WhatsApp tells it. Changes
   * come as the event `account.presence`. Meanwhile the account shows itself as online. Another call sets the time anew. A restart of the
   * account's browser ends it.
   */
  @Allow('sender')
  @Fails(...chatProblems, ChatNotFound, NoPresence, TooManyWatches)
  @Post('chats/:chatId/presence')
  @HttpCode(200)
  async presence(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('chatId', ChatIdPipe) chatId: string,
    @Body() body: WatchPresenceDto = new WatchPresenceDto(),
  ): Promise<PresenceResponse> {
    return this.chats.watch(workspaceId, id, chatId, body);
  }

  /** Lists the messages of a chat from WhatsApp, the newest first. */
  @Allow('viewer')
  @Fails(...chatProblems, ChatNotFound)
  @Paged(HistoryMessage)
  @Get('chats/:chatId/messages')
  async history(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('chatId', ChatIdPipe) chatId: string,
    @Query() query: PageListQuery,
    @Res({ passthrough: true }) response: Response,
  ): Promise<Page<HistoryMessage>> {
    return this.unread.inTurn(response, id, () => this.chats.history(workspaceId, id, chatId, query));
  }

  /** Lists the contacts of the account's WhatsApp, in the order of their ids. */
  @Allow('viewer')
  @Fails(...chatProblems)
  @Paged(ContactResponse)
  @Get('contacts')
  async contacts(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Query() query: PageListQuery,
    @Res({ passthrough: true }) response: Response,
  ): Promise<Page<ContactResponse>> {
    return this.unread.inTurn(response, id, () => this.chats.contacts(workspaceId, id, query));
  }

  /**
   * Reads one person, by number or by hidden number. If the account does not know the person, this counts as a number check, and the
   * answer has no names.
   */
  @Allow('viewer')
  @Fails(...chatProblems, ContactNotFound, TooManyNumberChecks, NumberChecksPaused)
  @Get('contacts/:contactId')
  async contact(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('contactId', ContactIdPipe) contactId: string,
  ): Promise<ContactResponse> {
    return this.chats.contact(workspaceId, id, contactId);
  }

  /** Reads the profile picture of a person. If the account does not know the person, this counts as a number check. */
  @Allow('viewer')
  @Fails(
    ...chatProblems,
    ContactNotFound,
    new NoPicture(false),
    PictureTooLarge,
    TooManyNumberChecks,
    NumberChecksPaused,
  )
  @Get('contacts/:contactId/picture')
  @ApiProduces('image/jpeg', 'image/png', 'image/webp')
  @ApiOkResponse({ schema: { type: 'string', format: 'binary' } })
  async picture(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('contactId', ContactIdPipe) contactId: string,
    @Res() response: Response,
  ): Promise<void> {
    const { type, bytes } = await this.chats.picture(workspaceId, id, contactId);
    sendPicture(response, type, bytes);
  }
}
