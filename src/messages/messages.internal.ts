import { Body, Controller, HttpCode, Param, ParseUUIDPipe, Post, UseGuards } from '@nestjs/common';
import { InternalGuard } from '../platform/http/internal.guard.js';
import type { LaneResult, LaneRun } from './lane-run.js';
import { SendingService } from './sending.service.js';

/** What a worker asks of the instance that owns an account. */
@UseGuards(InternalGuard)
@Controller('internal/accounts/:id/lane')
export class InternalMessagesController {
  constructor(private readonly sending: SendingService) {}

  @Post()
  @HttpCode(200)
  async run(@Param('id', ParseUUIDPipe) id: string, @Body() body: LaneRun): Promise<LaneResult> {
    return this.sending.run(id, body);
  }
}
