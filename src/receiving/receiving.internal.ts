import { Body, Controller, HttpCode, Param, ParseUUIDPipe, Post, UseGuards } from '@nestjs/common';
import type { ActOnMessage, DownloadMedia } from '../messages/message-actions.service.js';
import { InternalGuard } from '../platform/http/internal.guard.js';
import { ActionRunner } from './action-runner.js';
import { MediaDownloader } from './media-downloader.js';
import { OutcomeFinder } from './outcome-finder.js';

/** Requests of workers and the API about messages, to the instance that owns an account. */
@UseGuards(InternalGuard)
@Controller('internal/accounts/:id')
export class InternalReceivingController {
  constructor(
    private readonly actions: ActionRunner,
    private readonly outcomes: OutcomeFinder,
    private readonly media: MediaDownloader,
  ) {}

  @Post('outcomes')
  @HttpCode(204)
  async findOutcomes(@Param('id', ParseUUIDPipe) id: string): Promise<void> {
    await this.outcomes.find(id);
  }

  @Post('actions')
  @HttpCode(204)
  async act(@Param('id', ParseUUIDPipe) id: string, @Body() body: ActOnMessage): Promise<void> {
    await this.actions.act(id, body);
  }

  @Post('media')
  @HttpCode(204)
  async downloadMedia(@Param('id', ParseUUIDPipe) id: string, @Body() body: DownloadMedia): Promise<void> {
    await this.media.download(id, body.messageId, body.epoch);
  }
}
