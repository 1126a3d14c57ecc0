import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query } from '@nestjs/common';
import { conversionProblems, fileProblems } from '../media/media-failures.js';
import { MediaNotFound, MediaUnavailable, TooManyUrlDownloads } from '../media/media.service.js';
import { ContentMismatch } from '../messages/content-preparation.js';
import { Fails, Paged } from '../platform/http/documentation.js';
import { LogPageQuery, type Page, PageQuery, toPage } from '../platform/http/pagination.js';
import { UuidPipe } from '../platform/http/uuid.pipe.js';
import { Allow, WorkspaceId } from '../workspaces/auth.guard.js';
import { TemplateNotFound } from './campaign-errors.js';
import { CampaignMessagesService } from './campaign-messages.service.js';
import {
  CreateTemplateDto,
  TemplateResponse,
  TemplateVersionResponse,
  toTemplateResponse,
  toTemplateVersionResponse,
  UpdateTemplateDto,
} from './templates.dto.js';
import { TemplatesService } from './templates.service.js';

const contentProblems = [
  ContentMismatch,
  MediaNotFound,
  MediaUnavailable,
  TooManyUrlDownloads,
  ...fileProblems,
  ...conversionProblems,
];

/** Stored templates: messages for campaigns, with their versions. */
@Allow('sender')
@Controller('templates')
export class TemplatesController {
  constructor(
    private readonly templates: TemplatesService,
    private readonly messages: CampaignMessagesService,
  ) {}

  /** Stores a message. */
  @Fails(...contentProblems)
  @Post()
  async create(
    @WorkspaceId() workspaceId: string,
    @Body() body: CreateTemplateDto,
  ): Promise<TemplateResponse> {
    const message = await this.messages.prepareMessage(workspaceId, body.message);
    return toTemplateResponse(await this.templates.create(workspaceId, body.name, message));
  }

  /** Lists templates, newest first. */
  @Allow('viewer')
  @Paged(TemplateResponse)
  @Get()
  async list(@WorkspaceId() workspaceId: string, @Query() query: PageQuery): Promise<Page<TemplateResponse>> {
    return toPage(await this.templates.list(workspaceId, query), query.limit, toTemplateResponse);
  }

  /** One template, with its newest version. */
  @Allow('viewer')
  @Fails(TemplateNotFound)
  @Get(':id')
  async get(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<TemplateResponse> {
    return toTemplateResponse(await this.templates.get(workspaceId, id));
  }

  /** Changes a template. A message makes a new version; campaigns keep the one that they have. */
  @Fails(TemplateNotFound, ...contentProblems)
  @Patch(':id')
  async update(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Body() { name, message }: UpdateTemplateDto,
  ): Promise<TemplateResponse> {
    const prepared = message && (await this.messages.prepareMessage(workspaceId, message));
    return toTemplateResponse(await this.templates.update(workspaceId, id, { name, message: prepared }));
  }

  /** Deletes a template with its versions. Campaigns keep the text that they have. */
  @Fails(TemplateNotFound)
  @Delete(':id')
  @HttpCode(204)
  async delete(@WorkspaceId() workspaceId: string, @Param('id', UuidPipe) id: string): Promise<void> {
    await this.templates.delete(workspaceId, id);
  }

  /** Lists the versions of a template, newest first. */
  @Allow('viewer')
  @Fails(TemplateNotFound)
  @Paged(TemplateVersionResponse)
  @Get(':id/versions')
  async versions(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Query() query: LogPageQuery,
  ): Promise<Page<TemplateVersionResponse>> {
    return toPage(
      await this.templates.versions(workspaceId, id, query),
      query.limit,
      toTemplateVersionResponse,
    );
  }
}
