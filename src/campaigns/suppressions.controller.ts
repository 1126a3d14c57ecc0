import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query, Req, Res } from '@nestjs/common';
import { ApiBody, ApiConsumes, ApiOkResponse, ApiProduces } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Fails, Paged } from '../platform/http/documentation.js';
import { withoutTurn } from '../platform/http/fair-share.js';
import { type Page, toPage } from '../platform/http/pagination.js';
import { UuidPipe } from '../platform/http/uuid.pipe.js';
import { Allow, WorkspaceId } from '../workspaces/auth.guard.js';
import { LoadQuery, LoadResponse } from './campaigns.dto.js';
import { formatOf } from './list-upload.js';
import { listProblems, listTypes, sendCsv } from './list-http.js';
import {
  AddSuppressionDto,
  ListSuppressionsQuery,
  SuppressionResponse,
  toSuppressionResponse,
} from './suppressions.dto.js';
import { SuppressionNotFound, SuppressionsService } from './suppressions.service.js';

/** Suppressions: persons who get no campaigns. Replies and direct messages still reach them. */
@Allow('sender')
@Controller('suppressions')
export class SuppressionsController {
  constructor(private readonly suppressions: SuppressionsService) {}

  /** Lists the suppressions, newest first. */
  @Allow('viewer')
  @Paged(SuppressionResponse)
  @Get()
  async list(
    @WorkspaceId() workspaceId: string,
    @Query() query: ListSuppressionsQuery,
  ): Promise<Page<SuppressionResponse>> {
    const rows = await this.suppressions.list(workspaceId, query);
    return toPage(rows, query.limit, (row) => toSuppressionResponse(workspaceId, row));
  }

  /**
   * Suppresses a person for all accounts of the workspace, and cancels the campaign messages that wait for the person. Whoever is
   * suppressed already stays as before.
   */
  @Post()
  @HttpCode(200)
  async add(
    @WorkspaceId() workspaceId: string,
    @Body() body: AddSuppressionDto,
  ): Promise<SuppressionResponse> {
    return toSuppressionResponse(workspaceId, await this.suppressions.add(workspaceId, body));
  }

  /** Lets a person get campaigns again. Messages that were cancelled stay cancelled. */
  @Fails(SuppressionNotFound)
  @Delete(':id')
  @HttpCode(204)
  async remove(@WorkspaceId() workspaceId: string, @Param('id', UuidPipe) id: string): Promise<void> {
    await this.suppressions.remove(workspaceId, id);
  }

  /**
   * Suppresses the persons of a list of any size: JSON, NDJSON (`application/x-ndjson`), CSV (`text/csv`) with a header, or XLSX. The
   * column `reason` is kept. The same list again adds nothing. An import publishes no events.
   */
  @Fails(...listProblems)
  @Post('import')
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
            properties: { to: { type: 'string' }, reason: { type: 'string' } },
          },
        },
      },
      required: ['recipients'],
      examples: [{ recipients: [{ to: '+6281234567890', reason: 'asked by phone' }] }],
    },
  })
  async import(
    @WorkspaceId() workspaceId: string,
    @Query() query: LoadQuery,
    @Req() request: Request,
  ): Promise<LoadResponse> {
    const format = formatOf(request);
    return withoutTurn(() => this.suppressions.import(workspaceId, request, { format, ...query.options }));
  }

  /** All suppressions as CSV. `POST /suppressions/import` takes the file. */
  @Allow('viewer')
  @Get('export.csv')
  @ApiProduces('text/csv')
  @ApiOkResponse({ description: 'The suppressions.', schema: { type: 'string' } })
  async export(@WorkspaceId() workspaceId: string, @Res() response: Response): Promise<void> {
    await sendCsv(response, 'suppressions', this.suppressions.export(workspaceId));
  }
}
