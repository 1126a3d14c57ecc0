import { Body, Controller, HttpCode, Param, ParseUUIDPipe, Post, UseGuards } from '@nestjs/common';
import { InternalGuard } from '../platform/http/internal.guard.js';
import type { SessionCall } from './session-calls.js';
import { CallDispatcher } from './call-dispatcher.js';

/** Calls of the API to the WhatsApp Web page of an account. */
@UseGuards(InternalGuard)
@Controller('internal/accounts/:id')
export class InternalChatsController {
  constructor(private readonly calls: CallDispatcher) {}

  @Post('page')
  @HttpCode(200)
  async page(@Param('id', ParseUUIDPipe) id: string, @Body() body: SessionCall): Promise<unknown> {
    return this.calls.dispatch(id, body);
  }
}
