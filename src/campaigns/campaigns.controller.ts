import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query, Req, Res } from '@nestjs/common';
import { ApiBody, ApiConsumes, ApiOkResponse, ApiProduces } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { AccountNotFound } from '../accounts/account-errors.js';
import { conversionProblems, fileProblems } from '../media/media-failures.js';
import { MediaNotFound, MediaUnavailable, TooManyUrlDownloads } from '../media/media.service.js';
import { NoAccountReady } from '../messages/accept.service.js';
import { MessageResponse, toMessageResponse } from '../messages/messages.dto.js';
import { MessageLimitReached } from '../workspaces/limits.service.js';
import { PreflightService } from './preflight.service.js';
import { CampaignStatsResponse, PreflightResponse, TestCampaignDto } from './campaign-rules.dto.js';
import { ContentMismatch } from '../messages/content-preparation.js';
import { Fails, Paged } from '../platform/http/documentation.js';
import { withoutTurn } from '../platform/http/fair-share.js';
import { type Page, toPage } from '../platform/http/pagination.js';
import { UuidPipe } from '../platform/http/uuid.pipe.js';
import { Allow, WorkspaceId } from '../workspaces/auth.guard.js';
import type { CampaignDetails } from './campaign.entity.js';
import {
  CampaignHasNoRecipients,
  CampaignNeverAllowed,
  CampaignNotFound,
  CampaignStatusConflict,
  RecipientNotFound,
  TemplateNotFound,
  TooManyLoads,
} from './campaign-errors.js';
import {
  CampaignResponse,
  CreateCampaignDto,
  ListCampaignsQuery,
  ListRecipientsQuery,
  LoadQuery,
  LoadResponse,
  PreviewResponse,
  RecipientResponse,
  ResumeCampaignDto,
  toCampaignResponse,
  toRecipientResponse,
  UpdateCampaignDto,
} from './campaigns.dto.js';
import { CampaignsService } from './campaigns.service.js';
import { listProblems, listTypes, sendCsv } from './list-http.js';
import { formatOf } from './list-upload.js';
import { invalidCsv } from './lists/invalid-csv.js';
import { reportCsv } from './report-csv.js';
import { RecipientsService } from './recipients.service.js';

const contentProblems = [
  TemplateNotFound,
  AccountNotFound,
  ContentMismatch,
  MediaNotFound,
  MediaUnavailable,
  TooManyUrlDownloads,
  ...fileProblems,
  ...conversionProblems,
];

const neverAllowed = new CampaignNeverAllowed('RU');

/** Campaigns: one message to many recipients. */
@Allow('sender')
@Controller('campaigns')
export class CampaignsController {
  constructor(
    private readonly campaigns: CampaignsService,
    private readonly recipients: RecipientsService,
    private readonly preflights: PreflightService,
  ) {}

  /** Creates a draft. Add recipients, look at the preview, then start it. */
  @Fails(...contentProblems)
  @Post()
  async create(
    @WorkspaceId() workspaceId: string,
    @Body() body: CreateCampaignDto,
  ): Promise<CampaignResponse> {
    return this.answer(await this.campaigns.create(workspaceId, body));
  }

  /** Lists campaigns, newest first. */
  @Allow('viewer')
  @Paged(CampaignResponse)
  @Get()
  async list(
    @WorkspaceId() workspaceId: string,
    @Query() query: ListCampaignsQuery,
  ): Promise<Page<CampaignResponse>> {
    const found = await this.campaigns.list(workspaceId, query);
    const page = found.slice(0, query.limit);
    const answers = await Promise.all(page.map((campaign) => this.answer(campaign)));
    return toPage([...answers, ...found.slice(query.limit)], query.limit, (row) => row as CampaignResponse);
  }

  /** One campaign, with how far it is. */
  @Allow('viewer')
  @Fails(CampaignNotFound)
  @Get(':id')
  async get(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<CampaignResponse> {
    return this.answer(await this.campaigns.get(workspaceId, id));
  }

  /** Changes a draft. After the start, its name and its accounts can change, and while it is paused, its pace, limits and sending times. */
  @Fails(CampaignNotFound, CampaignStatusConflict, neverAllowed, ...contentProblems)
  @Patch(':id')
  async update(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Body() body: UpdateCampaignDto,
  ): Promise<CampaignResponse> {
    return this.answer(await this.campaigns.update(workspaceId, id, body));
  }

  /** Deletes a draft or a campaign that has ended, with its lists. Messages that were sent stay. */
  @Fails(CampaignNotFound, CampaignStatusConflict)
  @Delete(':id')
  @HttpCode(204)
  async delete(@WorkspaceId() workspaceId: string, @Param('id', UuidPipe) id: string): Promise<void> {
    await this.campaigns.delete(workspaceId, id);
  }

  /**
   * Adds recipients, as many as you like in one request: JSON, NDJSON (`application/x-ndjson`), CSV (`text/csv`) with a header, or
   * XLSX. A person who is in the campaign already is a duplicate. The same list again adds nothing.
   */
  @Fails(CampaignNotFound, CampaignStatusConflict, TooManyLoads, ...listProblems)
  @Post(':id/recipients')
  @HttpCode(200)
  @ApiConsumes(...listTypes)
  @ApiBody({
    required: true,
    schema: {
      type: 'object',
      properties: {
        recipients: {
          type: 'array',
          items: {
            type: 'object',
            required: ['to'],
            properties: { to: { type: 'string' }, variables: { type: 'object', additionalProperties: true } },
          },
        },
      },
      required: ['recipients'],
      examples: [{ recipients: [{ to: '+6281234567890', variables: { name: 'Sari' } }] }],
    },
  })
  async load(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Query() query: LoadQuery,
    @Req() request: Request,
  ): Promise<LoadResponse> {
    const campaign = await this.campaigns.get(workspaceId, id);
    const format = formatOf(request);
    return withoutTurn(() => this.recipients.load(campaign, request, { format, ...query.options }));
  }

  /** Lists the recipients, in the order of the lists. */
  @Allow('viewer')
  @Fails(CampaignNotFound)
  @Paged(RecipientResponse)
  @Get(':id/recipients')
  async listRecipients(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Query() query: ListRecipientsQuery,
  ): Promise<Page<RecipientResponse>> {
    const campaign = await this.campaigns.get(workspaceId, id);
    return toPage(await this.recipients.list(campaign, query), query.limit, toRecipientResponse);
  }

  /** One recipient, and what became of the message. */
  @Allow('viewer')
  @Fails(CampaignNotFound, RecipientNotFound)
  @Get(':id/recipients/:recipientId')
  async getRecipient(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('recipientId', UuidPipe) recipientId: string,
  ): Promise<RecipientResponse> {
    const campaign = await this.campaigns.get(workspaceId, id);
    return toRecipientResponse(await this.recipients.get(campaign, recipientId));
  }

  /** The messages of the first five recipients. */
  @Allow('viewer')
  @Fails(CampaignNotFound)
  @Post(':id/preview')
  @HttpCode(200)
  async preview(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<PreviewResponse> {
    const campaign = await this.campaigns.get(workspaceId, id);
    return { items: await this.recipients.preview(campaign) };
  }

  /**
   * What the campaign will do: how many recipients get the message, who is left out and why, when it ends, what it costs in daily budgets,
   * and what is risky. It changes nothing.
   */
  @Allow('viewer')
  @Fails(CampaignNotFound)
  @Post(':id/preflight')
  @HttpCode(200)
  async preflight(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<PreflightResponse> {
    return this.preflights.preflight(await this.campaigns.get(workspaceId, id));
  }

  /** What became of the messages: the funnel in all, per account and per variant, and the reasons of failures. */
  @Allow('viewer')
  @Fails(CampaignNotFound)
  @Get(':id/stats')
  async stats(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<CampaignStatsResponse> {
    return this.campaigns.stats(workspaceId, id);
  }

  /** Sends the message to one number, for example your own. It counts for nothing in the campaign. */
  @Fails(CampaignNotFound, AccountNotFound, NoAccountReady, MessageLimitReached)
  @Post(':id/test')
  @HttpCode(202)
  async test(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Body() body: TestCampaignDto,
  ): Promise<MessageResponse> {
    return toMessageResponse(await this.campaigns.test(workspaceId, id, body));
  }

  /** Starts a draft, or schedules it if `startAt` is later. */
  @Fails(CampaignNotFound, CampaignStatusConflict, CampaignHasNoRecipients, neverAllowed)
  @Post(':id/start')
  @HttpCode(200)
  async start(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<CampaignResponse> {
    return this.answer(await this.campaigns.start(workspaceId, id));
  }

  /** Pauses a campaign: no further message of it begins to be sent. */
  @Fails(CampaignNotFound, CampaignStatusConflict)
  @Post(':id/pause')
  @HttpCode(200)
  async pause(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<CampaignResponse> {
    return this.answer(await this.campaigns.pause(workspaceId, id));
  }

  /** Goes on with a paused campaign; with `failed` or `all`, also sends failed messages again. */
  @Fails(CampaignNotFound, CampaignStatusConflict, neverAllowed)
  @Post(':id/resume')
  @HttpCode(200)
  async resume(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Body() body: ResumeCampaignDto = new ResumeCampaignDto(),
  ): Promise<CampaignResponse> {
    return this.answer(await this.campaigns.resume(workspaceId, id, body));
  }

  /** Cancels a campaign: whoever has not got the message gets none. */
  @Fails(CampaignNotFound, CampaignStatusConflict)
  @Post(':id/cancel')
  @HttpCode(200)
  async cancel(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<CampaignResponse> {
    return this.answer(await this.campaigns.cancel(workspaceId, id));
  }

  /** All recipients as CSV: the number, the variables, and what became of the message. */
  @Allow('viewer')
  @Fails(CampaignNotFound)
  @Get(':id/report.csv')
  @ApiProduces('text/csv')
  @ApiOkResponse({ description: 'The report.', schema: { type: 'string' } })
  async report(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Res() response: Response,
  ): Promise<void> {
    const campaign = await this.campaigns.get(workspaceId, id);
    await sendCsv(
      response,
      `${campaign.name} report`,
      reportCsv(campaign.columns, this.recipients.report(campaign)),
    );
  }

  /** The invalid lines of the lists as CSV, each with its reason. Correct them, and upload the file. */
  @Allow('viewer')
  @Fails(CampaignNotFound)
  @Get(':id/invalid.csv')
  @ApiProduces('text/csv')
  @ApiOkResponse({ description: 'The invalid lines.', schema: { type: 'string' } })
  async invalid(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Res() response: Response,
  ): Promise<void> {
    const campaign = await this.campaigns.get(workspaceId, id);
    const lines = invalidCsv(campaign.columns, this.recipients.invalidLines(campaign));
    await sendCsv(response, `${campaign.name} invalid`, lines);
  }

  private async answer(campaign: CampaignDetails): Promise<CampaignResponse> {
    return toCampaignResponse(Object.assign(campaign, await this.campaigns.pace(campaign)));
  }
}
