import { Body, Controller, HttpCode, Param, ParseUUIDPipe, Post, UseGuards } from '@nestjs/common';
import { InternalGuard } from '../platform/http/internal.guard.js';
import type { SessionCall } from './session-calls.js';
import { SessionAnswerer } from './session-answerer.js';

/** What the API asks of the page of an account. */
@UseGuards(InternalGuard)
@Controller('internal/accounts/:id')
export class InternalChatsController {
  constructor(private readonly pages: SessionAnswerer) {}

  @Post('page')
  @HttpCode(200)
  async page(@Param('id', ParseUUIDPipe) id: string, @Body() body: SessionCall): Promise<unknown> {
    return this.pages.answer(id, body);
  }
}
