import { Body, Controller, HttpCode, Param, ParseUUIDPipe, Post, UseGuards } from '@nestjs/common';
import { InternalGuard } from '../platform/http/internal.guard.js';
import type { LaneResult, LaneRun } from './lane-run.js';
import { LaneRunner } from './lane-runner.js';

/** Requests of workers to the instance that owns an account. */
@UseGuards(InternalGuard)
@Controller('internal/accounts/:id')
export class InternalSendingController {
  constructor(private readonly lanes: LaneRunner) {}

  @Post('lane')
  @HttpCode(200)
  async run(@Param('id', ParseUUIDPipe) id: string, @Body() body: LaneRun): Promise<LaneResult> {
    return this.lanes.run(id, body);
  }
}
