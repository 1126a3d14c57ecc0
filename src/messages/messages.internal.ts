import { Body, Controller, HttpCode, Param, ParseUUIDPipe, Post, UseGuards } from '@nestjs/common';
import { InternalGuard } from '../platform/http/internal.guard.js';
import { MessageSender } from './message-sender.service.js';
import type { DeliverMessage } from './sending.service.js';

/** What a worker asks of the instance that owns an account. */
@UseGuards(InternalGuard)
@Controller('internal/accounts/:id/messages')
export class InternalMessagesController {
  constructor(private readonly sender: MessageSender) {}

  @Post()
  @HttpCode(200)
  async send(@Param('id', ParseUUIDPipe) id: string, @Body() body: DeliverMessage): Promise<{ ack: number }> {
    return this.sender.send(id, body);
  }
}
