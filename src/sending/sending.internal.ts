import { Body, Controller, HttpCode, Param, ParseUUIDPipe, Post, UseGuards } from '@nestjs/common';
import { InternalGuard } from '../platform/http/internal.guard.js';
import type { LaneResult, LaneRun } from './lane-run.js';
import { MediaDownloader } from '../receiving/media-downloader.js';
import type { ActOnMessage, DownloadMedia } from '../messages/message-actions.service.js';
import { ActionRunner } from '../receiving/action-runner.js';
import { OutcomeFinder } from '../receiving/outcome-finder.js';
import { LaneRunner } from './lane-runner.js';

/** What workers and the API ask of the instance that owns an account. */
@UseGuards(InternalGuard)
@Controller('internal/accounts/:id')
export class InternalSendingController {
  constructor(
    private readonly sending: LaneRunner,
    private readonly actor: ActionRunner,
    private readonly outcomes: OutcomeFinder,
    private readonly media: MediaDownloader,
  ) {}

  @Post('lane')
  @HttpCode(200)
  async run(@Param('id', ParseUUIDPipe) id: string, @Body() body: LaneRun): Promise<LaneResult> {
    return this.sending.run(id, body);
  }

  @Post('outcomes')
  @HttpCode(204)
  async findOutcomes(@Param('id', ParseUUIDPipe) id: string): Promise<void> {
    await this.outcomes.find(id);
  }

  @Post('actions')
  @HttpCode(204)
  async act(@Param('id', ParseUUIDPipe) id: string, @Body() body: ActOnMessage): Promise<void> {
    await this.actor.act(id, body);
  }

  @Post('media')
  @HttpCode(204)
  async downloadMedia(@Param('id', ParseUUIDPipe) id: string, @Body() body: DownloadMedia): Promise<void> {
    await this.media.download(id, body.messageId, body.epoch);
  }
}
