import { Body, Controller, HttpCode, Param, ParseUUIDPipe, Post, UseGuards } from '@nestjs/common';
import { InternalGuard } from '../platform/http/internal.guard.js';
import type { ActOnMessage } from './message-actions.service.js';
import { MessageActor } from './message-actor.service.js';
import { MessageSender } from './message-sender.service.js';
import type { DeliverMessage } from './sending.service.js';

/** What workers and the API ask of the instance that owns an account. */
@UseGuards(InternalGuard)
@Controller('internal/accounts/:id/messages')
export class InternalMessagesController {
  constructor(
    private readonly sender: MessageSender,
    private readonly actor: MessageActor,
  ) {}

  @Post()
  @HttpCode(200)
  async send(@Param('id', ParseUUIDPipe) id: string, @Body() body: DeliverMessage): Promise<{ ack: number }> {
    return this.sender.send(id, body);
  }

  @Post('actions')
  @HttpCode(204)
  async act(@Param('id', ParseUUIDPipe) id: string, @Body() body: ActOnMessage): Promise<void> {
    await this.actor.act(id, body);
  }
}
